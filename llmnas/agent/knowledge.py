"""The knowledge base: rules the model writes, checked against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llmnas.records import Rule, Trial

MAX_RULES: Final = 10
MAX_CHARS: Final = 300

RULES_SCHEMA: Final[dict[str, Any]] = {
    "type": "object", "additionalProperties": False, "required": ["rules"], "properties": {
        "rules": {"type": "array", "items": {
            "type": "object", "additionalProperties": False, "required": ["text", "supports", "contradicts"],
            "properties": {"text": {"type": "string"},
                           "supports": {"type": "array", "items": {"type": "integer"}},
                           "contradicts": {"type": "array", "items": {"type": "integer"}}}}}}}


LASTS: Final = 12
"""Steps after which a rule that was not confirmed is dropped."""
HITS: Final = 0.5
"""Least share of the cited trials that must support a rule."""


def standing(rules: Sequence[Rule], step: int) -> list[Rule]:
    """Returns the rules that may be shown: confirmed not long ago, and with more for than against them."""
    return [rule for rule in rules if step - rule.step <= LASTS and rule.hit_rate >= HITS]


def read_rules(value: Any, trials: Sequence[Trial], step: int) -> list[Rule]:
    """Returns the rules in a reply: well-formed, short, and citing trained trials only. Never raises.

    A rule that cites no trained trial in its support is dropped: nothing measured stands behind it.
    """
    trained = {trial.n for trial in trials if trial.score is not None}
    listed = value.get("rules") if isinstance(value, dict) else None
    rules = [rule for item in (listed if isinstance(listed, list) else []) if (rule := _rule(item, trained, step))]
    return rules[:MAX_RULES]


def _rule(item: Any, trained: set[int], step: int) -> Rule | None:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return None
    supports = _cited(item.get("supports"), trained)
    contradicts = _cited(item.get("contradicts"), trained)
    text = " ".join(item["text"].split())
    if not supports or not text or len(text) > MAX_CHARS:
        return None
    return Rule(text=text, supports=supports, contradicts=contradicts, step=step)


def _cited(numbers: Any, trained: set[int]) -> tuple[int, ...]:
    listed = numbers if isinstance(numbers, list) else []
    return tuple(dict.fromkeys(n for n in listed if isinstance(n, int) and not isinstance(n, bool) and n in trained))
