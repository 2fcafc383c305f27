"""The strategy led by a language model: propose, repair, screen, reflect; and its controls."""

from llmnas.agent.agent import Agent
from llmnas.agent.controls import BestOfN, NoModel, Shuffled

__all__ = ["Agent", "BestOfN", "NoModel", "Shuffled"]
