"""A fake clock, and no configuration from outside."""

import pytest


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def clock(self):
        """Returns the time."""
        return self.now

    def sleep(self, seconds):
        """Moves the time on."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def fake_time():
    """Gives a clock that only sleeping moves."""
    return FakeTime()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No test sees the keys of the person who runs it."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLMNAS_MODEL", "LLMNAS_PRICES", "HTTP_PROXY", "HTTPS_PROXY",
                 "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
