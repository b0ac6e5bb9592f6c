"""Correlation coefficients, many resamples at once.

Pearson and Spearman (average ranks) are dot products of standardised vectors; Kendall's tau-b is one of sign
matrices. A constant vector has no correlation: NaN, never an error inside a resampling loop.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from clipbias.analysis.power import METHODS
from clipbias.errors import DataError, nearest


def check_method(method: str) -> None:
    """Raise DataError for a coefficient that is not known."""
    if method not in METHODS:
        raise DataError(f"method {method!r} is not known." + nearest(method, METHODS))


def standardise(values: np.ndarray, *, ranks: bool, axis: int = -1) -> np.ndarray:
    """Return values (or their average ranks) centred and with norm 1 along an axis; NaN where constant."""
    values = np.asarray(values, float)
    if ranks:
        values = rankdata(values, axis=axis)
    centred = values - values.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centred, axis=axis, keepdims=True)
    size = np.abs(values).max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            norm > 1e-12 * np.maximum(size, 1e-300) * values.shape[axis] ** 0.5, centred / norm, np.nan
        )


def _signs(values: np.ndarray, families: np.ndarray | None = None) -> np.ndarray:
    """Return sign matrices normalised to norm 1, shape (..., n, n); zero between families when these are given."""
    signs = np.sign(values[..., :, None] - values[..., None, :])
    if families is not None:
        signs = signs * (families[:, None] == families[None, :])
    norm = np.sqrt((signs * signs).sum((-1, -2), keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, signs / norm, np.nan)


def coefficient(x: np.ndarray, y: np.ndarray, *, method: str = "spearman") -> np.ndarray:
    """Return correlations along the last axis.

    Parameters
    ----------
    x, y : ndarray, shape (..., n)
    method : {"spearman", "pearson", "kendall"}
        Kendall is tau-b.

    Returns
    -------
    ndarray, shape (...)
        In [-1, 1]; NaN where a side is constant.
    """
    check_method(method)
    x, y = np.asarray(x, float), np.asarray(y, float)
    if method == "kendall":
        if x.ndim == 2 and x.shape == y.shape:  # a few megabytes of sign matrices at a time
            step = max(1, 1_000_000 // x.shape[1] ** 2)
            parts = [
                (_signs(x[i : i + step]) * _signs(y[i : i + step])).sum((-1, -2))
                for i in range(0, len(x), step)
            ]
            return np.concatenate(parts)
        return (_signs(x) * _signs(y)).sum((-1, -2))
    return (standardise(x, ranks=method == "spearman") * standardise(y, ranks=method == "spearman")).sum(-1)


def permuted(
    x: np.ndarray, y: np.ndarray, orders: np.ndarray, *, method: str, families: np.ndarray | None = None
) -> np.ndarray:
    """Return the correlation of x with y in each order.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    orders : ndarray of int, shape (B, n)
    method : {"spearman", "pearson", "kendall"}
        Kendall costs n^2 for each order and above 45 units uses the first 20 million / n^2 orders (at least 999).
    families : ndarray, shape (n,), optional
        For Kendall: only pairs of one family are counted. Orders must stay within families.

    Returns
    -------
    ndarray, shape (B,) or fewer
    """
    if method != "kendall":
        a, b = (standardise(v, ranks=method == "spearman") for v in (x, y))
        return b[orders] @ a
    a, b = (_signs(np.asarray(v, float), families) for v in (x, y))
    if len(x) > 45:
        orders = orders[: max(1000, 20_000_000 // a.size)]
    out = np.empty(len(orders))
    i, j = np.triu_indices(len(x), 1)
    step = max(1, 4_000_000 // max(1, len(i)))
    for start in range(0, len(orders), step):
        o = orders[start : start + step]
        out[start : start + step] = 2 * (b.ravel().take(o[:, i] * len(x) + o[:, j]) @ a[i, j])
    return out
