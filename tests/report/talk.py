"""A run of the agent with an unreliable model, its calls on disk: a real loop, instant trainings, no machine."""

from llmnas.llm import CallFailed, CallRecord
from llmnas.llm.mock import Dials, MockModel
from llmnas.prompts import load_prompt
from llmnas.search import Model
from llmnas.space import load_space
from llmnas.store import read_run
from llmnas.strategies import Setup, load_strategy
from tests.search.loop import InstantEvaluator, Time, open_search, toy_settings

TASK = {"name": "toy", "shape": [1, 8, 8], "classes": 10, "metric": "accuracy",
        "sizes": {"train": 100, "val": 20, "test": 20}}


class Unreliable(MockModel):
    """Invalid, repeated, cut and refused replies, and every ninth call fails."""

    def __init__(self):
        super().__init__(3, Dials(invalid=0.35, duplicate=0.25, truncated=0.1, refused=0.06), clock=lambda: -1e9)
        self.asked = 0

    def chat(self, *args, **options):
        self.asked += 1
        if self.asked % 9 == 4:
            raise CallFailed("the server answered 503 six times", status="server_error")
        return super().chat(*args, **options)


def talk(directory, model, evaluations=12, **options):
    """Runs the agent with `model` until so many evaluations are spent, and returns the state."""
    settings = toy_settings(strategy="agent", max_evals=evaluations, budget_s=1000, **options)
    space, time = load_space(settings.space), Time()
    setup = Setup(space=space, settings=settings, shape=(1, 8, 8), classes=10, targets=("cpu",), task=TASK,
                  model=model, prompts=load_prompt(settings.prompt))

    def save(record):
        record.write(directory / "calls" / f"{record.call}.json")
        return f"calls/{record.call}.json"

    def reply(call):
        path = directory / "calls" / f"{call}.json"
        return CallRecord.read(path) if path.is_file() else None

    store, search = open_search(directory, settings, time=time, evaluator=InstantEvaluator(space, time.pass_),
                                strategy=load_strategy("agent:surrogate=no:operators=no")(setup),
                                model=Model(reply=reply, save=save))
    with store:
        search.run()
    return read_run(directory)
