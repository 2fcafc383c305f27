"""The strategy led by a language model: propose, repair, screen, reflect."""

from llmnas.agent.agent import Agent

__all__ = ["Agent"]
