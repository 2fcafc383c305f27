"""Rules that can be read off trials by counting: the mean score with a feature against the mean without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

MAX_RULES: Final = 6
_NOT_ATTRIBUTES: Final = frozenset({"id", "op", "inputs"})


def rules_from(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the comparisons with the largest difference, each with the trials for and against it."""
    scored = [trial for trial in trials if isinstance(trial.get("score"), int | float)]
    owners: dict[str, set[int]] = {}
    for index, trial in enumerate(scored):
        for feature in _features(trial):
            owners.setdefault(feature, set()).add(index)
    rules = [rule for feature, have in sorted(owners.items()) if (rule := _rule(feature, have, scored))]
    rules.sort(key=lambda rule: (-abs(rule[0]), rule[1]["text"]))
    return [rule for _, rule in rules[:MAX_RULES]]


def _features(trial: Mapping[str, Any]) -> Iterator[str]:
    for node in trial.get("nodes") or ():
        yield f"{node['op']} at {node['id']}"
        for name, value in node.items():
            if name not in _NOT_ATTRIBUTES and value is not None:
                yield f"{name} {value} at {node['id']}"


def _rule(feature: str, have: set[int], trials: Sequence[Mapping[str, Any]]) -> tuple[float, dict[str, Any]] | None:
    lack = set(range(len(trials))) - have
    if not lack or (len(trials) >= 4 and min(len(have), len(lack)) < 2):
        return None
    scores = [float(trial["score"]) for trial in trials]
    with_it, without = (sum(scores[i] for i in group) / len(group) for group in (have, lack))
    gap = with_it - without
    if gap == 0:
        return None
    word = "higher" if gap > 0 else "lower"
    agree = [i for i in sorted(have) if (scores[i] - without) * gap > 0]
    text = (f"With {feature} the mean score is {word}: {with_it:.4f} (n={len(have)}) against {without:.4f} "
            f"(n={len(lack)}) without.")
    return gap, {"text": text, "supports": [int(trials[i]["trial"]) for i in agree],
                 "contradicts": [int(trials[i]["trial"]) for i in sorted(have - set(agree))]}
