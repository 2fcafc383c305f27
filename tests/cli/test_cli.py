"""The command line as a person meets it: answers on stdout, one clear line and a code for what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmnas.cli.work import parse_energy, parse_weight
from llmnas.errors import InputError
from llmnas.job import run as llmnas_run
from llmnas.store import read_events

LIGHT = ["--help", "spaces list", "spaces list --json", "spaces show convnet", "spaces show nb201 --json",
         "spaces sample open -n 2", "prompts list", "prompts list --json", "prompts show terse",
         "prompts diff base terse", "prompts diff base anonymous --rendered", "prompts render base:facts=no",
         "prompts render anonymous --role repair --space open --json", "proxies list", "proxies list --json",
         "strategies list", "models list --json", "latency devices", "latency devices --json", "runs list --json"]


def llmnas(*arguments, cwd=None, **environment):
    """Runs the command in a process of its own."""
    clean = {key: value for key, value in os.environ.items()
             if key == "LLMNAS_HOME" or not key.startswith(("OPENAI", "LLMNAS"))}
    return subprocess.run([sys.executable, "-m", "llmnas", *arguments], cwd=cwd, capture_output=True, text=True,
                          env={**clean, **environment}, timeout=60, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One real run of the main job with the mock model, as small as it can be."""
    root = tmp_path_factory.mktemp("cli")
    done = llmnas("run", "--budget", "25s", "--target", "gpu", "--llm", "mock:1", "--out", "runs/one", cwd=root)
    assert done.returncode == 0, done.stderr
    return root, done


def test_the_main_job_ends_in_time_with_everything(finished):
    """`llmnas run` keeps its budget and leaves report, code, weights and card; stdout is the answer."""
    root, done = finished
    best = root / "runs" / "one" / "best"
    assert {"graph.json", "model.py", "model.safetensors", "README.md"} <= {p.name for p in best.iterdir()}
    assert (root / "runs" / "one" / "report.html").stat().st_size < 1_000_000
    assert "test accuracy" in done.stdout
    assert "mock" in done.stdout
    assert "step 0" in done.stderr
    assert "step 0" not in done.stdout


def test_render_is_what_is_sent(finished):
    """From the log up to a step, render prints the messages which that step then sent, letter by letter."""
    run = finished[0] / "runs" / "one"
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    steps = [at for at, line in enumerate(lines) if json.loads(line)["body"]["kind"] == "asked"]
    assert steps
    for step, at in enumerate(steps):
        early = finished[0] / f"early{step}"
        early.mkdir()
        (early / "events.jsonl").write_text("".join(lines[:at + 1]))
        done = llmnas("prompts", "render", "base", "--run", str(early), "--json", cwd=finished[0])
        sent = json.loads((run / "calls" / f"{step:05d}-propose-0.json").read_text())["messages"]
        assert json.loads(done.stdout)["messages"] == sent


def test_test_part_is_read_once(finished):
    """The test part was read exactly once, by the final training."""
    reads = (finished[0] / "runs" / "one" / "data" / "test_reads.txt").read_text().splitlines()
    assert len(reads) == 1
    assert "final training" in reads[0]


def test_exported_model_runs_alone(finished):
    """The exported model.py runs without llmnas."""
    best = finished[0] / "runs" / "one" / "best"
    done = subprocess.run([sys.executable, "-I", "model.py"], cwd=best, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["show latest", "show one --json", "show one 1", "show one 1 --json --no-prompt",
                                     "show one 4", "show one 4 --json", "show one --calls", "show one --calls --json",
                                     "show one --call 00000-propose-0", "show one --call 00000-propose-0 --json",
                                     "report latest", "report one --json", "watch one --progress plain",
                                     "proxies validate latest", "proxies validate one --json",
                                     "prompts render anonymous --run one", "prompts render base --run one --json"])
def test_looking_at_a_run(finished, command):
    """Reading commands answer, with one JSON document where asked."""
    done = llmnas(*command.split(), cwd=finished[0])
    assert done.returncode == 0, done.stderr
    if "--json" in command:
        assert json.loads(done.stdout)["schema"].startswith("llmnas.")


def test_resuming_a_finished_run_changes_nothing(finished):
    """A finished run is not run again."""
    log = finished[0] / "runs" / "one" / "events.jsonl"
    before = log.read_bytes()
    assert llmnas("resume", "one", cwd=finished[0]).returncode == 0
    assert log.read_bytes() == before


def test_a_persons_own_graph(finished):
    """`evaluate` puts a graph of one's own through the same job, for instance the exported one."""
    graph = finished[0] / "runs" / "one" / "best" / "graph.json"
    done = llmnas("evaluate", str(graph), "--target", "gpu", "--budget", "20s", "--out", "runs/two", "--json",
                  cwd=finished[0])
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["body"]["kind"] for e in events][-1] == "finished"
    assert sum(e["body"]["kind"] == "told" for e in events) == 1


@pytest.mark.parametrize("command", LIGHT)
def test_light_commands_never_import_torch_or_openai(command, tmp_path):
    """Commands that only read answer without torch or openai in the process."""
    code = ("import sys\nfrom llmnas.cli import main\n"
            "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
            "assert not {'torch', 'openai'} & set(sys.modules), set(sys.modules) & {'torch', 'openai'}\n")
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=False,
                          cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if "--json" in command:
        assert json.loads(done.stdout)["schema"].startswith("llmnas.")


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["run", "--budget", "soon"], 3, "30min"),
    (["run", "--data", "nowhere.npz"], 3, "nowhere.npz"),
    (["run", "--space", "convnett"], 3, "did you mean 'convnet'"),
    (["run", "--space", "conv1d"], 3, "use --space nb201"),
    (["run", "--strategy", "evolutoin"], 3, "evolution"),
    (["run", "--target", "gpu:t5"], 3, "t4"),
    (["run", "--metric", "acuracy"], 3, "accuracy"),
    (["run", "--llm", "mok"], 3, "mock"),
    (["run", "--prompt", "bse"], 3, "base"),
    (["run", "--prompt", "base:exemplars=99"], 3, "option exemplars"),
    (["bench", "search", "--bench", "conv1d", "--strategy", "agent", "--prompt", "base:fact=no"], 3, "mean 'facts'"),
    (["prompts", "ab", "base"], 3, "needs two prompts"),
    (["prompts", "render", "no_reflection", "--role", "reflect"], 3, "makes no reflect calls"),
    (["run", "--max-params", "many"], 3, "1.5M"),
    (["run", "--target", "cpu", "--target", "cpu"], 3, "are the same: cpu"),
    (["run", "--target", "cpu", "--target", "t4@batch=8", "--max-latency", "t4@bach=8=5ms"], 3, "'t4@batch=8'"),
    (["run", "--max-latency", "5ms", "--max-latency", "cpu=6ms"], 3, "twice for target cpu"),
    (["run", "--max-latency", "5ms", "--max-latency", "6ms"], 3, "twice for the first target"),
    (["run", "--max-latency", "cpu=soon"], 3, "30min"),
    (["run", "--max-energy", "5mJ"], 3, "--max-energy t4=50mJ"),
    (["run", "--target", "t4", "--max-energy", "much"], 3, "0.2J"),
    (["run", "--aim-latency", "5ms", "--aim-weight", "0.07"], 3, "0,-1 (hard)"),
    (["run", "--aim-latency", "5ms", "--min-accuracy", "0.9"], 3, "give one of them"),
    (["run", "--start", "missing.json"], 3, "missing.json"),
    (["run", "--wat"], 2, "--wat"),
    (["latency", "calibrate", "--target", "t4"], 3, "--samples"),
    (["latency", "calibrate", "--samples", "missing.csv"], 3, "missing.csv"),
    (["latency", "check", "--target", "t4"], 3, "llmnas latency calibrate --target t4"),
    (["latency", "predict", "missing.json"], 3, "missing.json"),
    (["latency", "predict"], 3, "nothing to predict"),
    (["show", "nothing"], 6, "runs list"),
    (["show", "nothing", "1", "--calls"], 3, "give one of them"),
    (["resume", "nothing"], 6, "runs list"),
    (["spaces", "validate", "missing.yaml"], 3, "missing.yaml"),
    (["evaluate", "missing.json"], 3, "missing.json"),
])
def test_wrong_input_is_one_clear_line_with_the_fix(arguments, code, says, tmp_path):
    """Wrong input ends with its documented code, names the fault and the way out, and shows no traceback."""
    done = llmnas(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(("text", "mj"), [("5mJ", 5), ("0.2 J", 200), ("300uJ", 0.3), ("7", 7), ("1.5mj", 1.5)])
def test_energies_as_people_write_them(text, mj):
    """Every documented form is read."""
    assert parse_energy(text) == pytest.approx(mj)


@pytest.mark.parametrize("text", ["", "0", "5 watts", "-3mJ", "mJ", "1MJ"])
def test_other_energies_are_refused(text):
    """What is not an energy is refused with the forms that are."""
    with pytest.raises(InputError, match="write 5mJ"):
        parse_energy(text)


def test_weights_of_the_reward():
    """One exponent holds on both sides, two are those up to the aim and above it."""
    assert (parse_weight("-0.07"), parse_weight("0,-1")) == ((-0.07, -0.07), (0, -1))
    for text in ("", "0.07", "-1,-2,-3", "soft", "nan"):
        with pytest.raises(InputError, match="aim-weight"):
            parse_weight(text)


def test_several_targets_in_one_search(tmp_path):
    """One search gives a front, a choice and its energy for every target, by its key, inside the limits of each."""
    result = llmnas_run(budget="25s", target=["gpu", "cpu", "t4@batch=32"], strategy="random", out=tmp_path / "run",
                        max_latency_ms=500, max_latency_on={"cpu": 500}, max_energy_mj=1e6,
                        max_energy_on={"gpu:t4@batch=32": 1e6}, aim_latency_ms=1)
    state, keys = result.state, ("t4", "cpu", "t4@batch=32")
    assert result.test_score is not None
    assert state.targets == keys
    assert (state.settings.max_latency_on, state.settings.max_energy_on) == ({"cpu": 500}, {"t4@batch=32": 1e6})
    assert set(state.selected.fronts) == set(keys)
    assert set(state.selected.choices) == {"cpu", "t4@batch=32"}
    assert state.selected.front == state.selected.fronts["t4"]
    assert result.chosen.n == max(state.trained(), key=lambda trial: (state.merit(trial), -trial.n)).n
    assert set(result.chosen.latency) == set(keys)
    assert set(result.chosen.energy) == {"t4", "t4@batch=32"}
    anew = {event.body.n for event in read_events(tmp_path / "run" / "events.jsonl")
             if event.body.kind == "measured" and event.body.latency is not None}
    assert 0 < len(anew) <= 5
    assert anew <= {trial.n for trial in state.trained()}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["selected"]["fronts"].keys() == set(keys)


def test_an_unreachable_model_is_exit_4(tmp_path):
    """An endpoint that refuses the connection ends with code 4 before anything is spent."""
    done = llmnas("run", "--llm", "openai:none", "--base-url", "http://127.0.0.1:9/v1", "--budget", "20s",
                  "--target", "gpu", "--out", "r", cwd=tmp_path, OPENAI_API_KEY="sk-secret")
    assert done.returncode == 4, done.stderr
    assert "sk-secret" not in done.stderr + done.stdout
    assert not [p for p in (tmp_path / "r").rglob("*") if p.is_file() and b"sk-secret" in p.read_bytes()]


def test_occupied_run_directory_is_exit_6(finished):
    """A run into a folder that holds a run is refused, with the way to continue it."""
    done = llmnas("run", "--out", "runs/one", cwd=finished[0])
    assert done.returncode == 6
    assert "resume" in done.stderr


def test_python_api(tmp_path):
    """The same job from Python, in a script without a main guard."""
    script = tmp_path / "script.py"
    script.write_text("import llmnas\nr = llmnas.run(budget='20s', target='gpu', strategy='random', out='api')\n"
                      "print(r.test_score, r.directory)\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) > 0
    assert Path(tmp_path / "api" / "report.html").is_file()
