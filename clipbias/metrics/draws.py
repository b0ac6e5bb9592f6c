"""Random draws over images: bootstrap weights, permuted labels, subsets.

A draw never touches scores. It is a row of weights (how often each image counts), or a row of labels
(which group each image is said to be of); every metric is computed for all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights and labels of D draws over n images.

    Attributes
    ----------
    codes : ndarray of int16, (n,) or (D, n)
        Group of each image; two dimensions where labels are permuted.
    weights : ndarray of int16 (D, n) or None
        How often each image counts; None is once.
    n_groups : int
    units, strata : int
        Of a bootstrap: how many units are resampled, in how many strata.
    """

    codes: np.ndarray
    weights: np.ndarray | None
    n_groups: int
    units: int = 0
    strata: int = 0

    @property
    def size(self) -> int:
        """Number of draws."""
        if self.weights is not None:
            return len(self.weights)
        return len(self.codes) if self.codes.ndim == 2 else 1

    def masses(self) -> Iterator[np.ndarray]:
        """Yield per group a (D, n) float32 matrix: the weight of each image if it is of that group."""
        codes = np.atleast_2d(self.codes)
        for g in range(self.n_groups):
            mass = (codes == g).astype(np.float32)
            yield mass if self.weights is None else mass * self.weights

    @property
    def small_sample_factor(self) -> float:
        """Factor on a bootstrap standard deviation: each stratum of m units has lost 1/m of its variance."""
        return float(np.sqrt(self.units / (self.units - self.strata))) if self.units > self.strata else 1.0

    @property
    def totals(self) -> np.ndarray:
        """Images per group in each draw, (D, G)."""
        return np.stack([m.sum(1, dtype=np.float64) for m in self.masses()], axis=1)


def observed(codes: np.ndarray, n_groups: int) -> Draws:
    """Return the data as they are, as one draw."""
    return Draws(codes, None, n_groups)


def subsets(codes: np.ndarray, n_groups: int, masks: np.ndarray) -> Draws:
    """Return one draw per boolean mask (m, n)."""
    return Draws(codes, np.atleast_2d(np.asarray(masks)).astype(np.int16), n_groups)


def permuted(
    codes: np.ndarray, n_groups: int, *, size: int, seed: int, strata: np.ndarray | None = None
) -> Draws:
    """Return draws in which the labels are permuted, inside each stratum if strata are given."""
    rng = np.random.default_rng([seed, 2])
    if strata is None:
        return Draws(rng.permuted(np.tile(codes, (size, 1)), axis=1), None, n_groups)
    # Sorting stratum + U(0,1) puts strata one after the other with their members in random order.
    home = np.argsort(strata, kind="stable")
    keys = np.sort(strata)[None, :] + rng.random((size, codes.size))
    out = np.empty((size, codes.size), dtype=codes.dtype)
    out[:, home] = codes[home][np.argsort(keys, axis=1)]
    return Draws(out, None, n_groups)


def bootstrap(
    codes: np.ndarray,
    n_groups: int,
    *,
    size: int,
    seed: int,
    cells: np.ndarray | None = None,
    blocks: np.ndarray | None = None,
) -> Draws:
    """Return draws in which images are resampled with replacement, stratified so that no group vanishes.

    Parameters
    ----------
    codes : ndarray (n,)
    cells : ndarray (n,), optional
        Finer strata than the groups (for example true class × group).
    blocks : ndarray (n,), optional
        Clusters resampled as a whole, for example exact counterfactual twins. Clusters of the same
        make-up (the same number of images of each cell) form a stratum, so that all sizes stay fixed.
        Where most make-ups occur once that would freeze the draw: then clusters are resampled freely.
    """
    rng = np.random.default_rng([seed, 1])
    cells = codes if cells is None else cells
    n = codes.size
    if blocks is None or np.unique(blocks).size == n:
        return Draws(codes, _resample(cells, rng, size), n_groups, n, np.unique(cells).size)
    _, block = np.unique(blocks, return_inverse=True)
    _, cell = np.unique(cells, return_inverse=True)
    makeup = np.zeros((block.max() + 1, cell.max() + 1), dtype=np.int32)
    np.add.at(makeup, (block, cell), 1)
    _, kind, times = np.unique(makeup, axis=0, return_inverse=True, return_counts=True)
    alone = (times[kind.ravel()] < 2).mean()
    strata = kind.ravel() if alone < 0.5 else np.zeros(len(makeup), dtype=int)
    weights = _resample(strata, rng, size)[:, block]
    return Draws(codes, weights, n_groups, len(makeup), np.unique(strata).size)


def _resample(strata: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return weights (size, n): each stratum is drawn from itself, as many as it has."""
    weights = np.empty((size, strata.size), dtype=np.int16)
    rows = np.arange(size)[:, None]
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        m = members.size
        chosen = rng.integers(0, m, (size, m)) + rows * m
        weights[:, members] = np.bincount(chosen.ravel(), minlength=size * m).reshape(size, m)
    return weights
