"""Single columns of gzipped CSV tables: what is not named is not kept, so that a search cannot see it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path

from llmnas.errors import InputError, nearest

Column = dict[str, float]
"""A number by the name of its row; rows without one are left out."""


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[list[str]]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield csv.reader(file)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        says = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {says}", "give --data-dir or set LLMNAS_DATA") from None


def read_header(path: Path) -> list[str]:
    """Returns the names of a table's columns.

    Raises:
        InputError: The file is not there, or not such a table.
    """
    with _opened(path) as rows:
        return next(rows, [])


def read_texts(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the named columns of every row, as text; nothing else of the table is kept.

    Raises:
        InputError: The file is not there, is not such a table, or lacks a column.
    """
    with _opened(path) as rows:
        header = next(rows, [])
        if missing := [name for name in columns if name not in header]:
            raise InputError(f"{path}: there is no column {missing[0]!r}", nearest(missing[0], header))
        places = [header.index(name) for name in columns]
        try:
            return [tuple(row[place] for place in places) for row in rows if row]
        except IndexError:
            raise InputError(f"{path}: a row is shorter than the header", "write the whole table again") from None


def numbers(names: Sequence[str], texts: Sequence[str], path: Path, column: str) -> Column:
    """Returns a column as numbers by the names of its rows; empty fields and nan are left out.

    Of rows with one name the first one counts.

    Raises:
        InputError: A field is not a number.
    """
    try:
        pairs = [(name, float(text)) for name, text in zip(names, texts, strict=True) if text]
    except ValueError as error:
        raise InputError(f"{path}: column {column!r}: {error}", "leave a field empty where nothing is known") from None
    found: Column = {}
    for name, value in pairs:
        if not isnan(value):
            found.setdefault(name, value)
    return found
