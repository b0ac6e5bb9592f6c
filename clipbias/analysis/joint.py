"""Many correlations over the same models, under common permutations and common bootstrap draws.

Cells (metric x attribute x view x task) are measured on the same models and are correlated, so pooling them as
independent studies rejects a true null in half of all cases. Here the labels of the models are permuted once for all
cells together: the mean of Fisher's z and the largest of all cells get a p that keeps the dependence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import false_discovery_control, rankdata

from clipbias.analysis.coefficients import check_method, coefficient, standardise
from clipbias.analysis.partial import design, residuals
from clipbias.analysis.permutations import orders, two_sided
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
    mean_p: float
    any_p: float
    exact: bool


def _columns(values: np.ndarray, z: np.ndarray, *, ranks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return columns with zeros for missing values (ranked and residualised where present) and the mask."""
    known = np.isfinite(values)
    out = np.zeros(values.shape)
    if z.shape[1] and ranks:
        z = rankdata(z, axis=0)
    for j in range(values.shape[1]):
        rows = known[:, j]
        if rows.sum() < 4:
            continue
        column = values[rows, j]
        column = rankdata(column) if ranks else column
        column = residuals(column, z[rows])
        spread = np.linalg.norm(column)
        if spread > 1e-9 * max(1e-300, float(np.linalg.norm(values[rows, j]))):
            out[rows, j] = column / spread
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
        Labels are permuted within families.
    resamples, seed : int

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
    z, _ = design(controls, n)
    if not np.isfinite(z).all():
        raise DataError("controls have missing values; leave those models out or the control.")
    drawn = orders(n, families=families, resamples=resamples, seed=seed)
    ranks = method == "spearman"
    a, known_a = _columns(x, z, ranks=ranks)
    b, known_b = _columns(y, z, ranks=ranks)
    q = np.linalg.qr(np.column_stack([np.ones(n), rankdata(z, axis=0) if ranks and z.size else z]))[0]
    k = z.shape[1]
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
        two_sided(mean, float(mean[0])),
        float(np.nanmin(p_max)) if used.any() else float("nan"),
        drawn.exact,
    )


def bootstrap_cells(
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str = "spearman",
    families: Sequence | None = None,
    resamples: int = 499,
    seed: int = 0,
) -> np.ndarray:
    """Return Fisher's z of every cell in bootstrap draws of the models, the same draw for all cells.

    Parameters
    ----------
    x, y : ndarray, shape (models, cells)
    method : {"spearman", "pearson"}
    families : sequence, optional
        Whole families are drawn.
    resamples, seed : int

    Returns
    -------
    ndarray, shape (resamples, cells)
        NaN where a draw has no spread or fewer than 4 models.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(len(x)) if families is None else np.asarray([str(f) for f in families])
    groups = [np.flatnonzero(labels == f) for f in dict.fromkeys(labels.tolist())]
    ranks = method == "spearman"
    out = np.full((resamples, x.shape[1]), np.nan)
    complete = bool(np.isfinite(x).all() and np.isfinite(y).all())
    for k in range(resamples):
        rows = np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        if complete and len(rows) >= 4:
            r = (standardise(x[rows], ranks=ranks, axis=0) * standardise(y[rows], ranks=ranks, axis=0)).sum(0)
            out[k] = np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))
            continue
        for j in range(x.shape[1]):
            a, b = x[rows, j], y[rows, j]
            keep = np.isfinite(a) & np.isfinite(b)
            if keep.sum() >= 4:
                r = float(coefficient(a[keep], b[keep], method=method))
                out[k, j] = np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))
    return out


@dataclass(frozen=True)
class MeanCorrelation(Shown):
    """The mean over cells of a correlation, judged with all cells together.

    Attributes
    ----------
    estimate : float
        tanh of the mean Fisher z.
    ci_low, ci_high : float
        From the bootstrap error of the mean z over models.
    p_value : float
        Joint permutation.
    equivalence_p, excluded_bound : float
        Of the test that the mean is below the bound, and the smallest bound these data exclude.
    error : float
        Bootstrap standard error of the mean z.
    draws : ndarray, shape (resamples, cells)
    joint : Joint
    """

    estimate: float
    ci_low: float
    ci_high: float
    p_value: float
    equivalence_p: float
    excluded_bound: float
    error: float
    draws: np.ndarray
    joint: Joint

    @property
    def cell_errors(self) -> np.ndarray:
        """Bootstrap standard error of Fisher's z in every cell; NaN where fewer than two draws have a value."""
        known = np.isfinite(self.draws)
        count = known.sum(0)
        values = np.where(known, self.draws, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = values.sum(0) / count
            return np.sqrt(
                np.where(known, (values - mean) ** 2, 0.0).sum(0) / np.where(count > 1, count - 1, np.nan)
            )


def mean_correlation(
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: str = "spearman",
    families: Sequence | None = None,
    controls: object = None,
    bound: float = 0.3,
    alpha: float = 0.05,
    level: float = 0.95,
    resamples: int = 9999,
    bootstrap: int = 499,
    seed: int = 0,
) -> MeanCorrelation:
    """Return the mean correlation over cells that share their models; parameters as `joint_permutation`."""
    joint = joint_permutation(
        x, y, method=method, controls=controls, families=families, resamples=resamples, seed=seed
    )
    if controls is not None:
        z, _ = design(controls, len(x))
        if method == "spearman":
            z, method = rankdata(z, axis=0), "pearson"
            x, y = (_ranked(v) for v in (x, y))
        x, y = (_partial(v, z) for v in (x, y))
    draws = bootstrap_cells(x, y, method=method, families=families, resamples=bootstrap, seed=seed)
    used = np.isfinite(joint.estimates)
    means = np.array([v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in draws[:, used]])
    means = means[np.isfinite(means)]
    error = float(means.std(ddof=1)) if len(means) > bootstrap / 2 else float("nan")
    free = max(len(x) - 2, 1)
    width = stats.t.ppf((1 + level) / 2, free) * error
    limit = np.arctanh(bound)
    equivalence = float(stats.t.sf((limit - abs(joint.mean_z)) / error, free)) if error > 0 else float("nan")
    excluded = float(np.tanh(abs(joint.mean_z) + stats.t.ppf(1 - alpha, free) * error)) if error > 0 else 1.0
    return MeanCorrelation(
        float(np.tanh(joint.mean_z)),
        float(np.tanh(joint.mean_z - width)),
        float(np.tanh(joint.mean_z + width)),
        joint.mean_p,
        equivalence,
        excluded,
        error,
        draws,
        joint,
    )


def _ranked(values: np.ndarray) -> np.ndarray:
    return rankdata(values, axis=0, nan_policy="omit")


def _partial(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    out = np.full(values.shape, np.nan)
    for j in range(values.shape[1]):
        rows = np.isfinite(values[:, j])
        if rows.sum() > z.shape[1] + 2:
            out[rows, j] = residuals(values[rows, j], z[rows])
    return out
