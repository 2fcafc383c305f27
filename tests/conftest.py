"""No test reads or writes what a person keeps of their machine."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """Calibrations of these tests, and of the commands they start, are in a folder of their own."""
    before = os.environ.get("LLMNAS_HOME")
    os.environ["LLMNAS_HOME"] = str(tmp_path_factory.mktemp("llmnas-home"))
    yield
    if before is None:
        del os.environ["LLMNAS_HOME"]
    else:
        os.environ["LLMNAS_HOME"] = before
