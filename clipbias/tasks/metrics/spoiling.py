"""True labels made as wrong as a model's, at random: what a model would leak if its errors knew nothing."""

from __future__ import annotations

from typing import Literal

import numpy as np

from clipbias.errors import DataError, nearest

Match = Literal["confusion", "accuracy", "none"]
_MATCHES = ("confusion", "accuracy", "none")


def check_match(match: str) -> None:
    """Raise if there is no such way to spoil labels."""
    if match not in _MATCHES:
        raise DataError(f"match={match!r} is unknown." + nearest(str(match), _MATCHES))


def spoil(truth: np.ndarray, predicted: np.ndarray, rng: np.random.Generator, match: Match) -> np.ndarray:
    """Return true labels made as wrong as the predictions, at random.

    Parameters
    ----------
    truth, predicted : array (n, t)
        Zeros and ones; the result has their shape.
    rng : Generator
    match : {"confusion", "accuracy", "none"}
        ``"confusion"``: in each column predictions are shuffled among the images of the same true value, so
        that misses and false alarms (hence accuracy and F1) are those of the model. ``"accuracy"``: as many
        entries as the model has wrong are flipped.
    """
    check_match(match)
    out = truth.copy()
    if match == "none":
        return out
    for column in range(truth.shape[1]):
        t, p = truth[:, column], predicted[:, column]
        if match == "accuracy":
            rows = rng.choice(t.size, int((t != p).sum()), replace=False)
            out[rows, column] = 1 - t[rows]
            continue
        for value in (0, 1):
            rows = np.flatnonzero(t == value)
            out[rows, column] = p[rng.permutation(rows)]
    return out


def spoil_labels(
    truth: np.ndarray, predicted: np.ndarray, rng: np.random.Generator, match: Match
) -> np.ndarray:
    """Spoil one label per image (codes): an image keeps exactly one label."""
    out = truth.copy()
    if match == "confusion":
        for value in np.unique(truth):
            rows = np.flatnonzero(truth == value)
            out[rows] = predicted[rng.permutation(rows)]
    elif match == "accuracy":
        rows = rng.choice(truth.size, int((truth != predicted).sum()), replace=False)
        levels = int(max(truth.max(), predicted.max())) + 1
        out[rows] = (truth[rows] + rng.integers(1, max(levels, 2), rows.size)) % levels
    return out
