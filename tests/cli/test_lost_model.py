"""A model that was lost, mended by the person, and a run that goes on."""

import pytest

from llmnas import job
from llmnas.testing.llm_server import LlmServer, unauthorized


@pytest.mark.slow
def test_a_run_whose_model_was_lost_asks_it_again_when_it_is_resumed(tmp_path):
    """Refused for good ends the search with exit code 4; resumed, the same question is asked once more."""
    with LlmServer(script=[unauthorized()]) as server:
        lost = job.run(out=tmp_path / "run", llm="openai:faulty", base_url=server.url, budget="25s", target="gpu:t4",
                       max_evals=2)
        assert (lost.state.stopped.reason, lost.exit_code) == ("llm_failed", 4)
        again = job.resume(tmp_path / "run", budget="40s")
    assert again.state.stopped.reason != "llm_failed"
    assert [call.status for call in again.state.calls][:2] == ["auth", "ok"]
    assert again.state.calls[0].call == again.state.calls[1].call
    assert again.state.trained()
