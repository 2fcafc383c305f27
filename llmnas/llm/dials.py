"""How unreliable, slow, dear and knowing the mock is: one set of dials for the model and for the faulty server."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, ValidationError

from llmnas.errors import InputError, nearest
from llmnas.graph import Frozen

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FORM: Final = "for example mock:7:prior=.5:invalid=.2"


class Dials(Frozen):
    """The dials; all but the last three are probabilities.

    Attributes:
        prior: A fresh design is a known-good one; else it is random. At 0 there are only random legal designs and
            edits of exemplars.
        invalid: A proposal breaks a rule of the space.
        duplicate: A proposal repeats an exemplar or an earlier one.
        truncated: A reply loses its end.
        refused: A reply is a polite refusal.
        late: A reply does not come before the call is given up, which then has failed.
        timeout: Seconds after which a late reply is given up.
        delay: Seconds every reply takes.
        cost: US dollars for 1,000 tokens, of input and output alike.
    """

    prior: Share = 1.0
    invalid: Share = 0.0
    duplicate: Share = 0.0
    truncated: Share = 0.0
    refused: Share = 0.0
    late: Share = 0.0
    timeout: Amount = 0.0
    delay: Amount = 0.0
    cost: Amount = 0.0

    @property
    def says(self) -> str:
        """The dials that are not as by default, as they are written: ``:prior=0.5:invalid=0.3``."""
        return "".join(f":{name}={value:g}" for name, value in self.model_dump(exclude_defaults=True).items())

    @property
    def waits(self) -> bool:
        """Whether any reply takes time."""
        return self.delay > 0 or (self.late > 0 and self.timeout > 0)


def read_mock(text: str, prior: bool = True) -> tuple[int, Dials]:
    """Returns seed and dials in ``7:prior=.5:invalid=.2``; either part may be missing, and commas do as well.

    Args:
        text: Likewise.
        prior: False for a mock without known-good designs, unless the text says how many.

    Raises:
        InputError: There is no such dial, or its value does not fit; says which there are.
    """
    parts = [part.strip() for part in re.split("[:,]", text) if part.strip()]
    seed = parts.pop(0) if parts and "=" not in parts[0] else "0"
    if not re.fullmatch(r"\d+", seed):
        raise InputError(f"mock: expected a seed, got {seed!r}", f"write mock:SEED:dial=VALUE, {FORM}")
    known, found = list(Dials.model_fields), {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name not in known:
            raise InputError(f"the mock has no dial {name!r}; known: {', '.join(known)}", nearest(name, known))
        if not equals or not value or name in found:
            raise InputError(f"mock: expected {name}=VALUE, once, got {part!r}", FORM)
        found[name] = value
    if not prior:
        found.setdefault("prior", "0")
    try:
        return int(seed), Dials.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"mock, dial {fault['loc'][0]}: expected a number {_range(str(fault['loc'][0]))}, got "
                         f"{fault['input']!r}", FORM) from None


def _range(name: str) -> str:
    return "of at least 0" if name in ("timeout", "delay", "cost") else "from 0 to 1"
