"""What a space file says, validated with line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from llmnas.errors import InputError, nearest
from llmnas.graph import ATTRIBUTES, COMBINING, INPUT, ZERO, Frozen
from llmnas.ops import OPS

Values = tuple[int | bool, ...]
Choices = dict[str, dict[str, Values]]  # op -> attribute -> legal values, smallest first


def _strict_values(values: Any) -> Any:
    """Accepts a scalar for a one-value list; order and duplicates are the author's fault, said by the model below."""
    return values if isinstance(values, (list, tuple)) else [values]


def check_choices(choices: Choices) -> Choices:
    """Returns `choices` when every op is known and has exactly the attributes it needs.

    Raises:
        ValueError: With the op, the attribute and the fix.
    """
    for op, attributes in choices.items():
        if op not in OPS:
            raise ValueError(f"unknown op {op!r}; {nearest(op, list(OPS))}")
        needed = set(OPS[op].attributes)
        if missing := sorted(needed - set(attributes)):
            raise ValueError(f"op {op!r} needs values for {', '.join(missing)}")
        if extra := sorted(set(attributes) - needed):
            raise ValueError(f"op {op!r} does not take {', '.join(extra)}; it takes {', '.join(sorted(needed)) or '-'}")
        for name, values in attributes.items():
            _check_values(op, name, values)
    return choices


def _check_values(op: str, name: str, values: Values) -> None:
    kind = bool if name == "se" else int
    if not values or any(type(value) is not kind for value in values):
        raise ValueError(f"{op}.{name} must list at least one {kind.__name__}, got {list(values)}")
    if list(values) != sorted(set(values)):
        raise ValueError(f"{op}.{name} must rise without repeats, got {list(values)}")
    if name != "se" and min(values) < 1:
        raise ValueError(f"{op}.{name} must be at least 1, got {min(values)}")


class Slot(Frozen):
    """One decision of a space with fixed wiring.

    Attributes:
        id: The node's id.
        inputs: Ids it reads.
        choices: Legal ops, each with the legal values of its attributes.
    """

    id: str
    inputs: tuple[str, ...]
    choices: Choices


class CellTopology(Frozen):
    """A cell: a complete DAG over `nodes` states, an op on every edge, states are sums of their edges."""

    nodes: Annotated[int, Field(ge=2, le=8)]
    ops: tuple[str, ...]

    def slots(self) -> tuple[Slot, ...]:
        """Returns one slot per edge, ordered by target and then source; edge u to v is the node ``u>v``."""
        choices: Choices = {op: {} for op in self.ops}
        return tuple(Slot(id=f"{u}>{v}", inputs=self.into(u), choices=choices)
                     for v in range(1, self.nodes) for u in range(v))

    def into(self, state: int) -> tuple[str, ...]:
        """Returns the ids whose sum is `state`."""
        return (INPUT,) if state == 0 else tuple(f"{u}>{state}" for u in range(state))


class Stage(Frozen):
    """One stage of a chain."""

    id: str
    choices: Choices

    _listed = field_validator("choices", mode="before")(
        lambda value: {op: {name: _strict_values(v) for name, v in (attributes or {}).items()}
                       for op, attributes in value.items()} if isinstance(value, dict) else value)
    _legal = field_validator("choices")(check_choices)


class DagTopology(Frozen):
    """A free DAG of typed ops.

    Attributes:
        ops: Legal ops with the legal values of their attributes.
        min_nodes: Least number of nodes.
        max_nodes: Most nodes.
    """

    ops: Choices
    min_nodes: Annotated[int, Field(ge=1)] = 1
    max_nodes: Annotated[int, Field(ge=1, le=64)]

    _listed = field_validator("ops", mode="before")(
        lambda value: {op: {name: _strict_values(v) for name, v in (attributes or {}).items()}
                       for op, attributes in value.items()} if isinstance(value, dict) else value)
    _legal = field_validator("ops")(check_choices)

    @field_validator("ops")
    @classmethod
    def _no_zero(cls, ops: Choices) -> Choices:
        if zero := ZERO & set(ops):
            raise ValueError(f"a free DAG cannot have {sorted(zero)[0]!r}: leave the node out instead")
        return ops


class Skeleton(Frozen):
    """The fixed part of the network around the graph.

    Attributes:
        kind: ``nb201``: stem, stages of equal cells with residual reductions between, head (arXiv 2001.00326, fig. 1).
            ``plain``: the graph reads the input itself; global pool and a linear layer follow.
        channels: Channels after the stem (nb201).
        cells: Cells per stage (nb201).
        stages: Stages, channels doubled and positions halved between them (nb201).
    """

    kind: Literal["nb201", "plain"]
    channels: Annotated[int, Field(ge=1)] = 16
    cells: Annotated[int, Field(ge=1)] = 5
    stages: Annotated[int, Field(ge=1, le=6)] = 3


class SpaceSpec(Frozen):
    """A search space as written in its file.

    Attributes:
        name: Name, as `--space` takes it.
        title: One line.
        why: Why one would search it.
        source: Where it comes from.
        input: Kind of data.
        shape: A usual input shape (channels, positions …), used where no data is at hand.
        classes: A usual number of classes.
        skeleton: The fixed part around the graph.
        cell: Topology of a cell, or
        chain: stages in order, or
        dag: a free DAG. Exactly one of the three.
        max_params: Proposals above are refused, to protect the machine.
        max_macs: Likewise, at the shape of the data.
        gloss: Texts that replace an op's own gloss in prompts.
        rules: Wiring rules for prompts.
        prior: Known-good designs of the author, as lists of nodes; the rest of the prior is made by code.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    why: str
    source: str
    input: Literal["image", "sequence"]
    shape: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)]
    classes: Annotated[int, Field(ge=2)] = 10
    skeleton: Skeleton
    cell: CellTopology | None = None
    chain: tuple[Stage, ...] | None = None
    dag: DagTopology | None = None
    max_params: int | None = None
    max_macs: int | None = None
    gloss: dict[str, str] = Field(default_factory=dict)
    rules: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_topology(self) -> SpaceSpec:
        given = [name for name in ("cell", "chain", "dag") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of cell, chain and dag, got {', '.join(given) or 'none'}")
        if len(self.shape) - 1 != (2 if self.input == "image" else 1):
            raise ValueError(f"an {self.input} has shape {'[C, H, W]' if self.input == 'image' else '[C, L]'}, "
                             f"got {list(self.shape)}")
        if self.skeleton.kind == "nb201" and self.cell is None:
            raise ValueError("skeleton nb201 repeats a cell: give cell, or use skeleton plain")
        self._check_cell()
        self._check_ids()
        return self

    def _check_cell(self) -> None:
        if self.cell is None:
            return
        check_choices({op: {} for op in self.cell.ops})
        if COMBINING & set(self.cell.ops):
            raise ValueError("a cell's states are sums: concat and mul cannot be edge ops")

    def _check_ids(self) -> None:
        ids = [stage.id for stage in self.chain or ()]
        if repeated := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"stage id {repeated[0]!r} is used twice")
        if INPUT in ids:
            raise ValueError("'input' is reserved; give the stage another id")

    def slots(self) -> tuple[Slot, ...]:
        """Returns the decisions of a space with fixed wiring; empty for a free DAG."""
        if self.cell is not None:
            return self.cell.slots()
        sources = (INPUT, *(stage.id for stage in self.chain or ()))
        return tuple(Slot(id=stage.id, inputs=(source,), choices=stage.choices)
                     for stage, source in zip(self.chain or (), sources, strict=False))

    def domains(self) -> Iterator[tuple[str, dict[str, Values]]]:
        """Yields every (op, legal attribute values) that occurs anywhere in the space."""
        if self.dag is not None:
            yield from self.dag.ops.items()
        for slot in self.slots():
            yield from slot.choices.items()


def read_spec(path: Path) -> SpaceSpec:
    """Returns the space a file describes.

    Raises:
        InputError: The file is missing, not YAML, or not a space; the message has file, line and fix.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the space file {path}: {error}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: a space is a mapping with name, title, …; got {type(data).__name__}")
    try:
        return SpaceSpec.model_validate(data)
    except ValidationError as error:
        raise InputError("\n".join(_located(path, root, fault) for fault in error.errors()),
                         "see docs/spaces.md for the format") from None


def _located(path: Path, root: yaml.Node | None, fault: Any) -> str:
    where = ".".join(map(str, fault["loc"])) or "file"
    says = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        says = "unknown field; " + nearest(str(fault["loc"][-1]), _fields(fault["loc"]))
    return f"{path}:{_line(root, fault['loc'])}: {where}: {says}"


def _fields(loc: tuple[str | int, ...]) -> list[str]:
    owners: dict[str, type[Frozen]] = {"skeleton": Skeleton, "cell": CellTopology, "dag": DagTopology, "chain": Stage}
    owner = owners.get(str(loc[0]), SpaceSpec) if len(loc) > 1 else SpaceSpec
    return [name for name in owner.model_fields if not name.startswith("_")] + (
        list(ATTRIBUTES) if owner is Stage else [])


def _line(node: yaml.Node | None, loc: tuple[str | int, ...]) -> int:
    """Returns the 1-based line of the deepest part of `loc` that exists in the file."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
