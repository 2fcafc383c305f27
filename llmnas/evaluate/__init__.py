"""Evaluating proposals: screening without training, then short, full and final trainings."""

from llmnas.evaluate.base import Evaluator, Ordered, Running, Screened
from llmnas.evaluate.rungs import Rungs

__all__ = ["Evaluator", "Ordered", "Rungs", "Running", "Screened"]
