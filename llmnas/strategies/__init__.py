"""Search strategies: the protocol, the names, and the classical algorithms, one file each."""

from llmnas.strategies.base import STRATEGIES, Context, Setup, Strategy, load_strategy

__all__ = ["STRATEGIES", "Context", "Setup", "Strategy", "load_strategy"]
