"""From a graph and its space's skeleton to the network that is counted, timed, built and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmnas.graph import COMBINING, INPUT, ZERO, ArchGraph
from llmnas.network import Draft, Network, Shape, ShapeFault
from llmnas.ops import OPS
from llmnas.space.spec import Skeleton

WEIGHTED: Final = frozenset({"conv", "linear", "attention"})


def lower(graph: ArchGraph, skeleton: Skeleton, shape: Shape, classes: int, raw: bool = False) -> Network:
    """Returns the network of `graph`.

    Args:
        graph: A valid graph.
        skeleton: The fixed part around it.
        shape: Shape of one example.
        classes: Number of logits.
        raw: Keep dead branches. They are left out otherwise, because they compute nothing, so that graphs with one
            key have equal parameters, MACs and latency. NAS-Bench-201 counts them: its table needs ``raw=True``.

    Raises:
        ShapeFault: An op cannot take the shape it gets, or nothing reaches the output.
    """
    if not raw:
        graph = graph.live()
        if graph.output not in graph.by_id:
            raise ShapeFault("disconnected", "output", "no path leads from the input to the output",
                             "Connect the input to the output through at least one op that is not 'none'.")
    draft = Draft(tuple(shape))
    x = _nb201(draft, graph, skeleton) if skeleton.kind == "nb201" else _place(draft, graph, -1, blocks=True)
    draft.node = ""
    draft.linear(draft.global_pool(x), classes)
    return draft.finish()


def _place(draft: Draft, graph: ArchGraph, source: int, blocks: bool = False) -> int:
    """Adds the layers of `graph` reading layer `source`; returns the index of its output.

    With `blocks`, a block ends wherever all later nodes depend on one node alone, and where a repeated block ends.
    """
    values: dict[str, int] = {INPUT: source}
    cuts = cut_nodes(graph) if blocks else frozenset()
    for node in graph.order:
        draft.node = node.id
        op = OPS[node.op]
        sources = [values[name] for name in node.inputs]
        if node.op not in COMBINING and len(sources) > 1:
            sources = [draft.add(sources)]
        ended = len(draft.blocks)
        values[node.id] = op.lower(draft, sources, node)
        if node.id in cuts:
            _end_block(draft, values[node.id])
        else:
            del draft.blocks[ended:]  # repeats beside another branch
    return values[graph.output]


def _end_block(draft: Draft, x: int) -> None:
    """Ends a block at layer `x`; layers without weights since the last end belong to the block before."""
    since = draft.blocks[-1] if draft.blocks else -1
    if since >= 0 and not any(layer.kind in WEIGHTED for layer in draft.layers[since + 1:x + 1]):
        draft.blocks.pop()
    draft.end_block(x)


def cut_nodes(graph: ArchGraph) -> frozenset[str]:
    """Returns the nodes through which every path from earlier nodes to the output leads."""
    place = {node.id: i for i, node in enumerate(graph.order)}
    readers = {node.id: [place[other.id] for other in graph.order if node.id in other.inputs] for node in graph.order}
    reach = max((place[node.id] for node in graph.order if INPUT in node.inputs), default=-1)
    cuts = []
    for i, node in enumerate(graph.order):  # reach: the last reader of the input or of an earlier node
        if reach <= i:
            cuts.append(node.id)
        reach = max(reach, *readers[node.id], -1)
    return frozenset(cuts)


def _nb201(draft: Draft, graph: ArchGraph, skeleton: Skeleton) -> int:
    """The NAS-Bench-201 macro skeleton: stem, stages of cells, residual reduction blocks, BN-ReLU before the head."""
    x = draft.end_block(draft.norm(draft.conv(-1, skeleton.channels, 3)))
    for stage in range(skeleton.stages):
        if stage:
            draft.node = ""
            x = draft.end_block(_reduction(draft, x, skeleton.channels * 2**stage))
        for _ in range(skeleton.cells):
            x = draft.end_block(_place(draft, graph, x))
    draft.node = ""
    return draft.pointwise(draft.norm(x), "relu")


def _reduction(draft: Draft, x: int, channels: int) -> int:
    y = draft.norm(draft.conv(draft.pointwise(x, "relu"), channels, 3, stride=2))
    y = draft.norm(draft.conv(draft.pointwise(y, "relu"), channels, 3))
    size = draft.shape(x)[1]
    # A map of odd size halves to its ceiling by convolution; a pool of size 1 is the identity (size 1 stays 1).
    shortcut = x if size == 1 else draft.pool(x, "avg_pool", 2 if size % 2 == 0 else 3, 2)
    return draft.add([y, draft.conv(shortcut, channels, 1)])


def dead_free_string(graph: ArchGraph, ids: Sequence[str]) -> tuple[str, ...]:
    """Returns the op of each id, ``none`` where the op is dead: NAS-Bench-201's effective cell."""
    live = {node.id for node in graph.live().nodes}
    zero = next(iter(ZERO))
    return tuple(graph.by_id[name].op if name in live else zero for name in ids)
