"""Numbers that carry their own proof: the text shown, and the one-liner that computes it from the run's tables.

A section builds a fact as ``cited("0.43", code)``. When an answer of the first screen prints it, text and code are kept, and
the page lists them below the answer. The one-liners need pandas only and run inside the run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PREFACE = "import pandas as pd  # in the run folder; each line gives the number before it"


class Cited(str):
    """A number as the page shows it; ``code`` is a Python expression over the run's parquet files."""

    code: str

    def __new__(cls, text: str, code: str) -> Cited:
        """Return the text with its code."""
        made = super().__new__(cls, text)
        made.code = code
        return made


def cited(text: str, code: str) -> Cited:
    """Return a number with the expression that computes it."""
    return Cited(text, code)


def table(name: str, among: Sequence[str] = ()) -> str:
    """Return the code that reads a table; of a report of some models (``among``), the rows of these."""
    read = f'pd.read_parquet("{name}.parquet")'
    return read + (f".query({f'model in {list(among)!r}'!r})" if among else "")


def rows(name: str, among: Sequence[str] = (), **where: Any) -> str:
    """Return the code of the rows of a table that have the given values."""
    if not where:
        return table(name, among)
    asked = " and ".join(f"{column} == {_plain(value)!r}" for column, value in where.items())
    return f"{table(name, among)}.query({asked!r})"


def value(name: str, column: str, **where: Any) -> str:
    """Return the code of the one value that a table holds for a key."""
    return f'{rows(name, **where)}["{column}"].item()'


def values(name: str, columns: Sequence[str], **where: Any) -> str:
    """Return the code of several columns of one row, for an interval for example."""
    return f"{rows(name, **where)}[{list(columns)!r}].squeeze().tolist()"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
