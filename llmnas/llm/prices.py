"""What tokens cost: a table of the user's own first, then ``genai-prices`` when it is installed, else unknown.

An unknown price is None, never 0, and never the price of another model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from llmnas.errors import InputError
from llmnas.graph import Frozen


class Price(Frozen):
    """Dollars for a million tokens of one model.

    Attributes:
        input: For input tokens that are not cached.
        output: For output tokens, reasoning included.
        cached: For cached input tokens; as `input` when None.
    """

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)


def user_prices(source: str | None = None) -> dict[str, Price]:
    """Returns the user's table: JSON text or a JSON file, from `source` or else ``$LLMNAS_PRICES``.

    For example ``{"my-model": {"input": 0.1, "output": 0.4}}``.
    """
    text = source if source is not None else os.environ.get("LLMNAS_PRICES", "")
    if not text.strip():
        return {}
    try:
        raw = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        return TypeAdapter(dict[str, Price]).validate_python(json.loads(raw))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"LLMNAS_PRICES: expected a JSON table of prices or its file, got {text[:60]!r}: "
                         f"{str(error).splitlines()[0]}",
                         'write {"model": {"input": usd per million tokens, "output": …}}') from None


def usd(model: str, base_url: str, table: Mapping[str, Price], *, input_tokens: int | None,
        cached_tokens: int | None, output_tokens: int | None) -> float | None:
    """Returns the price of one request in dollars, None when the tokens or the price are unknown."""
    if input_tokens is None or output_tokens is None:
        return None
    cached = min(cached_tokens or 0, input_tokens)
    if model in table:
        price = table[model]
        cached_price = price.input if price.cached is None else price.cached
        return ((input_tokens - cached) * price.input + cached * cached_price + output_tokens * price.output) / 1e6
    return _listed(model, base_url, input_tokens, cached, output_tokens)


def _listed(model: str, base_url: str, input_tokens: int, cached: int, output_tokens: int) -> float | None:
    try:
        import genai_prices
    except ImportError:
        return None
    usage = genai_prices.Usage(input_tokens=input_tokens, cache_read_tokens=cached, output_tokens=output_tokens)
    try:
        # Only with the endpoint's own address: the same name at another host has another price.
        found = genai_prices.calc_price(usage, model, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    return float(found.total_price)
