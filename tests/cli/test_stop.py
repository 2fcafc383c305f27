"""Runs that a person ends, and goes on with."""

import pytest

from llmnas.job import resume, run


@pytest.mark.slow
def test_a_run_ended_by_a_person_goes_on(tmp_path, monkeypatch):
    """With STOP it ends without a test; resumed, it searches on, chooses anew and is trained and tested."""
    folder = tmp_path / "run"
    settings = {"data": "digits", "space": "nb201", "strategy": "random", "budget": "90s", "max_evals": 6, "screen": 0}
    from llmnas import search

    kept = search.Search._take
    def took_one(self, running):
        kept(self, running)
        (folder / "STOP").touch()

    with monkeypatch.context() as patch:
        patch.setattr(search.Search, "_take", took_one)
        first = run(**settings, out=folder)
    assert first.state.stopped.reason == "stop_file"
    assert first.state.spent.evaluations < 6
    assert first.test_score is None
    again = resume(folder)
    assert again.state.stopped.reason in ("budget", "max_evals")
    assert again.state.spent.evaluations > first.state.spent.evaluations
    assert again.test_score is not None
    assert again.state.trial(again.state.selected.n).trained["final"]
