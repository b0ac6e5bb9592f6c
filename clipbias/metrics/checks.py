"""Arguments of metrics: what is accepted, and errors that say what, where and what to do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError


def as_scores(scores: Any, ndim: int = 1) -> np.ndarray:
    """Return scores as float64, or an error that names the first one that is not a number."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != ndim:
        raise DataError(f"scores need {ndim} dimension(s), these have shape {array.shape}.")
    if array.shape[-1] == 0:
        raise DataError("there are no scores.")
    bad = ~np.isfinite(array)
    if bad.any():
        where = np.argwhere(bad)[0]
        place = int(where[0]) if ndim == 1 else tuple(int(i) for i in where)
        raise DataError(
            f"{int(bad.sum())} of {array.size} scores are NaN or infinite, the first at position {place}; "
            "leave these images out and count them, or find out why they have no score."
        )
    return array


def as_groups(
    groups: Any, n: int | None = None, levels: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return group codes and levels.

    Levels are those given, else the categories of a pandas Categorical, else the sorted labels seen.
    Missing labels are an error: unknown is a level of its own and is not guessed here.
    """
    if levels is not None:
        labels = np.asarray(groups, dtype=object)
        place = pd.Index(list(levels), dtype=object).get_indexer(pd.Index(labels, dtype=object))
        strange = np.flatnonzero((place < 0) & ~pd.isna(labels))
        if strange.size:
            label = labels[strange[0]]
            raise DataError(
                f"label {label!r} at position {strange[0]} is not one of the levels {list(levels)}."
            )
        column = pd.Categorical.from_codes(place, categories=pd.Index(list(levels), dtype=object))
    elif isinstance(groups, pd.Categorical):
        column = groups
    elif isinstance(groups, pd.Series) and isinstance(groups.dtype, pd.CategoricalDtype):
        column = groups.array  # type: ignore[assignment]
    else:
        column = pd.Categorical(np.asarray(groups, dtype=object))
    codes = np.asarray(column.codes)
    if codes.ndim != 1 or (n is not None and codes.size != n):
        raise DataError(f"{n} scores but {codes.size} labels: one label per image is needed.")
    if (codes < 0).any():
        raise DataError(
            f"the label at position {int(np.argmax(codes < 0))} is missing; "
            "give it a level of its own, for example 'unknown'."
        )
    return codes.astype(np.int16), tuple(column.categories)


def no_empty_group(codes: np.ndarray, levels: Sequence[Any]) -> None:
    """Raise if a declared level has no member."""
    counts = np.bincount(codes, minlength=len(levels))
    if (counts == 0).any():
        level = levels[int(np.argmin(counts))]
        raise StatusError(
            "empty group",
            f"group {level!r} is a declared level but has no image here; drop the level or add images of it.",
        )


def two_groups(levels: Sequence[Any]) -> None:
    """Raise if there is nothing to compare."""
    if len(levels) < 2:
        raise StatusError(
            "single group", f"only one group ({levels[0]!r}) is here: there is nothing to compare."
        )


def resolve_k(k: float, n: int, what: str = "images") -> int:
    """Return the list length for ``k`` items (int) or a fraction of the items (float in (0, 1])."""
    if isinstance(k, bool | np.bool_):
        raise DataError("k is a number of images or a fraction of them, not a truth value.")
    if isinstance(k, int | np.integer):
        if k < 1:
            raise DataError(f"k={k}: at least 1 is needed.")
        if k > n:
            raise StatusError("k larger than n", f"k={k} but there are only {n} {what}; choose a smaller k.")
        return int(k)
    if not 0 < k <= 1:
        raise DataError(f"k={k}: a float is a fraction of the {what} and lies in (0, 1].")
    return max(1, round(float(k) * n))


def as_rows(name: str, vectors: Any) -> np.ndarray:
    """Return embeddings as a float64 matrix of unit-free rows; zero and non-finite rows are errors."""
    array = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if array.ndim != 2 or array.shape[0] == 0:
        raise StatusError("empty set", f"{name} has no vectors.")
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        raise DataError(f"row {int(np.argmax(bad))} of {name} holds NaN or infinite numbers.")
    return array


def unit(name: str, vectors: Any) -> np.ndarray:
    """Return rows scaled to length one."""
    array = as_rows(name, vectors)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    if (length == 0).any():
        raise DataError(f"row {int(np.argmin(length))} of {name} is all zero and has no direction.")
    return array / length
