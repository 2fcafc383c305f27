"""Exported files give what the network gives, also where llmnas is not installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from llmnas.build import build
from llmnas.errors import InputError, MissingExtra
from llmnas.export import export_job, exported_state, job, model_source, read_graph
from llmnas.graph import ArchGraph, Node
from llmnas.network import Draft
from llmnas.space import load_space

META = {"accuracy": 0.91, "latency": {"device": "cpu", "ms": 0.4, "source": "measured"}, "run": 'a """quoted""" run\\'}
DRIVER = """
import contextlib, importlib.util, io, json, pathlib, runpy, sys
sys.modules["llmnas"] = None  # an import of it fails
sys.dont_write_bytecode = True
import torch
from safetensors.torch import load_file
found = {}
for folder in map(pathlib.Path, sys.argv[1:]):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(folder / "model.py"), run_name="__main__")
    spec = importlib.util.spec_from_file_location(folder.name, folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pair = load_file(folder.parent / (folder.name + ".pair"))
    with torch.inference_mode():
        far = (module.load()(pair["x"]) - pair["y"]).abs().max().item() / max(1.0, pair["y"].abs().max().item())
    found[folder.name] = {"far": far, "printed": printed.getvalue(), "labels": module.predict(pair["images"])}
print(json.dumps(found))
"""


def drawn(space, wanted, shape=None, classes=10):
    """Returns the first sampled graph and network with what is `wanted`."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        graph = space.sample(rng)
        if wanted(graph):
            return graph, space.network(graph, shape, classes)
    raise AssertionError("no such graph")


def mixed(graph):
    """Returns whether a chain has an inverted stage that is repeated, a gate and a stride."""
    inverted = [node for node in graph.nodes if node.op == "inverted" and node.se and (node.depth or 0) > 1]
    return bool(inverted) and sum(node.stride == 2 for node in graph.nodes) > 1 and all(
        (node.channels or 0) <= 64 for node in graph.nodes)


def shallow(graph):
    """Returns whether a chain has few blocks."""
    return sum(node.depth or 0 for node in graph.nodes) < 5


def open_graph():
    """Returns a DAG with attention, concat, a gate, a pool and a node id that is no identifier."""
    return ArchGraph(space="open", output="forward", nodes=(
        Node(id="n0", op="conv_block", inputs=("input",), channels=8, kernel=3, stride=2),
        Node(id="n 1", op="conv", inputs=("n0",), channels=8, kernel=5, stride=1, groups=2),
        Node(id="n2", op="max_pool", inputs=("n0",), kernel=3, stride=1),
        Node(id="type", op="gelu", inputs=("n 1",)),
        Node(id="n4", op="attention", inputs=("type",), heads=2),
        Node(id="n5", op="concat", inputs=("n2", "n4", "n0")),
        Node(id="n6", op="sigmoid", inputs=("n5",)),
        Node(id="n7", op="mul", inputs=("n5", "n6")),
        Node(id="n8", op="se", inputs=("n7",)),
        Node(id="forward", op="norm", inputs=("n8",))))


def cases():
    """Returns graph and network by name."""
    nb201, convnet, free = load_space("nb201"), load_space("convnet"), load_space("open")
    graph = open_graph()
    assert not free.validate(graph, (3, 9, 9), 4)
    cell = drawn(nb201, lambda graph: sum(node.op == "nor_conv_3x3" for node in graph.nodes) > 1, (1, 8, 8))
    skips = nb201.sample(np.random.default_rng(0))
    skips = skips.model_validate(skips.model_dump() | {"nodes": [
        node.model_dump() | {"op": "add" if node.op == "add" else "skip_connect"} for node in skips.nodes]})
    return {"nb201": cell, "nb201_raw": (cell[0], nb201.network(cell[0], (1, 8, 8), 10, raw=True)),
            "nb201_skips": (skips, nb201.network(skips, (3, 7, 7), 3)),
            "convnet": drawn(convnet, mixed, (1, 28, 28)),
            "open": (graph, free.network(graph, (3, 9, 9), 4)),
            "conv1d": drawn(load_space("conv1d"), shallow, (1, 40))}


CASES = cases()


def trained(network, path):
    """Saves weights whose norms have statistics of their own; returns the module."""
    net = build(network, seed=1)
    generator = torch.Generator().manual_seed(2)
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, *network.input_shape, generator=generator))
        for value in net.parameters():
            value.add_(0.01 * torch.randn(value.shape, generator=generator))
    save_file(net.state_dict(), path)
    return net.eval()


def payload(name, directory, weights=None, formats=("torch",)):
    """Returns the argument of a job."""
    graph, network = CASES[name]
    channels = network.input_shape[0]
    return {"network": network.to_data(), "weights": weights and str(weights), "directory": str(directory),
            "formats": list(formats), "graph": json.loads(graph.to_json()),
            "meta": META | {"mean": [120.5] * channels, "std": [3.25] * channels,
                            "class_names": [f"it's {index}" for index in range(network.classes)]}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every case as files, and what a process without llmnas finds in them."""
    base = tmp_path_factory.mktemp("exported")
    results, nets = {}, {}
    for name, (_, network) in CASES.items():
        nets[name] = trained(network, base / f"{name}.weights")
        results[name] = export_job(payload(name, base / name, base / f"{name}.weights"))
        images = torch.randint(0, 256, (5, *network.input_shape), generator=torch.Generator().manual_seed(3))
        x = (images.float() - 120.5) / 3.25
        with torch.inference_mode():
            save_file({"x": x, "y": nets[name](x), "images": images.to(torch.uint8)}, base / f"{name}.pair")
    done = subprocess.run([sys.executable, "-I", "-W", "error", "-c", DRIVER, *(str(base / name) for name in CASES)],
                          capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return base, results, json.loads(done.stdout)


@pytest.mark.parametrize("name", list(CASES))
def test_program_alone_gives_the_same(exported, name):
    """``model.py`` and its weights, without llmnas, give the network's logits and check themselves."""
    base, results, found = exported
    assert results[name]["problems"] == {}
    assert found[name]["far"] <= 1e-5
    assert found[name]["printed"].endswith("ok\n")
    pair = load_file(base / f"{name}.pair")
    assert [label for label, _ in found[name]["labels"]] == [f"it's {i}" for i in pair["y"].argmax(1).tolist()]
    assert all(0 < probability <= 1 for _, probability in found[name]["labels"])


@pytest.mark.parametrize("name", list(CASES))
def test_program_is_readable(exported, name):
    """Lines are short, and repeats are not written out."""
    text = (exported[0] / name / "model.py").read_text()
    code = text.split("def load(")[0].split("CHECK =")[1]
    assert max(map(len, code.splitlines())) <= 120
    assert len(code.splitlines()) < 180
    ast.parse(text)


def test_cells_are_loops():
    """The skeleton of NAS-Bench-201 is three stages of one class."""
    text = model_source(CASES["nb201"][1], meta={})
    assert text.count("class Cell") == 1
    assert "self.stage3 = nn.Sequential(*(Cell(channels=64) for _ in range(5)))" in text
    assert text.count("(nn.Module)") == 3  # cell, reduction, model


def test_residual_blocks():
    """A stage is its first block and a loop over the others; what differs is an argument."""
    draft = Draft((3, 8, 8), node="s1")
    x = draft.conv(-1, 4, 3)
    for _ in range(3):
        x = draft.pointwise(draft.add([draft.norm(draft.conv(x, 4, 3)), x]), "relu")
    draft.node = ""
    draft.linear(draft.global_pool(x), 2)
    text = model_source(draft.finish(), meta={}, ops={"s1": "basic"}, name="Small")
    assert "*(Basic() for _ in range(3))" in text
    assert "        y = self.norm1(self.conv1(x)) + x\n        return F.relu(y)\n" in text
    assert "class Small(nn.Module)" in text


def test_files_carry_their_origin(exported):
    """Graph, weights and program say run, key, accuracy and latency with its source."""
    base, results, _ = exported
    graph, meta = read_graph(base / "open" / "graph.json")
    assert graph == open_graph()
    assert meta["key"] == graph.key()
    assert {key: meta[key] for key in META} == META
    with safe_open(base / "open" / "model.safetensors", "pt") as file:
        header = file.metadata()
    assert header["key"] == graph.key()
    assert json.loads(header["latency"])["source"] == "measured"
    assert set(results["open"]["files"]) == {"graph", "model", "weights"}
    assert sorted(path.name for path in (base / "open").iterdir()) == ["graph.json", "model.py", "model.safetensors"]


def test_weights_keep_their_values():
    """Renaming loses no weight of a layer that is read."""
    network = CASES["convnet"][1]
    state = build(network, seed=0).state_dict()
    renamed = exported_state(network, state)
    assert len(renamed) == len(state)
    assert sum(value.numel() for value in renamed.values()) == sum(value.numel() for value in state.values())


@pytest.mark.parametrize("name", ["convnet", "open"])
def test_pt2_takes_any_batch(tmp_path, name):
    """``model.pt2`` loads and agrees for batches other than the traced one."""
    net = trained(CASES[name][1], tmp_path / "weights")
    result = export_job(payload(name, tmp_path / "out", tmp_path / "weights", ["pt2"]))
    assert result["problems"] == {}
    extra = {"meta.json": ""}
    module = torch.export.load(result["files"]["pt2"], extra_files=extra).module()
    assert json.loads(extra["meta.json"])["accuracy"] == 0.91
    for batch in (1, 7):
        x = torch.randn(batch, *CASES[name][1].input_shape)
        with torch.inference_mode():
            torch.testing.assert_close(module(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
                    reason="the extra llmnas[onnx] is not installed")
@pytest.mark.parametrize("name", ["conv1d", "open"])
def test_onnx_takes_any_batch(tmp_path, capfd, name):
    """``model.onnx`` agrees in onnxruntime, says where it comes from, and its export prints nothing."""
    import onnxruntime

    net = trained(CASES[name][1], tmp_path / "weights")
    result = export_job(payload(name, tmp_path / "out", tmp_path / "weights", ["onnx"]))
    assert result["problems"] == {}
    assert "".join(capfd.readouterr()) == ""
    session = onnxruntime.InferenceSession(result["files"]["onnx"], providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["llmnas.accuracy"] == "0.91"
    x = torch.randn(7, *CASES[name][1].input_shape)
    with torch.inference_mode():
        expected = net(x).numpy()
    np.testing.assert_allclose(session.run(None, {"images": x.numpy()})[0], expected, rtol=1e-4, atol=1e-4)


def test_missing_extra_is_named_and_loses_nothing(tmp_path, monkeypatch):
    """Without the extra, ONNX is a problem that names it; a file of an earlier export does not stay."""
    monkeypatch.setattr("llmnas.errors.importlib.util.find_spec", lambda name: None)
    (tmp_path / "model.onnx").write_text("old")
    result = export_job(payload("open", tmp_path, None, ["onnx", "torch"]))
    assert "llmnas[onnx]" in result["problems"]["onnx"]
    assert set(result["checks"]) == {"torch"}
    assert not (tmp_path / "model.onnx").exists()
    assert issubclass(MissingExtra, Exception)


def test_wrong_output_does_not_count(tmp_path, monkeypatch):
    """A format that computes something else is a problem, and leaves no file."""
    monkeypatch.setattr(job, "exported_state", lambda network, state: {
        key: value * 1.5 for key, value in exported_state(network, state).items()})
    result = export_job(payload("open", tmp_path, None, ["torch"]))
    assert "logits differ" in result["problems"]["torch"]
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"]


def test_no_time_left(tmp_path):
    """A job that is told to stop still writes the graph, and says what is missing."""

    class Over:
        def expired(self):
            return True

    result = export_job(payload("open", tmp_path, None, ["torch", "pt2"]), Over())
    assert set(result["problems"]) == {"torch", "pt2"}
    assert set(result["files"]) == {"graph"}


@pytest.mark.parametrize(("change", "says"), [
    ({"formats": ["tflite"]}, "tflite"), ({"weights": "/nowhere"}, "/nowhere"), ({"graph": {"nodes": 3}}, "graph")])
def test_bad_input(tmp_path, change, says):
    """What cannot be used is said."""
    with pytest.raises(InputError, match=says):
        export_job(payload("open", tmp_path) | change)


def test_bad_preprocessing():
    """Numbers that do not fit the network are refused, and so is a name that is none."""
    network = CASES["open"][1]
    with pytest.raises(InputError, match="3 values of mean"):
        model_source(network, meta={"mean": [1.0]})
    with pytest.raises(InputError, match="class"):
        model_source(network, name="class", meta={})


def test_no_torch_on_import():
    """Importing the package does not import torch."""
    code = "import sys, llmnas.export; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
