"""Orthogonal Procrustes: how well one space can be rotated onto another.

Sources: Ding et al. 2021; Williams et al. 2021 (arXiv 2110.14739). Spaces are centred and scaled to norm 1. Different
widths are compared as if the narrower were padded with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clipbias.analysis.features import Features, gather
from clipbias.errors import DataError, StatusError, nearest

HELD = 128 << 20  # bytes of float64 factors that are kept
MEASURES = ("nuclear", "distance", "angular")


def _factor(features: Features) -> torch.Tensor:
    """Return a matrix with the same Gram matrix, at most n wide, squared norm 1, float64."""
    rows = features.block(0, features.n, double=True) / features.n**0.5
    if features.p > features.n:
        rows = torch.linalg.qr(rows.T, mode="r").R.T
    return rows


def pairwise_procrustes(arrays: Sequence, *, measure: str = "nuclear", **options: object) -> np.ndarray:
    """Return Procrustes similarity or distance for all pairs.

    Parameters
    ----------
    arrays : sequence of array-like, each (n, p_i)
    measure : {"nuclear", "distance", "angular"}
        ``nuclear``: the nuclear norm of the cross product, in [0, 1], higher is more alike; ``distance``
        sqrt(2 - 2 nuclear) and ``angular`` arccos(nuclear) are metrics, lower is more alike.
    **options
        Of `clipbias.analysis.features.gather`: names, ids, standardize, dtype, device.

    Returns
    -------
    ndarray, shape (N, N)
        NaN for a constant matrix.

    Raises
    ------
    DataError
        Unknown measure.
    """
    if measure not in MEASURES:
        raise DataError(f"measure={measure!r} is not known." + nearest(measure, MEASURES))
    features = gather(arrays, **options)  # type: ignore[arg-type]
    count = len(features)
    out = np.eye(count)
    # Wide matrices are reduced once; the others are read again for each pair where all of them in float64 are too many.
    small = 8 * sum(f.n * f.p for f in features) <= HELD
    held = [_factor(f) if small or f.p > f.n else None for f in features]
    with torch.no_grad():
        for a in range(count):
            left = _factor(features[a]) if (one := held[a]) is None else one
            for b in range(a + 1, count):
                right = _factor(features[b]) if (two := held[b]) is None else two
                out[a, b] = out[b, a] = float(torch.linalg.svdvals(left.T @ right).sum())
    for i, matrix in enumerate(features):
        if matrix.constant:
            out[i] = out[:, i] = np.nan
    out = np.where(out > 1, np.where(out < 1 + 1e-9, 1.0, out), out)  # rounding of two equal spaces
    if measure == "distance":
        return np.sqrt(2 - 2 * out)
    return np.arccos(out) if measure == "angular" else out


def procrustes(X: object, Y: object, *, measure: str = "nuclear", **options: object) -> float:
    """Return Procrustes similarity or distance of two spaces, see `pairwise_procrustes`.

    Raises
    ------
    StatusError
        One side is constant.
    """
    value = float(pairwise_procrustes([X, Y], measure=measure, **options)[0, 1])
    if np.isnan(value):
        raise StatusError("constant features", "all images of one side have the same features.")
    return value
