"""Blocks of the three kinds, as prompts carry them."""

import json

from llmnas.llm import Message

OPS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def cell_block(**more):
    """Returns the block of the six-edge cell."""
    slots = [{"id": f"{a}>{b}", "inputs": ["input"] if a == 0 else [f"{c}>{a}" for c in range(a)],
              "choices": {op: {} for op in OPS}} for a, b in EDGES]
    return {"role": "propose", "space": "nb201", "count": 4, "topology": "slots", "slots": slots,
            "fixed": [{"id": "out", "op": "add", "inputs": ["0>3", "1>3", "2>3"]}], "output": "out",
            "limits": {"max_params": None}, "objective": "accuracy up", "exemplars": [], "rules": [], **more}


def chain_block(**more):
    """Returns the block of a chain of stages."""
    kinds = {"inverted": {"channels": [8, 16, 24], "depth": [1, 2], "kernel": [3, 5, 7], "stride": [1, 2],
                          "expand": [2, 4, 6], "se": [False, True]},
             "basic": {"channels": [16, 24, 32], "depth": [1, 2, 3], "kernel": [3], "stride": [1, 2],
                       "se": [False, True]}}
    slots = [{"id": "stem", "inputs": ["input"], "choices": {"stem": {"channels": [8, 16], "kernel": [3, 5],
                                                                     "stride": [1, 2]}}}]
    slots = [slots[0], *({"id": f"s{i}", "inputs": ["stem" if i == 1 else f"s{i - 1}"], "choices": kinds}
                         for i in (1, 2, 3))]
    return {"role": "propose", "space": "convnet", "count": 6, "topology": "slots", "slots": slots, "fixed": [],
            "output": "s3", "limits": {}, "objective": "accuracy up", "exemplars": [], "rules": [], **more}


def dag_block(**more):
    """Returns the block of an open graph."""
    one = [1, 1]
    ops = {"conv": {"inputs": one, "attributes": {"channels": [8, 16, 32, 64], "kernel": [1, 3, 5], "stride": [1, 2],
                                                  "groups": [1, 2]}},
           "dwconv": {"inputs": one, "attributes": {"kernel": [3, 5], "stride": [1, 2]}},
           "norm": {"inputs": one, "attributes": {}}, "relu": {"inputs": one, "attributes": {}},
           "add": {"inputs": [2, 4], "attributes": {}},
           "max_pool": {"inputs": one, "attributes": {"kernel": [2, 3], "stride": [1, 2]}}}
    return {"role": "propose", "space": "open", "count": 6, "topology": "dag", "ops": ops, "max_nodes": 24,
            "min_nodes": 3, "limits": {}, "objective": "accuracy up", "exemplars": [], "rules": [], **more}


def prompt(block):
    """Returns messages that hold `block`."""
    return [Message(role="system", content="You design networks."),
            Message(role="user", content=f"Do it.\n```json\n{json.dumps(block)}\n```\nThanks.")]
