"""Names that say nothing: what an op does can then be learnt from measured figures alone, not remembered.

A disguise swaps every true name with its code, ``nor_conv_3x3`` with ``op_c``, in everything a model is shown, and
swaps back in everything it answers. The swap is its own inverse, so nothing is lost on the way there and back; and a
model that writes a true name from memory has named a code, which is no op of the space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from llmnas.graph import ATTRIBUTES
from llmnas.llm.block import OP_CODE
from llmnas.ops import OPS
from llmnas.records import Disguised
from llmnas.space import Space
from llmnas.strategies.base import Context

ABOUT: Final = "What an op or an attribute does shows in the measured figures only."
GLOSS: Final = "hidden"
SPACE_CODE: Final = "space_a"
TITLE: Final = "all names are codes"
_STREAM: Final = 0xD15  # keeps this shuffle apart from all other draws of a run's seed
_CODE: Final = re.compile(r"(?:op|attr)_[a-z]+")
_LISTED: Final = re.compile(rf"{OP_CODE}(?:, {OP_CODE})+")
_STRUCTURE: Final = frozenset({
    "role", "count", "space", "slots", "fixed", "ops", "op", "id", "inputs", "output", "nodes", "input", "limits",
    "objective", "exemplars", "rules", "trials", "trial", "invalid", "proposals", "proposal", "rationale", "score",
    "params", "macs", "task", "name"})
"""Words of the form of prompts and replies, which a space may be called like."""


class Disguise:
    """Swaps true names and codes.

    Args:
        names: True name → code, one to one; none of them for a disguise that changes nothing.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._swap = self.names | {code: name for name, code in names.items()}
        # In JSON text a name may stand right behind an escaped line break, which ends in a letter.
        words = "|".join(re.escape(word) for word in sorted(self._swap, key=len, reverse=True))
        self._words = re.compile(rf"(?:(?<=\\[nrtbf])|(?<![A-Za-z0-9_]))(?:{words})(?![A-Za-z0-9_])")

    def log(self, ctx: Context) -> None:
        """Puts the names in the log of a run, once."""
        if self.names and ctx.step == 0:
            ctx.emit(Disguised(names=self.names))

    def text(self, text: str) -> str:
        """Returns a text with names and codes swapped; twice gives the same text again."""
        return self._words.sub(lambda found: self._swap[found[0]], text) if self.names else text

    def context(self, context: dict[str, Any]) -> dict[str, Any]:
        """Returns the variables of a template, disguised; texts about the space are left out."""
        if not self.names:
            return context
        plain = {**context, "space": {**context["space"], "title": TITLE, "about": ABOUT, "rules": [],
                                      "log10_size": None, "ops": dict.fromkeys(context["space"]["ops"], GLOSS)}}
        shown: dict[str, Any] = self._shown(plain)
        shown["block"]["space"] = shown["space"]["name"] = SPACE_CODE
        shown["space"]["ops"] = dict(sorted(shown["space"]["ops"].items()))
        return shown

    def schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Returns a schema of replies, disguised."""
        return self._shown(schema) if self.names else schema

    def _shown(self, value: dict[str, Any]) -> Any:
        """Returns a JSON value with names and codes swapped, and nothing left of the order the true names have."""
        text = self.text(json.dumps(value, ensure_ascii=False))
        return json.loads(_LISTED.sub(lambda found: ", ".join(sorted(found[0].split(", "))), text),
                          object_pairs_hook=_ordered)


def _ordered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a mapping with attributes last, and lists of names, both by code; ops stay as they were shuffled."""
    found = sorted(pairs, key=lambda pair: pair[0] if pair[0].startswith("attr_") else "")
    return {name: _by_code(value) if name in ("enum", "required") else value for name, value in found}


def _by_code(value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return value
    return sorted(value, key=lambda one: one if _CODE.fullmatch(one) else "")


def disguise_of(space: Space, seed: int, hides: bool = True) -> Disguise:
    """Returns the disguise of a run, another one for every seed; one that changes nothing when nothing is hidden.

    Ops that the space does not have get codes as well, because the advice in an issue may name them.

    Args:
        space: The space.
        seed: Seed of the run.
        hides: Whether ops are hidden.
    """
    if not hides:
        return Disguise({})
    own = {op for op, _ in space.spec.domains()} | {node["op"] for node in space.block().get("fixed", ())}
    attributes = sorted(set(ATTRIBUTES) - own)
    others = sorted(set(OPS) - own - set(attributes))
    rng = np.random.default_rng([seed, _STREAM])
    ops = [*_shuffled(sorted(own), rng), *_shuffled(others, rng)]
    names = {op: f"op_{_letters(place)}" for place, op in enumerate(ops)}
    names |= {one: f"attr_{_letters(place)}" for place, one in enumerate(_shuffled(attributes, rng))}
    if space.name not in _STRUCTURE:
        names.setdefault(space.name, SPACE_CODE)
    return Disguise(names)


def _shuffled(names: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [names[place] for place in rng.permutation(len(names))]


def _letters(place: int) -> str:
    """Returns a, b … z, aa, ab … for the places 0, 1, and so on."""
    ahead = _letters(place // 26 - 1) if place >= 26 else ""
    return ahead + chr(ord("a") + place % 26)
