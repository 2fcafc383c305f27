"""A package that somebody else could have written, with one plug-in of each kind, and one that is broken."""

from pathlib import Path

FILES = {
    "theirs/__init__.py": "",
    "theirs/walk.py": '''
"""A strategy that asks a model for a word and mutates what is best."""

from llmnas.strategies.base import proposal


class Walk:
    """Mutations of the best so far."""

    name, waits, uses_model = "walk", False, True

    def __init__(self, setup):
        self.setup, self.best = setup, None

    def ask(self, n, rng, ctx):
        word = self.setup.model.chat([], None, seed=ctx.step).text
        space = self.setup.space
        return [proposal("walk", "step", ctx.step, space.mutate(self.best[1], rng) if self.best else space.sample(rng),
                         rationale=word) for _ in range(n)]

    def tell(self, trials):
        for trial in trials:
            merit = self.setup.merit(trial)
            if merit is not None and (self.best is None or merit > self.best[0]):
                self.best = merit, trial.proposal.graph
''',
    "theirs/head.py": '''
"""A proxy, and beside it one that fails in its own way."""

from llmnas.proxies import proxy


@proxy("head_grad", passes={"backward"}, data="labels", cost=3, validity="only an example", source="none")
def head_grad(evidence):
    """Returns the norm of the last layer's gradient."""
    return float(evidence.loss_grads[-1].norm()) or nothing()


def nothing():
    from llmnas.proxies import UnscorableError

    raise UnscorableError("no gradient reaches the head")


@proxy("clumsy", passes=set(), data="none", cost=0, validity="never works", source="none")
def clumsy(evidence):
    """Returns nothing, because it fails."""
    return {}["no such key"]
''',
    "theirs/space.py": '''
"""A space beside its file."""

from pathlib import Path

FILE = Path(__file__).with_name("small.yaml")
''',
    "theirs/small.yaml": '''
name: small
title: Two small convolutions
why: An example of a space that another package brings.
source: none
input: image
shape: [1, 8, 8]
classes: 10
skeleton: {kind: plain}
chain:
  - {id: a, choices: {conv_block: {channels: [4, 6, 8, 12], kernel: [1, 3, 5], stride: 1}}}
  - {id: b, choices: {conv_block: {channels: [4, 6, 8, 12], kernel: [1, 3, 5], stride: 1}}}
''',
    "theirs/parrot.py": '''
"""A model that says what it was made with."""

from llmnas.llm.base import Reply
from llmnas.records import Usage


class Parrot:
    """Repeats one word."""

    offline, instant, reason, priced = True, True, "", True

    def __init__(self, word):
        if word == "silence":
            raise ValueError("a parrot needs a word")
        self.word, self.name = word or "hello", f"parrot:{word}"

    def chat(self, messages, schema, seed, deadline=None):
        return Reply(text=self.word, usage=Usage(attempts=1), finish="stop", mode="parrot", model=self.name)

    def take_notices(self):
        return ()

    def close(self):
        pass
''',
    "theirs/fails.py": "raise RuntimeError('this module\\nnever loads')\n",
    "theirs/leaves.py": "raise SystemExit(3)\n",
    "theirs-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n",
    "theirs-1.2.dist-info/entry_points.txt": """
[llmnas.strategies]
walk = theirs.walk:Walk
random = theirs.walk:Walk
fails = theirs.fails:Strategy
leaves = theirs.leaves:Strategy
[llmnas.proxies]
head_grad = theirs.head:head_grad
clumsy = theirs.head:clumsy
missing = theirs.nowhere:proxy
other_name = theirs.head:head_grad
[llmnas.spaces]
small = theirs.space:FILE
tiny = theirs.space:FILE
number = theirs.walk:__name__
[llmnas.models]
parrot = theirs.parrot:Parrot
mute = theirs.parrot:Nobody
""",
    "test_theirs.py": '''
from dataclasses import replace

import pytest

from llmnas.llm import open_model
from llmnas.strategies import load_strategy
from llmnas.testing import ChatModelSuite, ProxyContract, SpaceContract, StrategyContract


class TestWalk(StrategyContract):
    def make(self, setup):
        return load_strategy("walk")(replace(setup, model=open_model("parrot:hi")))


class TestHeadGrad(ProxyContract):
    name = "head_grad"


class TestSmall(SpaceContract):
    name, designs = "small", 4


class TestParrot(ChatModelSuite):
    @pytest.fixture
    def model(self):
        return open_model("theirs.parrot:Parrot:hi")
''',
}


def write(root: Path) -> Path:
    """Writes the package below a folder, as an installer would leave it, and returns the folder."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
