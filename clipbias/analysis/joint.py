"""Many correlations over the same models, under common permutations and common bootstrap draws.

Cells (metric x attribute x view x task) are measured on the same models and are correlated, so pooling them as
independent studies rejects a true null in half of all cases. Here the labels of the models are permuted once for all
cells together: the mean of Fisher's z and the largest of all cells get a p that keeps the dependence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, rankdata

from clipbias.analysis.coefficients import check_method
from clipbias.analysis.partial import degrees, design, family_indicators, residuals
from clipbias.analysis.permutations import EXACT_LIMIT, orders, two_sided
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return adjusted p-values (Benjamini & Hochberg 1995); NaN stays NaN and does not count as a test."""
    p = np.asarray(p, float)
    out = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        out[known] = false_discovery_control(p[known], method="bh")
    return out


@dataclass(frozen=True)
class Joint(Shown):
    """Correlations of many cells under common permutations of the models.

    Attributes
    ----------
    estimates, p_values : ndarray, shape (cells,)
        NaN where a cell has fewer than 4 models or a constant side.
    p_max : ndarray, shape (cells,)
        Adjusted for all cells by the distribution of the largest (Westfall & Young).
    q_values : ndarray, shape (cells,)
        Benjamini-Hochberg.
    n : ndarray of int, shape (cells,)
        Models in each cell.
    mean_z : float
        Mean over cells of Fisher's z.
    mean_sd : float
        Standard deviation of ``mean_z`` over the permutations: its error where nothing is related, with what the cells share.
    mean_p, any_p : float
        p of the mean over cells, and of the largest cell.
    exact : bool
    """

    estimates: np.ndarray
    p_values: np.ndarray
    p_max: np.ndarray
    q_values: np.ndarray
    n: np.ndarray
    mean_z: float
    mean_sd: float
    mean_p: float
    any_p: float
    exact: bool


def _columns(values: np.ndarray, z: np.ndarray, *, ranks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return columns with zeros for missing values (ranked and residualised where present) and the mask."""
    known = np.isfinite(values)
    out = np.zeros(values.shape)
    if z.shape[1] and ranks:
        z = rankdata(z, axis=0)
    for rows in np.unique(known, axis=1).T:  # columns known for the same models at once
        same = np.flatnonzero((known == rows[:, None]).all(0))
        if rows.sum() < 4:
            continue
        whole = values[np.ix_(rows, same)]
        left = residuals(rankdata(whole, axis=0) if ranks else whole, z[rows])
        spread = np.linalg.norm(left, axis=0)
        keep = spread > 1e-9 * np.maximum(1e-300, np.linalg.norm(whole, axis=0))
        out[np.ix_(rows, same[keep])] = left[:, keep] / spread[keep]
    return out, known


def _cell(
    x: np.ndarray, y: np.ndarray, known_x: np.ndarray, known_y: np.ndarray, order: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return correlations and numbers of models under every order."""
    moved = y[order]
    if known_x.all() and known_y.all():
        # What the controls explain of the permuted residuals is taken out again (Freedman & Lane).
        lost = np.square(moved @ q).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return moved @ x / np.sqrt(np.maximum(1 - lost, 0)), np.full(len(order), len(x))
    here = known_y[order].astype(float)
    mask = known_x.astype(float)
    count = here @ mask
    sum_x, square_x = here @ x, here @ (x * x)
    sum_y, square_y = moved @ mask, (moved * moved) @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        cross = moved @ x - sum_x * sum_y / count
        spread = np.sqrt((square_x - sum_x**2 / count) * (square_y - sum_y**2 / count))
        return np.where(spread > 1e-12, cross / spread, np.nan), count


def joint_permutation(
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str = "spearman",
    controls: object = None,
    families: Sequence | None = None,
    resamples: int = 9999,
    seed: int = 0,
    exact_limit: int = EXACT_LIMIT,
) -> Joint:
    """Correlate columns of x with columns of y and judge all of them together.

    Parameters
    ----------
    x, y : ndarray, shape (models, cells)
        Column j of x goes with column j of y; missing values are NaN. Higher must mean more bias in every column,
        or a mean over cells means nothing.
    method : {"spearman", "pearson"}
    controls : DataFrame, mapping or array, optional
        Partialled out of every column (Freedman-Lane).
    families : sequence, optional
        What families differ by is partialled out and labels are permuted within them.
    resamples, seed : int
    exact_limit : int
        Largest number of orders that is enumerated.

    Returns
    -------
    Joint

    Raises
    ------
    DataError
        Different shapes, or Kendall's coefficient, which has no joint form here.
    StatusError
        Fewer than 4 models.
    """
    check_method(method)
    if method == "kendall":
        raise DataError("the joint permutation is offered for spearman and pearson.")
    x, y = np.atleast_2d(np.asarray(x, float)), np.atleast_2d(np.asarray(y, float))
    if x.shape != y.shape:
        raise DataError(f"x has shape {x.shape} and y {y.shape}: models by cells, column by column.")
    n, cells = x.shape
    if n < 4:
        raise StatusError("too few models", f"{n} models; at least 4 are needed for a correlation.")
    z = blocked(design(controls, n)[0], families)
    if not np.isfinite(z).all():
        raise DataError("controls have missing values; leave those models out or the control.")
    drawn = orders(n, families=families, resamples=resamples, seed=seed, limit=exact_limit)
    ranks = method == "spearman"
    a, known_a = _columns(x, z, ranks=ranks)
    b, known_b = _columns(y, z, ranks=ranks)
    q = _basis(rankdata(z, axis=0) if ranks and z.size else z)
    k = degrees(z)
    estimates, p_values = np.full(cells, np.nan), np.full(cells, np.nan)
    counts = (known_a & known_b).sum(0)
    largest, total = np.zeros(len(drawn.indices)), np.zeros(len(drawn.indices))
    seen = np.full(cells, np.nan)
    for j in range(cells):
        if counts[j] < 4 + k or not a[:, j].any() or not b[:, j].any():
            continue
        values, number = _cell(a[:, j], b[:, j], known_a[:, j], known_b[:, j], drawn.indices, q)
        estimates[j] = min(1.0, max(-1.0, values[0]))
        p_values[j] = two_sided(values, values[0])
        fisher = np.arctanh(np.clip(np.nan_to_num(values), -1 + 1e-9, 1 - 1e-9))
        total += fisher
        scaled = np.abs(fisher) * np.sqrt(np.maximum(number - 3 - k, 1))
        seen[j] = scaled[0]
        np.maximum(largest, scaled, out=largest)
    used = np.isfinite(estimates)
    p_max = np.array([np.mean(largest >= s - 1e-9) if np.isfinite(s) else np.nan for s in seen])
    mean = total / used.sum() if used.any() else np.array([np.nan])
    return Joint(
        estimates,
        p_values,
        p_max,
        benjamini_hochberg(p_values),
        counts,
        float(mean[0]),
        float(mean.std()),
        two_sided(mean, float(mean[0])),
        float(np.nanmin(p_max)) if used.any() else float("nan"),
        drawn.exact,
    )


def blocked(z: np.ndarray, families: Sequence | np.ndarray | None) -> np.ndarray:
    """Return control columns with one for each family but the first, unless all models are of one or of their own."""
    if families is None or len(set(map(str, families))) in (1, len(z)):
        return z
    return np.column_stack([family_indicators(families), z])


def _basis(z: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span a constant and the controls."""
    u, s, _ = np.linalg.svd(np.column_stack([np.ones(len(z)), z]), full_matrices=False)
    return u[:, s > 1e-10 * s[0]]
