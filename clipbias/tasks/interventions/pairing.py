"""Who an example is mixed with."""

from __future__ import annotations

import numpy as np


def partners(labels: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return for each item one of the pool of the same class, drawn at random: positions in the pool, int (n,).

    A class that the pool lacks gets any of the pool.
    """
    labels, pool = np.asarray(labels), np.asarray(pool)
    out = rng.integers(0, len(pool), len(labels))
    for label in np.unique(labels):
        mine, there = np.flatnonzero(labels == label), np.flatnonzero(pool == label)
        if len(there):
            out[mine] = rng.choice(there, len(mine))
    return out
