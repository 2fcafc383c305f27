"""Supernets: one set of weights for all architectures of a space, trained as jobs with a deadline.

`llmnas.supernet.differentiable` learns the architecture with the weights (DARTS), `llmnas.supernet.sampling` trains the
weights alone for paths drawn at random, `llmnas.supernet.scoring` scores single paths with them. Importing this package
does not import torch.
"""

from llmnas.supernet.payload import DartsPayload, PathsPayload, ScorePayload, SupernetPayload
from llmnas.supernet.places import Place, nominal_epoch_s, places

__all__ = ["DartsPayload", "PathsPayload", "Place", "ScorePayload", "SupernetPayload", "nominal_epoch_s", "places"]
