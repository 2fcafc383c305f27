"""Without known-good designs the mock of a run has none either."""

import pytest

from llmnas.budget import Clock
from llmnas.job import _MainJob
from llmnas.records import Settings
from llmnas.store import RunStore


@pytest.mark.parametrize(("llm", "prior", "name"), [
    ("mock", False, "mock:0:prior=0"), ("mock:2:prior=.5", False, "mock:2:prior=0.5")])
def test_a_run_opens_the_mock_by_its_own_settings(tmp_path, llm, prior, name):
    """What the settings say of known-good designs holds for the mock, unless its own dial was turned."""
    settings = Settings(strategy="agent", llm=llm, prior=prior, budget_s=60)
    with RunStore(tmp_path / "run", create=True) as store:
        job = _MainJob(store, settings, Clock(60), "quiet", None)
        with job.exits:
            assert job.model.name == name
