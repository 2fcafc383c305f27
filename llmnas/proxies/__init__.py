"""Zero-cost proxies: scores of an untrained network from a few passes over one batch.

`PROXIES` is the registry; importing a module with `@proxy` functions fills it. `score` builds one network and scores
it, `rank` orders a pool. Torch is imported when something is scored.
"""

from llmnas.proxies import activations, flow, gradients, kernels, signals, size
from llmnas.proxies.base import PROXIES, Evidence, Proxy, ScoreResult, UnscorableError, all_proxies, find_proxy, proxy
from llmnas.proxies.combine import (
    SIZES,
    default_pair,
    default_weights,
    labelled_pool,
    rank,
    ranking,
    weights,
)
from llmnas.proxies.evaluate import nominal_examples, score, score_net
from llmnas.proxies.job import score_job

__all__ = ["PROXIES", "SIZES", "Evidence", "Proxy", "ScoreResult", "UnscorableError", "activations", "all_proxies",
           "default_pair", "default_weights", "find_proxy", "flow", "gradients", "kernels", "labelled_pool",
           "nominal_examples", "proxy", "rank", "ranking", "score", "score_job", "score_net", "signals", "size",
           "weights"]
