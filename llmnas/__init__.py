"""llmnas: architecture search led by a language model, inside a time budget that it keeps.

>>> import llmnas
>>> result = llmnas.run(data="digits", budget="2min", target="gpu")
>>> result.test_score, result.chosen.proposal.graph

`run` and `resume` are the main job; the command line is the same with words. Everything else is imported from its
module: `llmnas.space` (search spaces), `llmnas.graph` (architectures as data), `llmnas.strategies` (the protocol),
`llmnas.proxies`, `llmnas.latency`, `llmnas.testing` (contracts for your own strategies, spaces, proxies and models).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmnas.job import Result, resume, run

__all__ = ["Result", "resume", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the main job when it is first used, so that ``import llmnas`` costs nothing."""
    if name in __all__:
        from llmnas import job

        return getattr(job, name)
    raise AttributeError(f"module 'llmnas' has no attribute {name!r}")
