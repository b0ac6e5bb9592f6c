"""Orders of model labels: all of them when they are few, a seeded sample otherwise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EXACT_LIMIT = 400_000


@dataclass(frozen=True)
class Orders:
    """Permutations of 0..n-1; the first is the identity.

    Attributes
    ----------
    indices : ndarray of int, shape (B, n)
    exact : bool
        Whether these are all permutations. In a sample the identity counts as one draw, which gives the
        usual (1 + count) / (1 + draws).
    """

    indices: np.ndarray
    exact: bool


@lru_cache(maxsize=16)
def _all_orders(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))), np.int64).reshape(-1, n)


def orders(
    n: int,
    *,
    families: Sequence | None = None,
    resamples: int = 9999,
    seed: int = 0,
    limit: int = EXACT_LIMIT,
) -> Orders:
    """Return permutations of n labels, within families when these are given.

    Parameters
    ----------
    n : int
    families : sequence, optional
        Label of each position; only positions of the same family are exchanged.
    resamples : int
        Random orders when there are more than ``limit`` in all.
    seed : int
    limit : int
        Largest number of orders that is enumerated.

    Returns
    -------
    Orders
    """
    labels = None if families is None else tuple(str(f) for f in families)
    return _orders(n, labels, resamples, seed, limit)


@lru_cache(maxsize=4)  # many cells over the same models ask for the same orders
def _orders(n: int, families: tuple[str, ...] | None, resamples: int, seed: int, limit: int) -> Orders:
    groups = [np.arange(n)] if families is None else _positions(families)
    total = math.prod(math.factorial(len(g)) for g in groups)
    identity = np.arange(n)
    if total <= limit:
        found = identity[None, :]
        for group in groups:
            if len(group) < 2:
                continue
            moves = group[_all_orders(len(group))]
            found = np.repeat(found, len(moves), axis=0)
            found[:, group] = np.tile(moves, (len(found) // len(moves), 1))
        found.setflags(write=False)
        return Orders(found, True)
    rng = np.random.default_rng(seed)
    found = np.tile(identity, (resamples + 1, 1))
    for group in groups:
        found[1:, group] = rng.permuted(np.tile(group, (resamples, 1)), axis=1)
    found.setflags(write=False)
    return Orders(found, False)


def _positions(families: Sequence) -> list[np.ndarray]:
    labels = np.asarray([str(f) for f in families])
    return [np.flatnonzero(labels == f) for f in dict.fromkeys(labels.tolist())]


def two_sided(values: np.ndarray, observed: float) -> float:
    """Return the share of permuted values at least as far from zero as the observed one.

    The observed order is among them, so the share is never zero. NaN values (a resample without spread)
    do not count.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0 or not np.isfinite(observed):
        return float("nan")
    return float(np.mean(np.abs(values) >= abs(observed) - 1e-12))
