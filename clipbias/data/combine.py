"""Several image sets as one, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError


def combine(parts: Sequence[ImageSet], *, name: str, facts: Mapping[str, object] | None = None) -> ImageSet:
    """Put image sets one after the other.

    Parameters
    ----------
    parts : sequence of ImageSet
        No image id may occur in two of them.
    name : str
    facts : mapping, optional
        Default: those of the parts, the first wins.

    Returns
    -------
    ImageSet
        Levels of a column are those of all parts, in order. An attribute or context that a part lacks is
        ``"unknown"`` there. Licences are joined by AND.

    Raises
    ------
    DataError
        No part, or an image id in two parts.
    """
    if not parts:
        raise DataError(f"image set {name!r} is made of no sets.")
    attributes = list(dict.fromkeys(a for part in parts for a in part.attributes))
    contexts = list(dict.fromkeys(c for part in parts for c in part.contexts if c not in attributes))
    tables = [part.table.copy() for part in parts]
    for column in (*attributes, *contexts):
        for table in tables:
            if column not in table:
                table[column] = pd.Categorical(["unknown"] * len(table))
    table = pd.concat(tables, ignore_index=True)
    for column in map(str, table.columns):
        kinds = [pd.Categorical(one[column]) for one in tables if column in one and _is_labels(one[column])]
        if len(kinds) == len(tables):
            table[column] = union_categoricals(kinds, ignore_order=True)
    offsets = np.cumsum([0, *(len(part) for part in parts)])

    def read(rows: Sequence[int]) -> list[bytes]:
        wanted = np.asarray(list(rows), np.int64)
        owner = np.searchsorted(offsets, wanted, side="right") - 1
        out: list[bytes] = [b""] * len(wanted)
        for number in np.unique(owner):
            place = np.flatnonzero(owner == number)
            found = parts[number].read([int(row) for row in wanted[place] - offsets[number]])
            for position, data in zip(place, found, strict=True):
                out[position] = data
        return out

    asked = [part.questions for part in parts if part.questions is not None]
    return ImageSet(
        name, table, tuple(attributes), read, tuple(contexts),
        pd.concat(asked, ignore_index=True) if asked else None,
        pd.concat([part.left_out for part in parts], ignore_index=True),
        " AND ".join(dict.fromkeys(part.licence for part in parts)),
        "; ".join(dict.fromkeys(part.source for part in parts if part.source)),
        dict(facts) if facts is not None else {k: v for part in reversed(parts) for k, v in part.facts.items()},
    )  # fmt: skip


def _is_labels(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)
