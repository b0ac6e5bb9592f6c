"""Co-occurrence of attributes and labels: counts of all pairs, in the data or in many bootstrap draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, nearest

Train = tuple[Any, Any] | None
Names = tuple[Sequence[Any] | None, Sequence[Any] | None]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Counts of attributes A and labels T over images, with leading axis ``draws``.

    Attributes
    ----------
    both : ndarray (draws, |A|, |T|)
        Images that have attribute a and label t.
    a : ndarray (draws, |A|)
    t : ndarray (draws, |T|)
    n : ndarray (draws,)
        Images with any attribute or label.
    """

    both: np.ndarray
    a: np.ndarray
    t: np.ndarray
    n: np.ndarray

    @property
    def sign(self) -> np.ndarray:
        """Sign of P(a, t) − P(a) P(t), (draws, |A|, |T|); on counts, so that independence is exactly 0."""
        return np.sign(self.both * self.n[:, None, None] - self.a[:, :, None] * self.t[:, None, :])


def count_pairs(A: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None) -> Pairs:
    """Count pairs, once or per draw.

    Parameters
    ----------
    A : array (n, |A|)
    T : array (n, |T|)
        Zeros and ones.
    weights : array (draws, n), optional
        How often each image counts. Without it there is one draw, the data.
    """
    if weights is None:
        keep = A.any(1) | T.any(1)
        return Pairs((A.T @ T)[None], A.sum(0)[None], T.sum(0)[None], np.array([keep.sum()], dtype=float))
    both = np.stack([(weights * A[:, a]) @ T for a in range(A.shape[1])], axis=1)
    return Pairs(both, weights @ A, weights @ T, weights @ (A.any(1) | T.any(1)).astype(float))


def binary(name: str, values: Any, n: int | None = None, width: int | None = None) -> np.ndarray:
    """Return indicators as a float matrix, or say what is wrong with them.

    Raises
    ------
    DataError
        No matrix, the wrong number of rows or columns, or an entry other than 0 and 1.
    """
    help_ = "clipbias.tasks.metrics.indicators() makes one 0/1 column per level from labels."
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is no matrix of zeros and ones: {error}. {help_}") from error
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{name} has shape {array.shape}; one row per image is needed. {help_}")
    if n is not None and len(array) != n:
        raise DataError(f"{name} has {len(array)} rows, but there are {n} images.")
    if width is not None and array.shape[1] != width:
        raise DataError(f"{name} has {array.shape[1]} columns, but its true counterpart has {width}.")
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise DataError(f"{name} holds {array[i, j]:g} in row {i}, column {j}; only 0 and 1 are allowed.")
    return array


def reference_data(train: Train, a: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return attributes and labels of the training data, or those of the data itself if there is none."""
    if train is None:
        return a, t
    first = binary("A of train", train[0], width=a.shape[1])
    return first, binary("T of train", train[1], len(first), t.shape[1])


def as_weights(weights: Any, n: int) -> np.ndarray:
    """Return bootstrap weights as a float matrix (draws, n)."""
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != n:
        raise DataError(f"weights have shape {array.shape}; needed: (draws, {n}).")
    return array


def columns_of(values: Any, given: Sequence[Any] | None = None) -> list[Any]:
    """Return names for the columns: those given, those of a table, or their numbers."""
    width = np.shape(values)[1]
    names = list(given) if given is not None else list(getattr(values, "columns", range(width)))
    if len(names) != width:
        raise DataError(f"{len(names)} names for {width} columns.")
    return names


def indicators(labels: Iterable[Any], levels: Sequence[Any]) -> pd.DataFrame:
    """Turn labels into 0/1 columns, one per level.

    Parameters
    ----------
    labels : iterable (n,)
        One label per image, or a list (set, tuple) of labels; None and other missing values are no label.
    levels : sequence
        The columns. Labels beside them are an error.

    Returns
    -------
    pandas.DataFrame (n, levels) of int

    Raises
    ------
    DataError
        A label is no level.
    """
    place = {level: column for column, level in enumerate(levels)}
    rows = []
    for number, label in enumerate(labels):
        several = label if isinstance(label, list | tuple | set | frozenset) else [label]
        own = np.zeros(len(place), dtype=np.int8)
        for one in several:
            if one is None or one is pd.NA or (isinstance(one, float) and np.isnan(one)):
                continue
            if one not in place:
                raise DataError(
                    f"label {one!r} of image {number} is no level." + nearest(str(one), map(str, place))
                )
            own[place[one]] = 1
        rows.append(own)
    return pd.DataFrame(np.array(rows).reshape(-1, len(place)), columns=list(place))
