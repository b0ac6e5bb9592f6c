"""Whether an effect is the same everywhere: heterogeneity over cells, and global against local (Simpson)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.analysis.coefficients import coefficient
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError


@dataclass(frozen=True)
class Heterogeneity(Shown):
    """Cochran's Q and what follows from it.

    Attributes
    ----------
    q, p_value : float
        p from chi-squared when the estimates are independent, from the bootstrap otherwise.
    i2 : float
        Share of the variation beyond sampling error, in [0, 1] (Higgins & Thompson 2002).
    tau2 : float
        Variance between the true effects (DerSimonian & Laird).
    mean, mean_error : float
        Random-effects mean, with an error that holds for independent estimates only.
    low, high : float
        95 % prediction interval for a new effect; NaN below 3 estimates.
    k : int
    dependent : bool
        Whether the p allows for estimates that share their models.
    """

    q: float
    p_value: float
    i2: float
    tau2: float
    mean: float
    mean_error: float
    low: float
    high: float
    k: int
    dependent: bool


def heterogeneity(
    estimates: np.ndarray, errors: np.ndarray, *, draws: np.ndarray | None = None
) -> Heterogeneity:
    """Test whether estimates differ more than their errors allow.

    Parameters
    ----------
    estimates, errors : ndarray, shape (k,)
        For correlations, Fisher's z and its standard error.
    draws : ndarray, shape (B, k), optional
        Bootstrap draws of all estimates together (the same models drawn for all). Estimates from the same
        models are correlated and Q is then not chi-squared: its null comes from the centred draws.

    Returns
    -------
    Heterogeneity

    Raises
    ------
    DataError
        Shapes that do not fit.
    StatusError
        Fewer than 2 estimates with a positive error.
    """
    y, se = np.asarray(estimates, float), np.asarray(errors, float)
    if y.shape != se.shape or y.ndim != 1:
        raise DataError(f"{y.shape} estimates and {se.shape} errors.")
    keep = np.isfinite(y) & np.isfinite(se) & (se > 0)
    y, se = y[keep], se[keep]
    k = len(y)
    if k < 2:
        raise StatusError("too few estimates", f"{k} estimates with an error; at least 2 are needed.")
    w = 1 / se**2

    def cochran(values: np.ndarray) -> np.ndarray:
        centre = (values * w).sum(-1, keepdims=True) / w.sum()
        return (w * (values - centre) ** 2).sum(-1)

    q = float(cochran(y))
    if draws is None:
        p = float(stats.chi2.sf(q, k - 1))
    else:
        moved = np.asarray(draws, float)[:, keep] - y
        moved = moved[np.isfinite(moved).all(1)]
        p = float((1 + np.sum(cochran(moved) >= q)) / (1 + len(moved)))
    left = float(w.sum() - (w**2).sum() / w.sum())
    # One estimate that is exact to the last bit outweighs all others: nothing is left to vary between them.
    tau2 = max(0.0, (q - (k - 1)) / left) if left > 0 else 0.0
    random = 1 / (se**2 + tau2)
    mean = float((random * y).sum() / random.sum())
    error = float(1 / math.sqrt(random.sum()))
    low = high = math.nan
    if k >= 3:
        width = stats.t.ppf(0.975, k - 2) * math.sqrt(tau2 + error**2)
        low, high = mean - width, mean + width
    i2 = max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0
    return Heterogeneity(q, p, i2, tau2, mean, error, low, high, k, draws is not None)


@dataclass(frozen=True)
class Split(Shown):
    """Correlation in all, between groups and within groups.

    Attributes
    ----------
    total, between, within : float
        ``total = eta_x eta_y between + sqrt(1-eta_x^2) sqrt(1-eta_y^2) within`` holds exactly.
    eta_x, eta_y : float
        Share of each side's spread that lies between groups, in [0, 1].
    groups, n : int
    reversed : bool
        Whether between and within have opposite signs, both beyond 0.1 (Simpson's paradox).
    """

    total: float
    between: float
    within: float
    eta_x: float
    eta_y: float
    groups: int
    n: int

    @property
    def reversed(self) -> bool:
        """Whether the direction within groups is opposite to that between them."""
        return self.between * self.within < 0 and min(abs(self.between), abs(self.within)) > 0.1


def split_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Split:
    """Split a pooled Pearson correlation into its part between and its part within groups.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    groups : array-like, shape (n,)
        Subset, attribute or family of each value.

    Returns
    -------
    Split
        ``between`` or ``within`` is NaN where a side does not vary there.

    Raises
    ------
    DataError
        Different lengths.
    StatusError
        Fewer than 3 pairs of values or a constant side.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    labels = np.asarray([str(g) for g in groups])
    if not len(x) == len(y) == len(labels):
        raise DataError(f"{len(x)} and {len(y)} values for {len(labels)} group labels.")
    keep = np.isfinite(x) & np.isfinite(y)
    names, place = np.unique(labels[keep], return_inverse=True)
    sides = np.stack([x[keep], y[keep]])
    n = sides.shape[1]
    total = float(coefficient(*sides, method="pearson")) if n >= 3 else math.nan
    if not math.isfinite(total):
        raise StatusError("constant column", f"{n} pairs of values, or a side without variation.")
    sides = sides - sides.mean(1, keepdims=True)
    size = np.bincount(place)
    means = np.stack([(np.bincount(place, weights=v) / size)[place] for v in sides])
    rest = sides - means
    spread = np.square(sides).sum(1)
    share = np.sqrt(np.square(means).sum(1) / spread)

    def inner(part: np.ndarray) -> float:
        a, b = part - part.mean(1, keepdims=True)
        norm = math.sqrt(float((a @ a) * (b @ b)))
        return float(a @ b) / norm if norm > 1e-12 * math.sqrt(float(spread.prod())) else math.nan

    return Split(total, inner(means), inner(rest), float(share[0]), float(share[1]), len(names), n)


@dataclass(frozen=True)
class Within(Shown):
    """Correlation over concepts inside each model, and its mean over models.

    Attributes
    ----------
    models : DataFrame
        ``model, n, estimate``.
    mean : float
        tanh of the mean Fisher z.
    ci_low, ci_high : float
        t interval over models.
    p_value : float
        Two-sided sign flip over models.
    unit : str
    """

    models: pd.DataFrame
    mean: float
    ci_low: float
    ci_high: float
    p_value: float
    unit: str


def within_models(
    x: pd.DataFrame,
    y: pd.DataFrame,
    *,
    method: str = "spearman",
    unit: str = "concepts within models",
    seed: int = 0,
) -> Within:
    """Correlate over concepts within each model: another question than over models, with another answer.

    Parameters
    ----------
    x, y : DataFrame
        Rows are models, columns are concepts.
    method : {"spearman", "pearson", "kendall"}
    unit : str
    seed : int

    Returns
    -------
    Within

    Raises
    ------
    DataError
        No shared model or fewer than 4 shared concepts.
    """
    from clipbias.analysis.swap import sign_flips

    models, concepts = x.index.intersection(y.index), x.columns.intersection(y.columns)
    if len(models) == 0:
        raise DataError("no model is in both tables.")
    if len(concepts) < 4:
        raise DataError(f"{len(concepts)} concepts are in both tables; at least 4 are needed.")
    a, b = (t.loc[models, concepts].to_numpy(float) for t in (x, y))
    rows = []
    for model, u, v in zip(models, a, b, strict=True):
        keep = np.isfinite(u) & np.isfinite(v)
        value = float(coefficient(u[keep], v[keep], method=method)) if keep.sum() >= 4 else math.nan
        rows.append({"model": model, "n": int(keep.sum()), "estimate": value})
    frame = pd.DataFrame(rows)
    z = np.arctanh(np.clip(frame["estimate"].dropna().to_numpy(), -1 + 1e-9, 1 - 1e-9))
    if len(z) == 0:
        raise DataError("no model has a correlation over concepts.")
    width = stats.t.ppf(0.975, len(z) - 1) * z.std(ddof=1) / math.sqrt(len(z)) if len(z) > 1 else math.nan
    flips = np.abs(sign_flips(len(z), seed=seed) @ z)
    p = float(np.mean(flips >= abs(z.sum()) - 1e-12))
    return Within(
        frame, math.tanh(z.mean()), math.tanh(z.mean() - width), math.tanh(z.mean() + width), p, unit
    )
