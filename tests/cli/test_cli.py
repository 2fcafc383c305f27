"""The command line as a person meets it: answers on stdout, one clear line and a code for what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = ["--help", "spaces list", "spaces list --json", "spaces show convnet", "spaces show nb201 --json",
         "spaces sample open -n 2", "prompts list", "prompts list --json", "prompts show terse",
         "prompts diff base terse", "proxies list", "proxies list --json", "latency devices", "latency devices --json",
         "runs list --json"]


def llmnas(*arguments, cwd=None, **environment):
    """Runs the command in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI", "LLMNAS"))}
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


@pytest.mark.parametrize("command", ["show latest", "show one --json", "show one 1", "show one 1 --json --prompt",
                                     "show one 4 --prompt", "report latest", "watch one --progress plain",
                                     "proxies validate latest", "proxies validate one --json"])
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
    (["run", "--max-params", "many"], 3, "1.5M"),
    (["run", "--start", "missing.json"], 3, "missing.json"),
    (["run", "--wat"], 2, "--wat"),
    (["show", "nothing"], 6, "runs list"),
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
