"""A realistic run of 40 trials in nb201, built by folding events as the loop writes them."""

import numpy as np
import pytest

from llmnas.budget import rates_for
from llmnas.graph import Issue
from llmnas.records import (
    Asked,
    Called,
    Event,
    Finished,
    Latency,
    Measured,
    Origin,
    Plan,
    Proposal,
    Reflected,
    Rule,
    RunStarted,
    Selected,
    Settings,
    Stopped,
    Told,
    Trained,
    Trial,
    Usage,
    Warned,
)
from llmnas.space.loading import load_space
from llmnas.store import fold
from tests.report.talk import Unreliable, talk

OPERATORS = ("prior", "llm_fresh", "llm_mutate", "mutate", "crossover")
HOSTILE = "<script>alert('x')</script> 3x3 | on the `short` path\x1b[31m & keep it cheap"


class Story:
    """Events one after another, as the loop would write them."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.space = load_space("nb201")
        self.events, self.keys, self.n, self.t = [], {}, 0, 0.0

    def say(self, body, seconds=0.0):
        """Appends an event, `seconds` after the last."""
        self.t += seconds
        self.events.append(Event(seq=len(self.events), t_s=round(self.t, 3), body=body))

    def begin(self, model="gpt-test", **settings):
        """Starts the run."""
        plan = Plan(search_s=1200, final_s=480, wrap_s=60, full_s=0, finalists=0, short_s=40,
                    train_deadline_s=90, batch=8, promote=3,
                    trainings=28, proposals=80, calls=12, rates=rates_for("cpu", 2),
                    train_batch=64, train_steps=17, max_epoch_s=16, proxies=("naswot",))
        self.say(RunStarted(run="2030-01-02T030405-cpu-agent-beef",
                            settings=Settings(**{"space": "nb201", "max_params": 1_500_000, **settings}), plan=plan,
                            task={"name": "digits", "shape": [1, 8, 8], "classes": 10,
                                  "sizes": {"train": 1150, "val": 287, "test": 360}},
                            environment={"python": "3.11.2", "torch": "2.9", "host": "a host", "device": "cpu"},
                            model=model, argv=("llmnas", "run", "--data", "digits", "--budget", "30min")))

    def trial(self, step):
        """Returns a screened, invalid or duplicate trial."""
        self.n += 1
        operator = str(self.rng.choice(OPERATORS)) if self.keys else "prior"
        parents = ()
        if operator in {"llm_mutate", "mutate", "crossover"} and self.keys:
            parents = (str(self.rng.choice(list(self.keys))),)
        repairs = int(self.rng.random() < 0.1)
        by_model = operator.startswith("llm")
        origin = Origin(strategy="agent", operator=operator, step=step, parents=parents, repairs=repairs,
                        prompt="base@1a2b" if by_model else None, call=f"{step}-propose-0" if by_model else None)
        if self.rng.random() < 0.12:
            issue = Issue(code="disconnected", at="output", says="no path", fix="Connect it.")
            return Trial(n=self.n, status="invalid",
                         proposal=Proposal(raw="{", graph=None, issues=(issue,), origin=origin))
        graph = self.space.sample(self.rng)
        key = graph.key()
        proposal = Proposal(graph=graph, origin=origin, rationale=HOSTILE if "llm" in operator else "")
        if key in self.keys:
            return Trial(n=self.n, proposal=proposal, status="duplicate", key=key, duplicate_of=self.keys[key])
        self.keys[key] = self.n
        counts = self.space.network(graph, (1, 8, 8), 10).counts
        ms = 0.2 + counts.macs / 4e6
        return Trial(n=self.n, proposal=proposal, status="screened", key=key, counts=counts,
                     scores={"naswot": float(self.rng.normal(300, 20) + counts.params / 1e4)},
                     latency={"cpu": Latency(ms=ms, low=ms * 0.65, high=ms * 1.5, device="cpu", source="analytic")})

    def step(self, step, size=8, promote=3):
        """Asks, calls, screens and trains once."""
        self.say(Asked(step=step, n=size, seen=len(self.events)), 1)
        self.say(Called(call=f"{step}-propose-0", step=step, role="propose", prompt="base@1a2b", model="gpt-test",
                        mode="json_schema", status="ok", finish="stop",
                        usage=Usage(attempts=1, input_tokens=2100, cached_tokens=0, output_tokens=640,
                                    reasoning_tokens=0, usd=0.0042, seconds=6.5)), 6.5)
        trials = [self.trial(step) for _ in range(size)]
        fresh = [trial for trial in trials if trial.status == "screened"]
        ranked = sorted(fresh, key=lambda trial: -trial.scores["naswot"])
        ranks = {trial.n: rank for rank, trial in enumerate(ranked, 1)}
        trials = [trial.model_copy(update={"rank": ranks.get(trial.n)}) for trial in trials]
        chosen = [trial for trial in trials if trial.rank and trial.rank <= promote]
        self.say(Told(step=step, trials=tuple(trials), promoted=tuple(trial.n for trial in chosen), seconds=2.5), 2.5)
        for trial in chosen:
            self.train(trial)

    def train(self, trial):
        """Trains one, or lets it run into the deadline."""
        if self.rng.random() < 0.06:
            self.say(Measured(n=trial.n, rung="short", failed="timeout", note="took longer than 90 s", seconds=90), 90)
            return
        score = round(float(min(0.985, 0.62 + 0.05 * np.log10(trial.counts.params) + self.rng.normal(0, 0.025))), 4)
        self.say(Measured(n=trial.n, rung="short", seconds=38.5,
                          trained=Trained(metric="accuracy", val_score=score, val_loss=0.4, epochs=4, seconds=38.5,
                                          seed=trial.n, curve=(0.5, score), examples=4600)), 38.5)

    def end(self):
        """Reflects, warns, stops, selects, trains and finishes."""
        state = fold(self.events)
        best = max(state.trained(), key=lambda trial: trial.score)
        ms = best.latency["cpu"].ms
        self.say(Reflected(step=4, call="4-reflect-0", rules=(
            Rule(text="3x3 on the direct edge helps <b>most</b>", supports=(1, 4, 9), contradicts=(12,), step=3),
            Rule(text="pooling never helps", supports=(2,), step=4))))
        self.say(Warned(message="fewer than three rounds fit the budget"))
        self.say(Stopped(reason="budget", says="the search's share of the budget is used up"), 5)
        self.say(Selected(n=best.n, why="the highest search score within the constraints", front=(best.n,)))
        self.say(Measured(n=best.n, seconds=3, latency=Latency(
            ms=ms, low=ms * 0.98, high=ms * 1.03, device="cpu", source="measured", n=50)), 3)
        self.say(Measured(n=best.n, rung="final", seconds=410,
                          trained=Trained(metric="accuracy", val_score=0.9582, val_loss=0.2, test_score=0.9528,
                                          test_loss=0.21, epochs=40, seconds=410, seed=0)), 410)
        self.say(Finished(files={"report": "report.html", "graph": "graph.json"}, seconds=self.t + 3), 3)


def story(steps=5, size=8, promote=3, seed=0, end=True, **settings):
    """Returns the events of a run of `steps` steps."""
    told = Story(seed)
    told.begin(**settings)
    for step in range(steps):
        told.step(step, size, promote)
    if end:
        told.end()
    return told.events


@pytest.fixture(scope="session")
def events():
    """Gives the events of a finished run of 40 trials."""
    return story()


@pytest.fixture
def state(events):
    """Gives the finished run, folded."""
    return fold(events)


@pytest.fixture(scope="session")
def talked(tmp_path_factory):
    """Gives a run of the agent with an unreliable model, and its directory."""
    directory = tmp_path_factory.mktemp("talk") / "run"
    return talk(directory, Unreliable(), 16), directory


@pytest.fixture(scope="session")
def make_story():
    """Gives the maker of other runs."""
    return story
