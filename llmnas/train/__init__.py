"""Training: a fixed recipe that no proposal can change, run as a job with a deadline (`llmnas.train.trainer.train`).

Importing this package does not import torch.
"""

from llmnas.train.failure import TrainingError
from llmnas.train.payload import METRICS, TrainPayload
from llmnas.train.recipe import Recipe, recipe_for

__all__ = ["METRICS", "Recipe", "TrainPayload", "TrainingError", "recipe_for"]
