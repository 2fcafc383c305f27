"""NAS-Bench-201 networks (arXiv 2001.00326, section 2.1), written out for golden tests."""

from llmnas.network import Draft, Network


def cell_network(ops: str, classes: int = 10, cells: int = 5, width: int = 16, size: int = 32) -> Network:
    """Returns the network of a cell, six digits in the order 0>1 0>2 1>2 0>3 1>3 2>3.

    Digits: 0 none, 1 skip, 2 conv 1x1, 3 conv 3x3, 4 average pool 3x3.
    """
    draft = Draft((3, size, size))
    x = draft.norm(draft.conv(-1, width, 3))
    for stage in range(3):
        if stage:
            x = _residual(draft, x, width << stage)
        for _ in range(cells):
            x = _cell(draft, x, ops, width << stage)
    x = draft.pointwise(draft.norm(x), "relu")
    draft.linear(draft.global_pool(x), classes)
    return draft.finish()


def _cell(draft: Draft, x: int, ops: str, width: int) -> int:
    values, edges = [x], iter(ops)
    for node in range(1, 4):
        values.append(draft.add([_edge(draft, values[source], next(edges), width) for source in range(node)]))
    return values[-1]


def _edge(draft: Draft, x: int, op: str, width: int) -> int:
    if op == "0":
        return draft.pointwise(x, "zero")
    if op == "1":
        return x
    if op == "4":
        return draft.pool(x, "avg_pool", 3)
    return draft.norm(draft.conv(draft.pointwise(x, "relu"), width, 1 if op == "2" else 3))


def _residual(draft: Draft, x: int, width: int) -> int:
    first = draft.norm(draft.conv(draft.pointwise(x, "relu"), width, 3, stride=2))
    second = draft.norm(draft.conv(draft.pointwise(first, "relu"), width, 3))
    return draft.add([second, draft.conv(draft.pool(x, "avg_pool", 2, 2), width)])
