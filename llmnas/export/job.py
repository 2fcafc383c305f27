"""`export_job`: writes the files of one network, each checked against the network it came from."""

from __future__ import annotations

import json
import shutil
import tempfile
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from llmnas.errors import ONNX_PACKAGES, InputError, LlmnasError, need_extra
from llmnas.export.source import exported_state, model_source
from llmnas.graph import ArchGraph
from llmnas.network import Network

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMATS: Final = ("torch", "pt2", "onnx")
FILES: Final = {"torch": ("model.py", "model.safetensors"), "pt2": ("model.pt2",), "onnx": ("model.onnx",)}
TOLERANCE: Final = {"torch": 1e-5, "pt2": 1e-5, "onnx": 1e-4}  # of the largest logit, or of 1 when that is less
_BATCHES: Final = (1, 3, 8)  # none is the batch that was traced


class Stop(Protocol):
    """What a job needs to know of its deadline; the executor's `Stop` is one."""

    def expired(self) -> bool:
        """Returns whether the job should end now."""


def export_job(payload: dict[str, Any], stop: Stop | None = None) -> dict[str, Any]:
    """Writes the exported files of one network: the entry of a child process.

    A file is written beside its place, compared with `llmnas.build.Net` on random input, and only then moved there;
    a format that fails leaves no file, not even one of an earlier export, and does not stop the others.

    Args:
        payload: ``network`` (`Network.to_data`), ``weights`` (safetensors file of the trained `Net`; None exports
            random weights), ``directory``, ``formats`` (of `FORMATS`, all when left out), ``graph`` (JSON of the
            `ArchGraph`), ``meta`` (JSON values for every file: accuracy, latency with device and source, run, key,
            and ``mean``, ``std``, ``class_names`` for preprocessing) and ``name`` (of the class; ``Model``).
        stop: Asked between formats whether to end.

    Returns:
        ``files``: path by kind: graph, model, weights, pt2, onnx. ``checks``: per format the largest absolute
        difference to the network's logits. ``problems``: per format that failed, why.

    Raises:
        InputError: The graph, a format or the weights cannot be used.
    """
    formats = _known(payload.get("formats", FORMATS))
    export = _opened(payload)
    files = {"graph": str(export.write_graph(payload["graph"]))}
    checks: dict[str, float] = {}
    problems: dict[str, str] = {}
    writers: dict[str, Callable[[Path], float]] = {"torch": export.torch, "pt2": export.pt2, "onnx": export.onnx}
    for kind in formats:
        try:
            if stop is not None and stop.expired():
                raise LlmnasError("no time was left to write it")
            checks[kind] = export.checked(kind, writers[kind])
        except Exception as fault:  # noqa: BLE001  exporters fail in many ways, and the other formats are still good
            problems[kind] = str(fault) if isinstance(fault, LlmnasError) else f"{type(fault).__name__}: {fault}"
        else:
            files |= {_KEYS.get(name, kind): str(export.directory / name) for name in FILES[kind]}
    return {"files": files, "checks": checks, "problems": problems}


_KEYS: Final = {"model.py": "model", "model.safetensors": "weights"}


def read_graph(path: Path) -> tuple[ArchGraph, dict[str, Any]]:
    """Returns the graph and the meta block in a ``graph.json``.

    Raises:
        InputError: It cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        meta = value.pop("meta", {})
        return ArchGraph.model_validate(value), meta
    except (OSError, ValueError, AttributeError) as fault:
        raise InputError(f"{path}: cannot be read as a graph: {fault}") from fault


def _known(formats: Any) -> list[str]:
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown:
        raise InputError(f"unknown export format {unknown[0]!r}", "known: " + ", ".join(FORMATS))
    return [kind for kind in FORMATS if kind in formats]


def _opened(payload: Mapping[str, Any]) -> _Export:
    from llmnas.build import build

    network = Network.from_data(payload["network"])
    net = build(network, seed=0)
    if payload.get("weights") is not None:
        _load(net, Path(payload["weights"]))
    directory = Path(payload["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    try:
        graph = ArchGraph.model_validate({key: value for key, value in payload["graph"].items() if key != "meta"})
    except ValueError as fault:
        raise InputError(f"the graph to export is not one: {fault}") from fault
    meta = {"key": graph.key(), "trained": payload.get("weights") is not None, **(payload.get("meta") or {})}
    ops = {node.id: node.op for node in graph.nodes}
    return _Export(network, net.eval(), directory, meta, ops, payload.get("name") or "Model")


def _load(net: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as fault:
        raise InputError(f"{path}: not weights of this network: {fault}") from fault


@dataclass
class _Export:
    """One network on its way to files."""

    network: Network
    net: nn.Module
    directory: Path
    meta: dict[str, Any]
    ops: dict[str, str]
    name: str

    def write_graph(self, graph: Mapping[str, Any]) -> Path:
        """Writes ``graph.json``: the graph as the search used it, with the meta block."""
        path = self.directory / "graph.json"
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps({**graph, "meta": self.meta}, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        return path

    def checked(self, kind: str, writer: Callable[[Path], float]) -> float:
        """Writes one format, and returns its difference to the network when that is small enough.

        Raises:
            LlmnasError: It is not.
        """
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.directory))
        try:
            difference = writer(partial)
        except BaseException:
            for name in FILES[kind]:
                (self.directory / name).unlink(missing_ok=True)
            raise
        else:
            for name in FILES[kind]:
                (partial / name).replace(self.directory / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return difference

    def torch(self, folder: Path) -> float:
        """Writes ``model.py`` and ``model.safetensors``; returns their difference to the network."""
        from safetensors.torch import save_file

        state = exported_state(self.network, self.net.state_dict())
        header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.meta.items()}
        save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors",
                  metadata={"format": "pt", **header})
        (folder / "model.py").write_text(self._source(), encoding="utf-8")
        model = _executed((folder / "model.py").read_text(encoding="utf-8"), folder / "model.py").load()
        return self._compared("torch", model)

    def pt2(self, folder: Path) -> float:
        """Writes ``model.pt2`` with a free batch size; returns its difference to the network."""
        import torch

        from llmnas.build.onnx import example, quiet_exporters

        batch = torch.export.Dim("batch", min=1)
        with quiet_exporters():
            program = torch.export.export(self._twin(), (example(self.network.input_shape, 2),),
                                          dynamic_shapes=({0: batch},))
            torch.export.save(program, folder / "model.pt2", extra_files={"meta.json": json.dumps(self.meta)})
            model = torch.export.load(folder / "model.pt2").module()
        return self._compared("pt2", model)

    def onnx(self, folder: Path) -> float:
        """Writes ``model.onnx`` with a free batch size; returns its difference to the network.

        Raises:
            MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        """
        from llmnas.build.onnx import INPUT, onnx_program, save_onnx

        need_extra("ONNX export", "onnx", *ONNX_PACKAGES)
        import onnxruntime
        import torch

        path = folder / "model.onnx"
        program = onnx_program(self._twin(), self.network.input_shape)
        program.model.metadata_props.update({f"llmnas.{key}": value if isinstance(value, str) else json.dumps(value)
                                             for key, value in self.meta.items()})
        save_onnx(program, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return self._compared("onnx", lambda x: torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0]))

    def _source(self) -> str:
        import torch

        with torch.inference_mode():
            size = torch.Size(self.network.input_shape).numel()
            wave = torch.arange(size, dtype=torch.float64).sin().float().reshape(1, *self.network.input_shape)
            logits = self.net(wave)[0].tolist()
        return model_source(self.network, name=self.name, meta=self.meta, ops=self.ops, check=logits)

    def _twin(self) -> nn.Module:
        """Returns the model of ``model.py``, so that weights have the same names in every file."""
        module = _executed(self._source(), self.directory / "model.py")
        model: nn.Module = getattr(module, self.name)()
        model.load_state_dict(exported_state(self.network, self.net.state_dict()))
        return model.eval()

    def _compared(self, kind: str, model: Callable[[Tensor], Tensor]) -> float:
        """Returns the largest absolute difference of logits over several batch sizes."""
        import torch

        from llmnas.build.onnx import example

        worst = 0.0
        for batch in _BATCHES:
            x = example(self.network.input_shape, batch)
            with torch.inference_mode():
                expected, found = self.net(x), model(x)
            if found.shape != expected.shape:
                raise LlmnasError(f"expected logits {tuple(expected.shape)}, the file gives {tuple(found.shape)}")
            difference = (found - expected).abs().max().item()
            allowed = TOLERANCE[kind] * max(1.0, expected.abs().max().item())
            if not difference <= allowed:  # also when it is not a number
                raise LlmnasError(f"logits differ by {difference:.3g} from the network's, at most {allowed:.3g} is "
                                  "rounding")
            worst = max(worst, difference)
        return worst


def _executed(source: str, path: Path) -> Any:
    """Returns the program as a module, without leaving compiled files beside it."""
    module = types.ModuleType("llmnas_exported")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module
