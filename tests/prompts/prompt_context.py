"""What the agent gives to a template."""

NODES = [{"id": "0>1", "op": "nor_conv_3x3", "inputs": ["input"]},
         {"id": "0>2", "op": "skip_connect", "inputs": ["input"]},
         {"id": "1>2", "op": "nor_conv_1x1", "inputs": ["0>1"]}, {"id": "out", "op": "add", "inputs": ["0>2", "1>2"]}]
CHOICES = {"none": {}, "skip_connect": {}, "nor_conv_1x1": {}, "nor_conv_3x3": {}}
TIMED = {"cpu": 1.25, "t4@batch=32": None}
FACTS = [{"trial": 7, "score": 0.912, "params": 12345, "macs": 1000000, "latency_ms": TIMED,
          "layers": [
    {"id": "0>1", "shape": [16, 8, 8], "params_share": 0.6251, "latency_share": 0.5},
    {"id": "1>2", "shape": [16, 8, 8], "params_share": 0.1, "latency_share": None}]}]


def context(role, **more):
    """Returns what the agent gives to a template."""
    block = {"role": role, "space": "tiny", "count": 2, "topology": "slots",
             "slots": [{"id": node["id"], "inputs": node["inputs"], "choices": CHOICES} for node in NODES[:3]],
             "fixed": NODES[3:], "output": "out", "limits": {"max_params": None, "max_latency_ms": {"cpu": 5.0}},
             "objective": "val accuracy up, latency_ms down",
             "exemplars": [{"trial": 7, "nodes": NODES, "output": "out", "score": 0.912, "params": 12345,
                            "macs": 1000000, "latency_ms": TIMED}], "rules": ["Keep the shortcut."]}
    invalid = [{"proposal": {"rationale": "", "nodes": [{**NODES[0], "op": "conv"}], "output": "out"}, "issues": [
        {"at": "nodes[0].op", "says": "the space has no op 'conv'", "fix": "Use one of: none, skip_connect."}]}]
    trials = [{"trial": n, "nodes": NODES, "score": 0.9 + n / 100, "params": 12345,
               "latency_ms": {"cpu": 1.25}} for n in (1, 2)]
    block |= {"invalid": invalid} if role == "repair" else {"trials": trials} if role == "reflect" else {}
    return {
        "block": block, "count": 2, "niche": "params from 10,000 to 20,000", "operator": "llm_mutate",
        "remark": "diminishing returns", "invalid": invalid, "trials": trials,
        "task": {"name": "digits", "shape": [1, 8, 8], "classes": 10, "train": 1078, "metric": "accuracy"},
        "space": {"name": "tiny", "title": "a cell of three edges", "about": "Every edge carries one op.",
                  "ops": {"none": "passes nothing on", "skip_connect": "passes its input on",
                          "nor_conv_1x1": "ReLU, 1×1 convolution, batch norm",
                          "nor_conv_3x3": "ReLU, 3×3 convolution, batch norm"},
                  "rules": ["Each edge has exactly one op."]},
        "facts": FACTS, "limits": ["Latency of one batch on cpu: at most 5.0 ms."],
        "rules": [{"text": "With skip_connect at 0>2 the mean score is higher.", "supports": [1, 7],
                   "contradicts": [2]}],
        "failures": [{"code": "unknown_op", "count": 3, "fix": "Use one of the ops of the space."}], **more}


def bare(role):
    """Returns the least a template can be given: a first round without history."""
    return context(role, niche=None, operator="llm_fresh", remark=None, facts=[], limits=[], rules=[], failures=[])
