"""How far a bias metric repeats itself, and what noise does to a correlation.

A metric that does not agree with itself on other images or other prompts can not agree with another one: the
largest correlation that two metrics can show is the root of the product of their reliabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipbias.analysis.coefficients import coefficient
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError

ADMISSIBLE = 0.5


@dataclass(frozen=True)
class Reliability(Shown):
    """Split-half reliability of a metric over models.

    Attributes
    ----------
    half : float
        Mean correlation over models between the two halves of the items.
    value : float
        For all items: Spearman-Brown, 2r / (1 + r) with the mean half correlation.
    ci_low, ci_high : float
        Percentiles over bootstrap draws of models.
    models, items, splits : int
    """

    half: float
    value: float
    ci_low: float
    ci_high: float
    models: int
    items: int
    splits: int


def spearman_brown(r: float, *, factor: float = 2.0) -> float:
    """Return the reliability of a test ``factor`` times as long: factor r / (1 + (factor - 1) r)."""
    below = 1 + (factor - 1) * r
    return (
        factor * r / below if below > 0 else math.nan
    )  # halves that contradict each other have no reliability


def _items(items: object) -> np.ndarray:
    values = np.asarray(items, float)
    if values.ndim != 2:
        raise DataError(f"shape {values.shape} is not (models, items).")
    if values.shape[0] < 4 or values.shape[1] < 2:
        raise StatusError(
            "too few items",
            f"{values.shape[0]} models and {values.shape[1]} items; at least 4 and 2 are needed.",
        )
    return values


def _halves(
    values: np.ndarray, statistic: Callable[..., np.ndarray], splits: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the statistic on both halves, shape (splits, 2, models)."""
    count = values.shape[1]
    orders = np.argsort(rng.random((splits, count)), axis=1)
    return np.array(
        [
            [statistic(values[:, o[: count // 2]], axis=1), statistic(values[:, o[count // 2 :]], axis=1)]
            for o in orders
        ]
    )


def reliability(
    items: object,
    *,
    statistic: Callable[..., np.ndarray] = np.nanmean,
    method: str = "pearson",
    splits: int = 200,
    bootstrap: int = 500,
    seed: int = 0,
) -> Reliability:
    """Return the split-half reliability of a metric made of items (images or prompts).

    Parameters
    ----------
    items : array-like, shape (models, items)
        The metric's value on each image or prompt.
    statistic : callable
        Takes (values, axis=1) and makes the metric of a set of items.
    method : {"pearson", "spearman", "kendall"}
    splits : int
        Random halves.
    bootstrap, seed : int

    Returns
    -------
    Reliability

    Raises
    ------
    DataError
        Not two-dimensional.
    StatusError
        Fewer than 4 models or 2 items, or no spread over models.
    """
    values = _items(items)
    rng = np.random.default_rng(seed)
    halves = _halves(values, statistic, splits, rng)
    each = coefficient(halves[:, 0], halves[:, 1], method=method)
    if not np.isfinite(each).any():
        raise StatusError("constant column", "the models do not differ on the items.")
    half = float(np.nanmean(each))
    draws = []
    for _ in range(bootstrap):
        rows = rng.integers(0, len(values), len(values))
        some = halves[rng.integers(0, splits, min(splits, 20))][:, :, rows]
        r = coefficient(some[:, 0], some[:, 1], method=method)
        if np.isfinite(r).any():
            draws.append(spearman_brown(float(np.nanmean(r))))
    low, high = np.nanquantile(draws, [0.025, 0.975]) if len(draws) > bootstrap / 2 else (math.nan, math.nan)
    return Reliability(
        half, spearman_brown(half), float(low), float(high), values.shape[0], values.shape[1], splits
    )


def icc(table: object) -> dict[str, float]:
    """Return the intraclass correlations of Shrout & Fleiss (1979).

    Parameters
    ----------
    table : array-like, shape (models, replicates)
        The same metric on each model, measured on several random image sets or prompts.

    Returns
    -------
    dict of float
        ``ICC1, ICC2, ICC3`` for one replicate and ``ICC1k, ICC2k, ICC3k`` for the mean of all; at most 1, and
        negative where models differ less than replicates.

    Raises
    ------
    DataError
        Not two-dimensional, or missing values.
    StatusError
        Fewer than 2 models or replicates, or no variation.
    """
    x = np.asarray(table, float)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError("the table must be (models, replicates) without missing values.")
    n, k = x.shape
    if n < 2 or k < 2:
        raise StatusError(
            "too few replicates", f"{n} models and {k} replicates; at least 2 of both are needed."
        )
    grand = x.mean()
    rows = k * ((x.mean(1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((x.mean(0) - grand) ** 2).sum() / (k - 1)
    total = ((x - grand) ** 2).sum()
    within = (total - rows * (n - 1)) / (n * (k - 1))
    error = (total - rows * (n - 1) - columns * (k - 1)) / ((n - 1) * (k - 1))
    if total <= 1e-24 * max(1.0, grand**2) * x.size or rows == 0:
        raise StatusError("constant column", "the models do not differ.")
    return {
        "ICC1": (rows - within) / (rows + (k - 1) * within),
        "ICC2": (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n),
        "ICC3": (rows - error) / (rows + (k - 1) * error),
        "ICC1k": (rows - within) / rows,
        "ICC2k": (rows - error) / (rows + (columns - error) / n),
        "ICC3k": (rows - error) / rows,
    }


@dataclass(frozen=True)
class Disattenuated(Shown):
    """A correlation corrected for unreliability.

    Attributes
    ----------
    observed, corrected : float
        ``corrected`` may exceed 1 by sampling error and is never clamped; NaN where not admissible.
    ci_low, ci_high : float
        Percentiles over bootstrap draws of models, with both reliabilities estimated anew in each.
    reliability_x, reliability_y : float
    ceiling : float
        Largest correlation that these two metrics can show, root of the product of the reliabilities.
    admissible : bool
        Whether both reliabilities are above 0.5.
    reason : str
    """

    observed: float
    corrected: float
    ci_low: float
    ci_high: float
    reliability_x: float
    reliability_y: float
    ceiling: float
    admissible: bool
    reason: str


def disattenuate(
    x_items: object,
    y_items: object,
    *,
    statistic: Callable[..., np.ndarray] = np.nanmean,
    method: str = "pearson",
    splits: int = 50,
    bootstrap: int = 500,
    seed: int = 0,
) -> Disattenuated:
    """Return the correlation of two metrics corrected for attenuation, r / sqrt(rel_x rel_y), with an interval.

    Parameters
    ----------
    x_items, y_items : array-like, shapes (models, items_x) and (models, items_y)
        The same models in the same order.
    statistic, method, splits, bootstrap, seed
        As `reliability`.

    Returns
    -------
    Disattenuated
        The correction is given only where both reliabilities exceed 0.5: below, it is mostly noise (19 % of
        corrected values exceeded 1 in the simulation this rule comes from).

    Raises
    ------
    DataError
        Different numbers of models.
    StatusError
        As `reliability`.
    """
    x, y = _items(x_items), _items(y_items)
    if len(x) != len(y):
        raise DataError(f"{len(x)} and {len(y)} models.")
    rng = np.random.default_rng(seed)
    parts = [_halves(v, statistic, splits, rng) for v in (x, y)]
    whole = [statistic(v, axis=1) for v in (x, y)]

    def estimate(rows: np.ndarray, some: slice | np.ndarray) -> tuple[float, float, float]:
        r = float(coefficient(whole[0][rows], whole[1][rows], method=method))
        halves = [
            np.nanmean(coefficient(p[some][:, 0][:, rows], p[some][:, 1][:, rows], method=method))
            for p in parts
        ]
        return r, *(spearman_brown(float(h)) for h in halves)  # type: ignore[return-value]

    observed, rel_x, rel_y = estimate(np.arange(len(x)), slice(None))
    if not all(map(math.isfinite, (observed, rel_x, rel_y))):
        raise StatusError("constant column", "the models do not differ on the items.")
    product = rel_x * rel_y
    ceiling = math.sqrt(product) if rel_x > 0 and rel_y > 0 else 0.0
    admissible = rel_x > ADMISSIBLE and rel_y > ADMISSIBLE
    if not admissible:
        reason = f"reliabilities {rel_x:.2f} and {rel_y:.2f}: both must exceed {ADMISSIBLE} for a correction"
        return Disattenuated(observed, math.nan, math.nan, math.nan, rel_x, rel_y, ceiling, False, reason)
    draws = []
    with np.errstate(all="ignore"):
        for _ in range(bootstrap):
            r, a, b = estimate(rng.integers(0, len(x), len(x)), rng.integers(0, splits, min(splits, 20)))
            if math.isfinite(r) and a > 0 and b > 0:
                draws.append(r / math.sqrt(a * b))
    low, high = np.nanquantile(draws, [0.025, 0.975]) if len(draws) > bootstrap / 2 else (math.nan, math.nan)
    reason = "above 1 by sampling error" if abs(observed) > ceiling else ""
    return Disattenuated(
        observed, observed / ceiling, float(low), float(high), rel_x, rel_y, ceiling, True, reason
    )
