"""Representational similarity analysis: compare the distances between images (Kriegeskorte et al. 2008).

Every distance matrix is made and ranked once; all comparisons are then one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clipbias.analysis.features import Features, gather
from clipbias.analysis.neighbours import directions
from clipbias.errors import DataError, StatusError, nearest

DISTANCES = ("euclidean", "correlation", "cosine")
COMPARISONS = ("spearman", "pearson", "cosine")
_BUFFER = 32 << 20


def distances(features: Features, distance: str = "euclidean") -> torch.Tensor:
    """Return the distances of all pairs of images i < j, shape (n(n-1)/2,), float64.

    In float32 close distances would change places, which a rank correlation over few images shows.
    ``euclidean`` is invariant to rotation and translation; ``correlation`` (1 minus the correlation over
    features) and ``cosine`` are not.
    """
    n = features.n
    rows = (
        features.block(0, n, double=True)
        if distance == "euclidean"
        else directions(features, row_center=distance == "correlation")[0]
    )
    out = torch.empty(n * (n - 1) // 2, dtype=rows.dtype, device=rows.device)
    square = rows.square().sum(1)
    step = max(1, _BUFFER // (8 * n))
    filled = 0
    for start in range(0, n - 1, step):
        stop = min(start + step, n - 1)
        block = rows[start:stop] @ rows[start:].T
        block = (square[start:stop, None] + square[None, start:] - 2 * block).clamp_min_(0)
        # Between rows of length one, 1 - cosine is half the squared distance.
        block = block.sqrt_() if distance == "euclidean" else block.mul_(0.5)
        keep = torch.ones_like(block, dtype=torch.bool).triu_(1)
        part = block[keep]
        out[filled : filled + len(part)] = part
        filled += len(part)
    return out


def average_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return ranks from 1, ties get their mean rank, float64."""
    if values.device.type == "cpu":  # numpy sorts with vector instructions
        order = torch.from_numpy(np.argsort(values.numpy()))
        ordered = values[order]
    else:
        ordered, order = values.sort()
    if not bool((ordered[1:] == ordered[:-1]).any()):
        ranks = torch.empty(len(values), dtype=torch.float64, device=values.device)
        ranks[order] = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
        return ranks
    _, inverse, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = torch.empty(len(values), dtype=torch.float64, device=values.device)
    ranks[order] = (last - (counts - 1) / 2)[inverse]
    return ranks


def pairwise_rsa(
    arrays: Sequence, *, distance: str = "euclidean", compare: str = "spearman", **options: object
) -> np.ndarray:
    """Return the agreement of distance matrices for all pairs of spaces.

    Parameters
    ----------
    arrays : sequence of array-like, each (n, p_i)
        Held as one vector of n(n-1)/2 distances each.
    distance : {"euclidean", "correlation", "cosine"}
    compare : {"spearman", "pearson", "cosine"}
    **options
        Of `clipbias.analysis.features.gather`: names, ids, standardize, dtype, device.

    Returns
    -------
    ndarray, shape (N, N)
        In [-1, 1], higher is more alike; NaN where all distances of a space are equal.

    Raises
    ------
    DataError
        Unknown option, or an image without direction.
    """
    for name, word, known in (("distance", distance, DISTANCES), ("compare", compare, COMPARISONS)):
        if word not in known:
            raise DataError(f"{name}={word!r} is not known." + nearest(word, known))
    features = gather(arrays, **options)  # type: ignore[arg-type]
    n, like = features[0].n, features[0]
    count, pairs = len(features), n * (n - 1) // 2
    table = torch.empty((count, pairs), dtype=like.dtype, device=like.device)
    defined = np.ones(count, bool)
    with torch.no_grad():
        for i, one in enumerate(features):
            if one.constant:
                defined[i] = False
                table[i] = 0
                continue
            vector = distances(one, distance)
            if compare == "spearman":
                vector = average_ranks(vector)
            vector = vector.double()
            if compare != "cosine":
                vector = vector - vector.mean()
            norm = vector.norm()
            size = vector.abs().max()
            defined[i] = bool(size > 0) and bool(norm > 1e-6 * pairs**0.5 * (size > 0))
            table[i] = vector / norm
        total = torch.zeros((count, count), dtype=torch.float64, device=like.device)
        step = 1 << 16  # short float32 sums, added up in float64
        for start in range(0, pairs, step):
            part = table[:, start : start + step]
            total += (part @ part.T).double()
    out = total.cpu().numpy()
    out[~defined] = np.nan
    out[:, ~defined] = np.nan
    return out


def rsa(
    X: object, Y: object, *, distance: str = "euclidean", compare: str = "spearman", **options: object
) -> float:
    """Return the agreement of the distances between images in two spaces, see `pairwise_rsa`.

    Raises
    ------
    StatusError
        All distances of one space are equal.
    """
    value = float(pairwise_rsa([X, Y], distance=distance, compare=compare, **options)[0, 1])
    if np.isnan(value):
        raise StatusError("constant distances", "all images of one side are equally far from each other.")
    return value
