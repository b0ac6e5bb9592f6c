"""Partial correlation: controls as columns, what they leave, and permutation of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from clipbias.errors import DataError, StatusError


def design(controls: Any, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return control variables as columns (categories as indicators), and their names.

    Raises
    ------
    DataError
        Wrong length.
    """
    if controls is None:
        return np.empty((n, 0)), ()
    if isinstance(controls, Mapping) and not isinstance(controls, pd.DataFrame):
        controls = pd.DataFrame(dict(controls))
    if not isinstance(controls, pd.DataFrame):
        array = np.asarray(controls)
        array = array.reshape(len(array), -1)
        controls = pd.DataFrame(
            array, columns=[f"control {i}" for i in range(array.shape[1])]
        ).infer_objects()
    if len(controls) != n:
        raise DataError(f"controls have {len(controls)} rows for {n} models.")
    names = tuple(str(c) for c in controls.columns)
    plain = {}
    for column in controls.columns:
        series = controls[column]
        if pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series):
            plain[str(column)] = series.astype(float).to_numpy()
        else:
            for level in sorted(series.dropna().astype(str).unique())[1:]:
                indicator = np.where(series.isna(), np.nan, (series.astype(str) == level).astype(float))
                plain[f"{column}={level}"] = indicator
    return (np.column_stack(list(plain.values())) if plain else np.empty((n, 0))), names


def family_indicators(families: Sequence | np.ndarray) -> np.ndarray:
    """Return one column for each family but the first, shape (n, families - 1)."""
    labels = np.asarray([str(f) for f in families])
    names = list(dict.fromkeys(labels.tolist()))
    return (labels[:, None] == np.asarray(names[1:], dtype=labels.dtype)[None, :]).astype(float)


def degrees(z: np.ndarray) -> int:
    """Return how many degrees of freedom control columns take: a control that others contain takes none."""
    return int(np.linalg.matrix_rank(z - z.mean(0))) if z.size else 0


def residuals(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return what is left of columns after least squares on controls and a constant, shape as given."""
    full = np.column_stack([np.ones(len(z)), z])
    q, r = np.linalg.qr(full)
    keep = np.abs(np.diagonal(r)) > 1e-10 * max(1.0, np.abs(np.diagonal(r)).max())
    if not keep.all():  # a control that the others already contain
        u, s, _ = np.linalg.svd(full, full_matrices=False)
        q = u[:, s > 1e-10 * s[0]]
    return values - q @ (q.T @ values)


def freedman_lane(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, indices: np.ndarray, *, ranks: bool
) -> tuple[float, np.ndarray]:
    """Return the partial correlation and its values under Freedman-Lane permutation.

    Residuals of y on the controls are permuted and added back to the fit; the statistic is the correlation of what
    the controls leave of x and of the new y (Freedman & Lane 1983). Ranks are taken before the regression.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    z : ndarray, shape (n, c)
    indices : ndarray of int, shape (B, n)
    ranks : bool

    Raises
    ------
    StatusError
        The controls explain one side completely.
    """
    if ranks:
        x, y, z = rankdata(x), rankdata(y), rankdata(z, axis=0)
    left = residuals(x, z)
    rest = residuals(y, z)
    for name, part, whole in (("intrinsic", left, x), ("extrinsic", rest, y)):
        if np.linalg.norm(part) <= 1e-8 * np.linalg.norm(whole - whole.mean()):
            raise StatusError("explained by controls", f"the controls explain the {name} values completely.")
    # The fit is removed again by the residuals of the new y, so only permuted residuals matter.
    again = residuals(rest[indices].T, z)
    left = left / np.linalg.norm(left)
    values = left @ again / np.linalg.norm(again, axis=0)
    return float(left @ rest / np.linalg.norm(rest)), values


def residual_pair(a: np.ndarray, b: np.ndarray, z: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what controls leave of both sides, of their ranks for Spearman's coefficient."""
    if method == "spearman":
        a, b, z = rankdata(a), rankdata(b), rankdata(z, axis=0)
    return residuals(a, z), residuals(b, z)
