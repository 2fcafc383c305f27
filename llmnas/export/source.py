"""`model_source`: a network as a readable Python program that needs torch and nothing of llmnas."""

from __future__ import annotations

import json
import keyword
import math
import pprint
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llmnas.errors import InputError
from llmnas.export.parts import ACTIVATIONS, STATEFUL, Piece, Run, externals, prune, split
from llmnas.export.template import ATTENTION, FILE
from llmnas.network import Layer, Network, Shape

Column = tuple[int, ...]  # one number of a block, in every block of its class

_ACTIVATE: Final = {"relu": "F.relu", "silu": "F.silu", "gelu": "F.gelu", "hswish": "F.hardswish",
                    "sigmoid": "torch.sigmoid"}
_PASSED_ON: Final = frozenset({"identity", "flatten", "dropout"})
_RESIDUAL: Final = frozenset({"basic", "bottleneck", "inverted", "fused", "mb3_k3", "mb6_k5"})  # ops made of blocks
_DEPTH: Final = 3  # calls inside each other on one line
_TAKEN: Final = frozenset({"Attention", "F", "Path", "Tensor", "nn", "torch", "x", "self"})


def model_source(network: Network, *, name: str = "Model", meta: Mapping[str, Any],
                 ops: Mapping[str, str] | None = None, check: Sequence[float] | None = None) -> str:
    """Returns the text of ``model.py``: one module per graph node, repeated blocks as classes used in loops.

    Its weights are named by what they belong to; `exported_state` renames those of `llmnas.build.Net`.

    Args:
        network: What the program computes.
        name: Name of its class.
        meta: JSON values shown in the file. ``mean`` and ``std`` (per channel, in the units of the data) and
            ``class_names`` become its preprocessing; without them examples are taken as normalised, classes as numbers.
        ops: The op of each graph node, which names the classes.
        check: The logits of the trained network for ``sin(0), sin(1), …``; the program checks itself against them.

    Raises:
        InputError: `name` is no class name, or the preprocessing does not fit the network.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN:
        raise InputError(f"expected a name for a Python class, got {name!r}")
    layout = _Layout(network, ops or {}, name)
    plain = _json(meta)
    fields = {
        "name": name, "title": _title(network), "meta": _literal(plain), "shape": network.input_shape,
        "parameters": network_parameters(layout.network), "check": _wrapped(_rounded(check or ())),
        "attention": ATTENTION if any(layer.kind == "attention" for layer in network.layers) else "",
        "classes": "".join(layout.class_text(block) for block in layout.blocks), "model": layout.model_text(),
        **_preprocessing(network, plain)}
    return FILE.substitute(fields)


def exported_state(network: Network, state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the weights of `llmnas.build.Net` under the names they have in ``model.py``.

    Weights of layers whose value nobody reads are left out, as those layers are.
    """
    prefixes = _Layout(network, {}, "Model").prefixes()
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        _, index, rest = key.split(".", 2)
        if int(index) in prefixes:
            renamed[f"{prefixes[int(index)]}.{rest}"] = value
    return renamed


def network_parameters(network: Network) -> int:
    """Returns the number of parameters of all layers."""
    return sum(layer.params for layer in network.layers)


def _preprocessing(network: Network, meta: Mapping[str, Any]) -> dict[str, str]:
    channels = network.input_shape[0]
    mean = tuple(meta.get("mean") or (0.0,) * channels)
    std = tuple(meta.get("std") or (1.0,) * channels)
    names = tuple(map(str, meta.get("class_names") or range(network.classes)))
    for what, values, count in (("mean", mean, channels), ("std", std, channels),
                                ("class_names", names, network.classes)):
        if len(values) != count:
            raise InputError(f"expected {count} values of {what}, got {len(values)}")
    return {"mean": repr(mean), "std": repr(std), "class_names": _wrapped(names)}


def _rounded(logits: Sequence[float]) -> tuple[float, ...]:
    """Returns logits as they are printed; none when one is not a number, which no check could be against."""
    return tuple(float(f"{value:.7g}") for value in logits) if all(map(math.isfinite, logits)) else ()


def _wrapped(names: tuple[Any, ...]) -> str:
    """Returns a tuple as text, one value a line when it is long."""
    if len(repr(names)) <= 100:
        return repr(names)
    return "(\n" + "".join(f"    {name!r},\n" for name in names) + ")"


def _json(value: Any) -> Any:
    """Returns JSON values, numbers that JSON does not have as None."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value, default=str))


def _literal(meta: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in meta.items() if key not in {"mean", "std", "class_names"}}
    return pprint.pformat(shown, width=110, sort_dicts=False)


def _title(network: Network) -> str:
    return f"{'x'.join(map(str, network.input_shape))} examples to {network.classes} classes"


def _identifier(text: str) -> str:
    """Returns `text` as the name of an attribute that hides none of ``torch.nn.Module``."""
    word = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_").lower()
    if re.fullmatch(r"[a-z][a-z_]*\d+(_\d+)*|stem|head|out", word):
        return word
    return f"n{word}" if word[:1].isdigit() else f"node_{word}".rstrip("_")


def _unique(wanted: str, taken: set[str]) -> str:
    found, number = wanted, 1
    while found in taken:
        number += 1
        found = f"{wanted}_{number}" if wanted[-1].isdigit() else f"{wanted}{number}"
    taken.add(found)
    return found


# --- the numbers and the structure of a layer --------------------------------------------------------------------


def _numbers(network: Network, index: int) -> dict[str, int]:
    """Returns the numbers that blocks of one class may differ in, by role."""
    layer = network.layers[index]
    width = network.shape_of(layer.inputs[0])[0]
    if layer.kind == "conv":
        return {"c_in": width, "c_out": layer.shape[0], "kernel": layer.kernel, "stride": layer.stride,
                "groups": layer.groups}
    if layer.kind == "linear":
        return {"c_in": width, "c_out": layer.shape[0]}
    if layer.kind == "attention":
        return {"c_in": width, "heads": layer.groups}
    return {"c_in": width} if layer.kind == "norm" else {}


def _structure(network: Network, low: int, high: int) -> tuple[Any, ...]:
    """Returns what the blocks of one class have in common."""
    layers = network.layers[low:high]
    several = len({layer.node for layer in layers}) > 1
    return tuple((layer.kind, tuple(max(source - low, -1) for source in layer.inputs), layer.bias, len(layer.shape),
                  (layer.kernel, layer.stride) if layer.kind.endswith("_pool") else (),
                  layer.node if several else "") for layer in layers)


def _constructor(layer: Layer, dims: int, numbers: Mapping[str, str]) -> str:
    """Returns the expression that makes a layer with weights; numbers may be names."""
    width = numbers["c_in"]
    if layer.kind == "norm":
        return f"nn.BatchNorm{dims}d({width})"
    if layer.kind == "linear":
        return f"nn.Linear({width}, {numbers['c_out']})"
    if layer.kind == "attention":
        return f"Attention({width}, heads={numbers['heads']})"
    kernel = numbers["kernel"]
    padding = str(int(kernel) // 2) if kernel.isdigit() else f"{kernel} // 2"
    options = [("stride", numbers["stride"], "1"), ("padding", padding, "0"), ("groups", numbers["groups"], "1")]
    more = "".join(f", {option}={value}" for option, value, default in options if value != default)
    return f"nn.Conv{dims}d({width}, {numbers['c_out']}, {kernel}{more}{'' if layer.bias else ', bias=False'})"


def _expression(layer: Layer, dims: int, member: str, values: Sequence[str]) -> str:
    """Returns the expression of a layer's value, of the expressions of its inputs."""
    if layer.kind in STATEFUL:
        return f"self.{member}({values[0]})"
    if layer.kind in _ACTIVATE:
        return f"{_ACTIVATE[layer.kind]}({values[0]})"
    if layer.kind == "concat":
        return f"torch.cat(({', '.join(values)}), dim=1)"
    if layer.kind == "add":
        return " + ".join(values)
    grouped = [f"({value})" if _is_sum(value) else value for value in values]
    if layer.kind == "mul":
        return " * ".join(grouped)
    if layer.kind == "zero":
        return f"{grouped[0]} * 0.0"
    if layer.kind == "global_pool":
        return f"{grouped[0]}.mean(dim={tuple(range(2, 2 + dims))}{', keepdim=True' if len(layer.shape) > 1 else ''})"
    return values[0] if layer.kind in _PASSED_ON else _pool(layer, dims, values[0])


def _is_sum(value: str) -> bool:
    """Returns whether an operator stands outside all brackets."""
    depth = 0
    for character in value:
        depth += (character in "([") - (character in ")]")
        if depth == 0 and character == " ":
            return True
    return False


def _pool(layer: Layer, dims: int, value: str) -> str:
    padding = layer.kernel // 2 if layer.kernel % 2 else 0
    more = f", padding={padding}" if padding else ""
    if layer.kind == "avg_pool" and padding:
        more += ", count_include_pad=False"
    return f"F.{layer.kind}{dims}d({value}, {layer.kernel}, stride={layer.stride}{more})"


# --- statements --------------------------------------------------------------------------------------------------


@dataclass
class _Writer:
    """Writes assignments, and uses a variable again once its value has been read for the last time.

    Attributes:
        last_read: The step in which each value is read last.
    """

    last_read: Mapping[int, int]
    lines: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)  # value → variable

    def assign(self, step: int, text: str, wanted: Sequence[str], comment: str = "") -> None:
        """Adds ``variable = text`` for the value of `step`, in the first of the `wanted` variables that is free."""
        busy = {name for value, name in self.names.items() if self.last_read.get(value, -1) > step}
        spare = (f"{wanted[-1]}{number}" for number in range(2, len(busy) + 3))
        name = next(name for name in (*wanted, *spare) if name not in busy)
        self.names = {value: known for value, known in self.names.items() if known != name} | {step: name}
        if name != text:
            self.lines.append(f"{name} = {text}{comment}")


@dataclass
class _Block:
    """A class of the program: blocks of one structure.

    Attributes:
        name: Its name.
        low: First layer of the first such block.
        high: The layer after its last.
        starts: First layer of every such block.
        members: Attribute of each layer with weights, by its place in the block.
        parameters: Per place, the literal or parameter of each number.
        arguments: Per parameter, its value in every block.
    """

    name: str
    low: int
    high: int
    starts: list[int]
    members: dict[int, str] = field(default_factory=dict)
    parameters: dict[int, dict[str, str]] = field(default_factory=dict)
    arguments: dict[str, Column] = field(default_factory=dict)

    def call(self, start: int) -> str:
        """Returns the expression that makes the block at layer `start`."""
        at = self.starts.index(start)
        return f"{self.name}({', '.join(f'{name}={column[at]}' for name, column in self.arguments.items())})"


class _Layout:
    """The program of one network.

    Attributes:
        network: The network without layers nobody reads.
        blocks: Its classes, in order of use.
    """

    def __init__(self, network: Network, ops: Mapping[str, str], name: str) -> None:
        self.network, self._original = prune(network)
        self.runs = split(self.network)
        self.blocks: list[_Block] = []
        self._ops = ops
        self._of: dict[int, _Block] = {}  # first layer → class
        self._classes = {*_TAKEN, name}
        self._find_blocks()
        self.attributes = self._named()

    # classes

    def _find_blocks(self) -> None:
        known: dict[tuple[Any, ...], _Block] = {}
        pieces = (piece for run in self.runs if not run.single for piece in run.pieces)
        for start, end in ((start, start + piece.size) for piece in pieces for start in piece.starts):
            structure = _structure(self.network, start, end)
            if structure not in known:
                known[structure] = _Block(self._class_name(start, end), start, end, [])
            known[structure].starts.append(start)
            self._of[start] = known[structure]
        self.blocks = list(known.values())
        for block in self.blocks:
            self._name_members(block)
            self._find_parameters(block)

    def _class_name(self, low: int, high: int) -> str:
        layers = self.network.layers[low:high]
        nodes = {layer.node for layer in layers}
        kinds = [layer.kind for layer in layers]
        if len(nodes) > 1:
            name = "Cell"
        elif kinds[:2] == ["conv", "norm"] and len(kinds) == 3 and kinds[2] in ACTIVATIONS:
            name = f"ConvNorm{kinds[2].capitalize()}"
        else:
            node = nodes.pop()
            op = self._ops.get(node, "block") if node else "reduction"
            name = "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", op)) or "Block"
            residual = any(layer.kind == "add" and min(layer.inputs) < low for layer in layers)
            if op in _RESIDUAL:  # a block that changes the shape has no plain residual path
                name += ("" if residual else "Entry") + ("SE" if "mul" in kinds else "")
        return _unique(name, self._classes)

    def _name_members(self, block: _Block) -> None:
        layers = self.network.layers[block.low:block.high]
        several = len({layer.node for layer in layers}) > 1
        taken: set[str] = set()
        for place, layer in enumerate(layers):
            if layer.kind not in STATEFUL:
                continue
            if several:
                block.members[place] = _unique(f"{layer.kind}_{_identifier(layer.node)}", taken)
            else:
                count = sum(other.kind == layer.kind for other in layers[:place]) + 1
                block.members[place] = f"{layer.kind}{count}"

    def _find_parameters(self, block: _Block) -> None:
        """Makes a parameter of every number in which the blocks differ, one of those that always go together."""
        size = block.high - block.low
        outer = self._column(block, lambda low: self.network.shape_of(self.network.layers[low].inputs[0])[0])
        inner = self._column(block, lambda low: self.network.layers[low + size - 1].shape[0])
        named: dict[tuple[str, Column], str] = {}
        taken: set[str] = set()
        for place in block.members:
            columns = {role: self._column(block, lambda low, role=role, place=place: _numbers(  # type: ignore[misc]
                self.network, low + place)[role]) for role in _numbers(self.network, block.low + place)}
            for role, column in columns.items():
                if len(set(column)) == 1:
                    text = str(column[0])
                else:
                    kind = role if role in {"kernel", "stride", "heads"} else "width"
                    if (kind, column) not in named:
                        wanted = _role(role, kind, column, outer, inner)
                        named[kind, column] = _unique(wanted, taken)
                        block.arguments[named[kind, column]] = column
                    text = named[kind, column]
                block.parameters.setdefault(place, {})[role] = text

    def _column(self, block: _Block, number: Callable[[int], int]) -> Column:
        return tuple(number(start) for start in block.starts)

    def class_text(self, block: _Block) -> str:
        """Returns the text of a class."""
        dims = self.network.dims
        layers = self.network.layers[block.low:block.high]
        arguments = "".join(f", {name}: int" for name in block.arguments)
        made = [f"self.{member} = {_constructor(layers[place], dims, block.parameters[place])}"
                for place, member in block.members.items()]
        return _class(block.name, self._about(block), arguments, made, self._block_lines(block), "")

    def _about(self, block: _Block) -> str:
        layers = self.network.layers[block.low:block.high]
        nodes = [node for node in dict.fromkeys(layer.node for layer in layers) if node]
        if len(nodes) > 1:
            return f"A cell of {len(nodes)} nodes."
        if not nodes:
            return "Halves the positions and changes the channels."
        op = re.sub(r"[^0-9A-Za-z_]", "", self._ops.get(nodes[0], ""))
        kinds = " ".join(layer.kind for layer in layers)
        return f"{op}: {kinds}." if op and len(kinds) < 90 else f"A block of {op or 'layers'}."

    def _block_lines(self, block: _Block) -> list[str]:
        """Returns the statements of a block's ``forward``."""
        layers = self.network.layers[block.low:block.high]
        reads = [tuple(max(source - block.low, -1) for source in layer.inputs) for layer in layers]
        inlined = _inlined(layers, reads)
        last_read = _last_reads(reads, inlined)
        writer = _Writer(last_read, names={-1: "x"})
        texts: dict[int, str] = {}
        several = len({layer.node for layer in layers}) > 1
        for place, layer in enumerate(layers):
            values = [texts[source] if source in texts else writer.names[source] for source in reads[place]]
            text = _expression(layer, self.network.dims, block.members.get(place, ""), values)
            if place == len(layers) - 1:
                writer.lines.append(f"return {text}")
            elif place in inlined:
                texts[place] = text
            else:
                wanted = [_identifier(layer.node)] if several and layer.node else []
                reused = [writer.names[source] for source in _leaves(place, reads, inlined)
                          if last_read[source] <= place and writer.names[source] != "x"]
                writer.assign(place, text, wanted or [*reused, "y", "z"])
        return writer.lines

    # the model

    def _named(self) -> dict[int, str]:
        """Returns the attribute of every run that has weights, by its first layer."""
        taken: set[str] = set()
        found: dict[int, str] = {}
        named = False  # whether a run with a name has come
        for run in self.runs:
            layers = self.network.layers[run.low:run.high]
            if run.single and layers[0].kind not in STATEFUL:
                continue
            several = len({layer.node for layer in layers}) > 1
            if several or (not run.single and not run.node):
                wanted = f"{'stage' if several else 'reduce'}1"
            elif run.node:
                wanted = _identifier(run.node)
            elif layers[0].kind == "linear":
                wanted = "classifier"
            else:
                wanted = f"{'head' if named else 'stem'}_{layers[0].kind}"
            named = named or not run.single
            found[run.low] = _numbered(wanted, taken)
        return found

    def prefixes(self) -> dict[int, str]:
        """Returns per layer of the original network the prefix of its weights in the program."""
        found: dict[int, str] = {}
        for run in self.runs:
            if run.single:
                if run.low in self.attributes:
                    found[self._original[run.low]] = self.attributes[run.low]
                continue
            starts = [start for piece in run.pieces for start in piece.starts]
            for number, start in enumerate(starts):
                prefix = self.attributes[run.low] + (f".{number}" if len(starts) > 1 else "")
                for place, member in self._of[start].members.items():
                    found[self._original[start + place]] = f"{prefix}.{member}"
        return found

    def model_text(self) -> str:
        """Returns the body of the model's class."""
        made = [line for run in self.runs if run.low in self.attributes for line in self._made(run)]
        return _methods("", made, self._model_lines(), "        super().__init__()\n")

    def _made(self, run: Run) -> list[str]:
        attribute = f"self.{self.attributes[run.low]} = "
        if run.single:
            numbers = {role: str(number) for role, number in _numbers(self.network, run.low).items()}
            return [attribute + _constructor(self.network.layers[run.low], self.network.dims, numbers)]
        calls = [self._calls(piece) for piece in run.pieces]
        if len(calls) == 1 and run.pieces[0].times == 1:
            return [attribute + calls[0]]
        if len(calls) == 1:
            return [f"{attribute}nn.Sequential({calls[0]})"]
        return [f"{attribute}nn.Sequential(", *(f"    {call}," for call in calls), ")"]

    def _calls(self, piece: Piece) -> str:
        call = self._of[piece.low].call(piece.low)
        return call if piece.times == 1 else f"*({call} for _ in range({piece.times}))"

    def _model_lines(self) -> list[str]:
        """Returns the statements of the model's ``forward``; a value goes by the index of the run's last layer."""
        reads = {run.high - 1: externals(self.network, run.low, run.high) for run in self.runs}
        last_read = {source: step for step, sources in reads.items() for source in sources}
        chain = all(sources == [before] for sources, before in zip(reads.values(), [-1, *reads], strict=False))
        writer = _Writer(last_read, names={-1: "x"})
        for run in self.runs:
            step = run.high - 1
            layer = self.network.layers[step]
            if run.single:
                values = [writer.names[source] for source in layer.inputs]
                text = _expression(layer, self.network.dims, self.attributes.get(run.low, ""), values)
            else:
                text = f"self.{self.attributes[run.low]}({writer.names[reads[step][0]]})"
            if run is self.runs[-1]:
                writer.lines.append(f"return {text}{_comment(layer.shape)}")
            else:
                wanted = ["x"] if chain or not run.node else [_identifier(run.node)]
                writer.assign(step, text, wanted, _comment(layer.shape))
        return writer.lines


def _numbered(wanted: str, taken: set[str]) -> str:
    """Returns a name that is free; ``stage1`` is followed by ``stage2``."""
    match = re.fullmatch(r"(stage|reduce)1", wanted)
    if not match:
        return _unique(wanted, taken)
    number = 1
    while f"{match[1]}{number}" in taken:
        number += 1
    taken.add(f"{match[1]}{number}")
    return f"{match[1]}{number}"


def _role(role: str, kind: str, column: Column, outer: Column, inner: Column) -> str:
    if kind != "width":
        return role
    if column == inner:
        return "channels" if inner == outer else "c_out"
    return "c_in" if column == outer else "hidden"


def _comment(shape: Shape) -> str:
    return f"  # ({', '.join(['B', *map(str, shape)])})"


def _inlined(layers: Sequence[Layer], reads: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """Returns the layers written inside the expression of their only reader, with that reader."""
    readers: dict[int, list[int]] = {}
    for place, sources in enumerate(reads):
        for source in sources:
            readers.setdefault(source, []).append(place)
    depth: list[int] = []
    found: dict[int, int] = {}
    for place, sources in enumerate(reads):
        deepest = 0
        for source in sources:
            most = _DEPTH - 1
            if source >= 0 and len(readers[source]) == 1 and layers[source].node == layers[place].node \
                    and depth[source] <= most:
                found[source] = place
                deepest = max(deepest, depth[source])
        depth.append(deepest + 1)
    return found


def _last_reads(reads: Sequence[tuple[int, ...]], inlined: Mapping[int, int]) -> dict[int, int]:
    """Returns the statement in which each value is read last: an inlined reader reads where it is written."""
    last: dict[int, int] = {}
    for reader, sources in enumerate(reads):
        place = reader
        while place in inlined:
            place = inlined[place]
        for source in sources:
            last[source] = max(last.get(source, -1), place)
    return last


def _leaves(place: int, reads: Sequence[tuple[int, ...]], inlined: Mapping[int, int]) -> Iterable[int]:
    """Yields the variables in the expression of a layer."""
    for source in reads[place]:
        if source in inlined:
            yield from _leaves(source, reads, inlined)
        else:
            yield source


def _class(name: str, about: str, arguments: str, made: Sequence[str], lines: Sequence[str], start: str) -> str:
    body = _methods(arguments, made, lines, "        super().__init__()\n" + start)
    return f'class {name}(nn.Module):\n    """{about}"""\n\n{body}\n\n\n'


def _methods(arguments: str, made: Sequence[str], lines: Sequence[str], start: str) -> str:
    built = "".join(f"        {line}\n" for line in made)
    run = "\n".join(f"        {line}" for line in lines)
    made_text = f"    def __init__(self{arguments}) -> None:\n{start}{built}"
    return f"{made_text}\n    def forward(self, x: Tensor) -> Tensor:\n{run}"
