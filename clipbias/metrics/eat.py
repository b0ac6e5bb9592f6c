"""What an association test counts in each draw: which targets are X and Y, which attributes are A and B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipbias.metrics.draws import bootstrap, permuted


@dataclass(frozen=True, eq=False)
class AssociationTally:
    """Cosines of targets (T) with attributes (M) and, per draw, how often each counts on which side.

    Attributes
    ----------
    cosine : ndarray (T, M)
    x, y : ndarray (D, T)
        Weight of each target in X and in Y.
    a, b : ndarray (D, M)
        Weight of each attribute in A and in B.
    """

    cosine: np.ndarray
    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    factor: float = 1.0

    @property
    def effect(self) -> np.ndarray:
        """WEAT effect size, (D, 1); NaN where all targets associate alike."""
        mean_a = (self.a @ self.cosine.T) / self.a.sum(1, keepdims=True)
        mean_b = (self.b @ self.cosine.T) / self.b.sum(1, keepdims=True)
        s = mean_a - mean_b
        gap = _mean(self.x, s) - _mean(self.y, s)
        return (gap / _sd(self.x + self.y, s))[:, None]

    @property
    def word_effect(self) -> np.ndarray:
        """SC-WEAT effect size of each single target, (D, T)."""
        both = self.a + self.b
        gap = (self.a @ self.cosine.T) / self.a.sum(1, keepdims=True)
        gap = gap - (self.b @ self.cosine.T) / self.b.sum(1, keepdims=True)
        n = both.sum(1, keepdims=True)
        mean = (both @ self.cosine.T) / n
        square = (both @ (self.cosine**2).T) / n
        variance = (square - mean**2) * n / (n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(variance > 1e-14, gap / np.sqrt(np.maximum(variance, 1e-14)), np.nan)


def _mean(weight: np.ndarray, s: np.ndarray) -> np.ndarray:
    return (weight * s).sum(1) / weight.sum(1)


def _sd(weight: np.ndarray, s: np.ndarray) -> np.ndarray:
    mean = _mean(weight, s)[:, None]
    variance = (weight * (s - mean) ** 2).sum(1) / (weight.sum(1) - 1)
    return np.where(variance > 1e-24, np.sqrt(np.maximum(variance, 1e-24)), np.nan)


def effect_draws(sets: Mapping[str, np.ndarray], kind: str, *, size: int, seed: int) -> AssociationTally:
    """Return the tally of unit-length sets A, B and X, Y (or W).

    Permutations exchange members of X and Y (of A and B for single targets); the bootstrap resamples every
    set, since each is a sample of what could have been shown.
    """
    a_b = np.concatenate([sets["A"], sets["B"]])
    attribute = np.repeat([0, 1], [len(sets["A"]), len(sets["B"])]).astype(np.int16)
    single = "W" in sets
    targets = sets["W"] if single else np.concatenate([sets["X"], sets["Y"]])
    target = np.repeat([0, 1], [len(targets), 0] if single else [len(sets["X"]), len(sets["Y"])]).astype(
        np.int16
    )
    factor, once = 1.0, np.ones((1, 1))
    t, m, t_codes, m_codes = once, once, target[None], attribute[None]
    if kind == "permuted" and single:
        m_codes = permuted(attribute, 2, size=size, seed=seed).codes
    elif kind == "permuted":
        t_codes = permuted(target, 2, size=size, seed=seed).codes
    elif kind == "bootstrap":
        drawn = bootstrap(attribute, 2, size=size, seed=seed)
        m, factor = np.asarray(drawn.weights, dtype=float), drawn.small_sample_factor
        if not single:  # another seed: targets and attributes are drawn independently of each other
            t = np.asarray(bootstrap(target, 2, size=size, seed=seed + 1).weights, dtype=float)
    return AssociationTally(
        targets @ a_b.T,
        t * (t_codes == 0),
        t * (t_codes == 1),
        m * (m_codes == 0),
        m * (m_codes == 1),
        factor,
    )
