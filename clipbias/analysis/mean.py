"""The mean over cells of a correlation, with an error that keeps what the cells share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import rankdata

from clipbias.analysis.correlate import FEW_FAMILIES
from clipbias.analysis.joint import Joint, blocked, joint_permutation
from clipbias.analysis.partial import degrees, design, residuals
from clipbias.display import Shown

_CHUNK = 2_000_000  # numbers that a chunk of bootstrap draws holds


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
        Whole families are drawn when there are six or more, else models within families, about their means.
    resamples, seed : int

    Returns
    -------
    ndarray, shape (resamples, cells)
        NaN where a draw has no spread or fewer than 4 models.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(len(x)) if families is None else np.asarray([str(f) for f in families])
    groups = [np.flatnonzero(labels == f) for f in dict.fromkeys(labels.tolist())]
    within = 1 < len(groups) < min(FEW_FAMILIES, len(x))
    ranks = method == "spearman"
    known = np.isfinite(x) & np.isfinite(y)
    x, y = (np.where(known, v, np.nan) for v in (x, y))
    out = np.full((resamples, x.shape[1]), np.nan)
    same = within or len({len(g) for g in groups}) == 1  # draws of one length: many at once
    step = max(1, _CHUNK // max(1, x.size)) if same else 1
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = [_draw(groups, within, rng) for _ in range(start, stop)]
        rows = np.stack(drawn)
        sides = [v[rows] for v in (x, y)]
        if within:
            edges = np.cumsum([len(g) for g in groups])[:-1]
            sides = [
                np.concatenate([b - _mean(b) for b in np.split(v, edges, axis=1)], axis=1) for v in sides
            ]
        out[start:stop] = fisher_z(*sides, ranks=ranks)
    return out


def _draw(groups: Sequence[np.ndarray], within: bool, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of one bootstrap draw, of models within groups or of whole groups."""
    if within:
        return np.concatenate([g[rng.integers(0, len(g), len(g))] for g in groups])
    return np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over models of what is known, shape (..., 1, cells)."""
    known = np.isfinite(values)
    if known.all():
        return values.mean(-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(-2, keepdims=True) / known.sum(-2, keepdims=True)


def fisher_z(x: np.ndarray, y: np.ndarray, *, ranks: bool, lost: int = 0) -> np.ndarray:
    """Return Fisher's z of the correlation of every column of x with that of y, over the rows both have.

    Parameters
    ----------
    x, y : ndarray, shape (..., models, cells)
    ranks : bool
    lost : int
        Degrees of freedom that are gone already.

    Returns
    -------
    ndarray, shape (..., cells)
        NaN with fewer than ``4 + lost`` rows or without spread.
    """
    known = np.isfinite(x) & np.isfinite(y)
    complete = bool(known.all())
    sides = []
    for v in (x, y):
        if not complete:
            v = np.where(known, v, np.nan)
        if ranks:
            v = rankdata(v, axis=-2) if complete else rankdata(v, axis=-2, nan_policy="omit")
        size = np.abs(v if complete else np.where(known, v, 0.0)).max(-2)
        v = v - _mean(v)
        if not complete:
            v = np.where(known, v, 0.0)
        norm = np.linalg.norm(v, axis=-2)
        with np.errstate(invalid="ignore", divide="ignore"):
            sides.append(np.where(norm > 1e-9 * size, 1 / norm, np.nan)[..., None, :] * v)
    r = np.where(known.sum(-2) >= 4 + lost, (sides[0] * sides[1]).sum(-2), np.nan)
    return np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))


@dataclass(frozen=True)
class MeanCorrelation(Shown):
    """The mean over cells of a correlation, judged with all cells together.

    Attributes
    ----------
    estimate : float
        tanh of the mean Fisher z.
    ci_low, ci_high : float
        From ``error``, on Fisher's z.
    p_value : float
        Joint permutation.
    equivalence_p, excluded_bound : float
        Of the test that the mean is below the bound, and the smallest bound these data exclude.
    error : float
        Standard error of the mean z: its spread under permuted labels, which holds what the cells share and what
        controls and families take, times sqrt(1 + r^2/2) for Spearman (Bonett & Wright 2000).
    minimum_detectable : float
        True mean that these models would show with 80 % power.
    detectable_bound : float
        The smallest bound that would be confirmed with 80 % power if the mean were zero.
    partialled : int
        Degrees of freedom that controls and families take.
    draws : ndarray, shape (resamples, cells)
        Of the bootstrap, for comparing cells with each other.
    joint : Joint
    """

    estimate: float
    ci_low: float
    ci_high: float
    p_value: float
    equivalence_p: float
    excluded_bound: float
    error: float
    minimum_detectable: float
    detectable_bound: float
    partialled: int
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
    """Return the mean correlation over cells that share their models.

    Parameters
    ----------
    x, y : ndarray, shape (models, cells)
        Column j of x goes with column j of y; missing values are NaN; higher is more bias in every column.
    method, families, controls, resamples, seed
        As `clipbias.analysis.joint.joint_permutation`.
    bound : float
        Largest mean correlation that counts as none.
    alpha, level : float
    bootstrap : int
        Draws of all cells together, for comparing cells with each other.

    Returns
    -------
    MeanCorrelation
        NaN where controls and families leave too few models.

    Raises
    ------
    DataError, StatusError
        As `clipbias.analysis.joint.joint_permutation`.
    """
    joint = joint_permutation(
        x, y, method=method, controls=controls, families=families, resamples=resamples, seed=seed
    )
    ranks = method == "spearman"
    estimate = float(np.tanh(joint.mean_z))
    error = joint.mean_sd * (np.sqrt(1 + estimate**2 / 2) if ranks else 1.0)
    z = blocked(design(controls, len(x))[0], families)
    lost = degrees(z)
    if z.size:
        if ranks:
            z, ranks = rankdata(z, axis=0), False
            x, y = (rankdata(v, axis=0, nan_policy="omit") for v in (x, y))
        x, y = (_partial(v, z) for v in (x, y))
    kind = "spearman" if ranks else "pearson"
    draws = bootstrap_cells(x, y, method=kind, families=families, resamples=bootstrap, seed=seed)
    reach, limit, power = stats.norm.ppf, np.arctanh(bound), 0.8
    null = joint.mean_sd
    seen = abs(joint.mean_z)
    known = error > 0
    return MeanCorrelation(
        estimate=estimate,
        ci_low=float(np.tanh(joint.mean_z - reach((1 + level) / 2) * error)),
        ci_high=float(np.tanh(joint.mean_z + reach((1 + level) / 2) * error)),
        p_value=joint.mean_p,
        equivalence_p=float(stats.norm.sf((limit - seen) / error)) if known else float("nan"),
        excluded_bound=float(np.tanh(seen + reach(1 - alpha) * error)) if known else 1.0,
        error=float(error),
        minimum_detectable=float(np.tanh((reach(1 - alpha / 2) + reach(power)) * null)),
        detectable_bound=float(np.tanh((reach(1 - alpha) + reach((1 + power) / 2)) * null)),
        partialled=lost,
        draws=draws,
        joint=joint,
    )


def _partial(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return what is left of every column after controls, where it is known."""
    known = np.isfinite(values)
    out = np.full(values.shape, np.nan)
    for rows in np.unique(known, axis=1).T:  # columns known for the same models at once
        same = (known == rows[:, None]).all(0)
        if rows.sum() > degrees(z[rows]) + 2:
            out[np.ix_(rows, same)] = residuals(values[np.ix_(rows, same)], z[rows])
    return out
