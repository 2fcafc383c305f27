"""Contract suites and a faulty model server, for tests of llmnas and of what other packages add to it.

`StrategyContract`, `ProxyContract`, `SpaceContract` and `ChatModelSuite` are classes of tests to subclass; each names
what it expects in its docstring, and docs/plugins.md shows one of each. They need pytest; the server does not.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

_HOMES: Final = {"StrategyContract": "strategy", "ProxyContract": "proxy", "SpaceContract": "space",
                 "ChatModelSuite": "chat_model"}
__all__ = ["ChatModelSuite", "ProxyContract", "SpaceContract", "StrategyContract"]

if "pytest" in sys.modules:  # so that a failing contract shows its values, wherever it is subclassed
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{home}" for home in _HOMES.values()))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
