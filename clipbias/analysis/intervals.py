"""Intervals of a correlation over few models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from clipbias.analysis.coefficients import check_method, coefficient
from clipbias.errors import StatusError


def bonett_wright(
    r: float, n: int, *, method: str = "spearman", level: float = 0.95, controls: int = 0
) -> tuple[float, float]:
    """Return the interval of Bonett & Wright (2000) on Fisher's z.

    Standard errors: Spearman sqrt((1 + r^2/2)/(n-3)), Pearson 1/sqrt(n-3), Kendall sqrt(.437/(n-4)). A perfect
    rank correlation gets the limit of the next lower value that n models can show, instead of a width of 0.

    Parameters
    ----------
    r : float
    n : int
    method : {"spearman", "pearson", "kendall"}
    level : float
    controls : int
        Variables partialled out.

    Returns
    -------
    low, high : float

    Raises
    ------
    StatusError
        Too few models.
    """
    check_method(method)
    free = n - controls - (4 if method == "kendall" else 3)
    if free <= 0:
        raise StatusError("too few models", f"{n} models with {controls} controls leave no interval.")
    if abs(r) >= 1 - 1e-12:
        if method == "pearson":
            return math.copysign(1, r), math.copysign(1, r)
        step = 12 / (n**3 - n) if method == "spearman" else 4 / (n * (n - 1))
        low, _ = bonett_wright(1 - step, n, method=method, level=level, controls=controls)
        return (low, 1.0) if r > 0 else (-1.0, -low)
    factor = {"spearman": 1 + r * r / 2, "pearson": 1.0, "kendall": 0.437}[method]
    width = norm.ppf((1 + level) / 2) * math.sqrt(factor / free)
    return math.tanh(math.atanh(r) - width), math.tanh(math.atanh(r) + width)


def bca(
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str = "spearman",
    level: float = 0.95,
    resamples: int = 1999,
    seed: int = 0,
    families: np.ndarray | None = None,
    within: bool = False,
) -> tuple[float, float, float]:
    """Return the bias-corrected accelerated bootstrap interval over models.

    Resamples without spread have no correlation; they are left out and counted instead of making the
    interval NaN.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    method : {"spearman", "pearson", "kendall"}
    level : float
    resamples : int
    seed : int
    families : ndarray, optional
        Draw whole families of models instead of models.
    within : bool
        Draw models within each family instead, about the family's mean; for families too few to be drawn.

    Returns
    -------
    low, high : float
        NaN when fewer than half of the resamples have a value.
    lost : float
        Share of resamples left out.
    """
    n = len(x)
    rng = np.random.default_rng(seed)
    estimate = float(coefficient(x, y, method=method))
    groups = [] if families is None else _members(families)
    if within and groups:
        draws = np.concatenate([g[rng.integers(0, len(g), (resamples, len(g)))] for g in groups], axis=1)
        boot = coefficient(*(_centred(v[draws], groups) for v in (x, y)), method=method)
        groups = [np.array([i]) for i in range(n)]
    elif families is None:
        draws = rng.integers(0, n, (resamples, n))
        boot = coefficient(x[draws], y[draws], method=method)
        groups = [np.array([i]) for i in range(n)]
    else:
        chosen = rng.integers(0, len(groups), (resamples, len(groups)))
        if len({len(g) for g in groups}) == 1:
            draws = np.array(groups)[chosen].reshape(resamples, n)
            boot = coefficient(x[draws], y[draws], method=method)
        else:  # draws of unequal length
            rows = (np.concatenate([groups[g] for g in one]) for one in chosen)
            boot = np.array([float(coefficient(x[r], y[r], method=method)) for r in rows])
    keep = np.isfinite(boot)
    lost = 1 - keep.mean()
    if lost > 0.5 or not np.isfinite(estimate):
        return float("nan"), float("nan"), float(lost)
    boot = np.sort(boot[keep])
    below = (np.sum(boot < estimate - 1e-12) + np.sum(np.abs(boot - estimate) <= 1e-12) / 2) / len(boot)
    shift = norm.ppf(np.clip(below, 1 / (2 * len(boot)), 1 - 1 / (2 * len(boot))))
    left = np.array([float(coefficient(np.delete(x, g), np.delete(y, g), method=method)) for g in groups])
    left = left[np.isfinite(left)]
    centred = left.mean() - left if len(left) else np.zeros(1)
    spread = (centred**2).sum()
    acceleration = (centred**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = norm.ppf([(1 - level) / 2, (1 + level) / 2])
    position = norm.cdf(shift + (shift + z) / (1 - acceleration * (shift + z)))
    low, high = np.quantile(boot, position)
    return float(low), float(high), float(lost)


def _members(families: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(families == f) for f in dict.fromkeys(families.tolist())]


def _centred(draws: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return draws, whose columns run family by family, less the mean of each family."""
    parts = np.split(draws, np.cumsum([len(g) for g in groups])[:-1], axis=1)
    return np.concatenate([p - p.mean(1, keepdims=True) for p in parts], axis=1)
