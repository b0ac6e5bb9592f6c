"""A value, its interval and its null from counts per image: one matrix product for all draws.

Every metric of predictions here is a function of sums over images, by group: so many right, so many asked. A bootstrap draw is
a row of weights over images, a permutation a row of labels, and the sums of all draws are one product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipbias.metrics.draws import Draws, bootstrap, observed, permuted
from clipbias.metrics.intervals import interval
from clipbias.tasks.metrics.facts import facts

EMPTY = "empty group"
_CELLS = 20_000_000  # entries of draws × images held at once


@dataclass(frozen=True, eq=False)
class Statistic:
    """A metric as sums over images and a function of them.

    Attributes
    ----------
    metric : str
        A name of `clipbias.tasks.metrics.facts.FACTS`.
    sums : ndarray or sparse matrix (n, k)
        What is added up, one row per image.
    kernel : callable
        ``kernel(totals)`` with totals (draws, groups, k); returns (draws,), or (draws, groups) where ``per_group``. NaN where
        it is undefined.
    units : ndarray (n,)
        How many units of ``n`` each image brings (1, its questions, its twin pairs).
    probe : str
    per_group : bool
    undefined : tuple of str
        Status and reason where the value is NaN.
    protocol : str
    worst : callable, optional
        ``worst(totals of the data)`` is the position of the group that the value is of.
    """

    metric: str
    sums: Any
    kernel: Callable[[np.ndarray], np.ndarray]
    units: np.ndarray
    probe: str = ""
    per_group: bool = False
    undefined: tuple[str, str] = (EMPTY, "fewer than two groups have what the metric needs here.")
    protocol: str = ""
    worst: Callable[[np.ndarray], int] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """The images of one view with their groups, and draws over them.

    Attributes
    ----------
    rows : ndarray of int (m,)
        Positions of the images.
    codes : ndarray (m,)
        Group of each.
    levels : tuple of str
    boot, null : Draws or None
    """

    rows: np.ndarray
    codes: np.ndarray
    levels: tuple[str, ...]
    boot: Draws | None
    null: Draws | None
    _masses: dict[int, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def totals(self, draws: Draws, sums: Any) -> np.ndarray:
        """Return the sums by group in each draw, (draws, groups, k); the weights are kept while they are small."""
        if draws.size * len(self.rows) * draws.n_groups > _CELLS:
            return totals(draws, sums)
        if id(draws) not in self._masses:
            self._masses[id(draws)] = [mass.astype(np.float64) for mass in draws.masses()]
        return np.stack([_product(mass, sums) for mass in self._masses[id(draws)]], axis=1)


def sample(
    rows: np.ndarray, codes: np.ndarray, levels: Sequence[str], blocks: np.ndarray | None, *, n_boot: int, n_perm: int, seed: int
) -> Sample:  # fmt: skip
    """Draw once for all metrics of a view and an attribute.

    Parameters
    ----------
    rows, codes : ndarray (m,)
        Positions of the images, and their groups.
    levels : sequence of str
    blocks : ndarray (m,) or None
        Images resampled as a whole (twins, scenes). Labels are permuted inside blocks, where blocks mix the groups.
    n_boot, n_perm : int
        0 draws nothing.
    seed : int
    """
    codes = codes.astype(np.int16)
    n = len(levels)
    strata = None
    if blocks is not None:
        _, home = np.unique(blocks, return_inverse=True)
        pairs = np.unique(np.column_stack([home, codes]), axis=0)
        # Labels that never differ inside a block cannot be permuted there.
        strata = home if len(pairs) > home.max() + 1 else None
    boot = bootstrap(codes, n, size=n_boot, seed=seed, blocks=blocks) if n_boot and rows.size > 1 else None
    null = (
        permuted(codes, n, size=n_perm, seed=seed, strata=strata)
        if n_perm and n > 1 and rows.size > 1
        else None
    )
    return Sample(rows, codes, tuple(levels), boot, null)


def totals(draws: Draws, sums: Any) -> np.ndarray:
    """Return the sums by group in each draw, (draws, groups, k)."""
    step = max(1, _CELLS // max(1, draws.codes.shape[-1]))
    parts = []
    for start in range(0, draws.size, step):
        piece = slice(start, start + step)
        part = Draws(
            draws.codes[piece] if draws.codes.ndim == 2 else draws.codes,
            None if draws.weights is None else draws.weights[piece], draws.n_groups,
        )  # fmt: skip
        parts.append(np.stack([_product(mass.astype(np.float64), sums) for mass in part.masses()], axis=1))
    return np.concatenate(parts)


def _product(mass: np.ndarray, sums: Any) -> np.ndarray:
    """Weights (draws, n) times sums (n, k), which may be sparse."""
    return mass @ sums if isinstance(sums, np.ndarray) else np.asarray((sums.T @ mass.T).T)


def measure(statistic: Statistic, view: Sample, *, level: float = 0.95) -> list[dict[str, Any]]:
    """Return the rows of one statistic on one view: ``metric, probe, group, value, ci_low, ...``."""
    fact = facts(statistic.metric)
    base = {"metric": statistic.metric, "probe": statistic.probe, "protocol": statistic.protocol}
    groups = view.levels if statistic.per_group else ("",)
    sums, units = statistic.sums[view.rows], statistic.units[view.rows]
    counts = np.bincount(view.codes, units, len(view.levels)) if statistic.per_group else [units.sum()]
    if view.rows.size == 0:
        return [
            _missing(base, group, 0, ("empty view", "no test image is in this view.")) for group in groups
        ]
    found = totals(observed(view.codes, len(view.levels)), sums)
    now = statistic.kernel(found).reshape(-1)
    boot = null = None
    if view.boot is not None:
        boot = statistic.kernel(view.totals(view.boot, sums)).reshape(view.boot.size, -1)
    if view.null is not None and fact.null:
        null = statistic.kernel(view.totals(view.null, sums)).reshape(view.null.size, -1)
    out = []
    for place, group in enumerate(groups):
        n, value = int(counts[place]), float(now[place])
        if not math.isfinite(value):
            out.append(_missing(base, group, n, _why(statistic, view, group, n)))
            continue
        name = view.levels[statistic.worst(found[0])] if statistic.worst is not None else group
        row = {**base, "group": name, "value": value, "n": n, "status": "ok"}
        if boot is not None and view.boot is not None:
            kind = "excess" if _unsigned(view, statistic) else fact.interval
            row |= _interval(
                kind,
                value,
                boot[:, place],
                None if null is None else null[:, place],
                view.boot,
                n,
                fact.range,
                level,
            )
        if null is not None:
            row |= against_null(value, null[:, place], signed=fact.signed and not _unsigned(view, statistic))
        out.append(row)
    return out


def _unsigned(view: Sample, statistic: Statistic) -> bool:
    """Tell whether a gap is largest minus smallest, of more than two groups."""
    return statistic.metric.endswith("_gap") and len(view.levels) > 2


def _interval(
    kind: str, value: float, boot: np.ndarray, null: np.ndarray | None, draws: Draws, n: int, bounds: tuple[float, float],
    level: float,
) -> dict[str, float]:  # fmt: skip
    # Wilson's interval is for shares in [0, 1]; accuracies are in percent.
    scale = bounds[1] if kind == "share" else 1.0
    if kind == "mean" or (kind == "excess" and null is None):
        kind = "t"
    low, high = interval(
        kind, value / scale, boot / scale, null, level=level, factor=draws.small_sample_factor,
        df=float(max(1, draws.units - draws.strata)), trials=max(n, 1), bounds=(bounds[0] / scale, bounds[1] / scale),
    )  # fmt: skip
    return {"ci_low": scale * low, "ci_high": scale * high}


def against_null(value: float, null: np.ndarray, *, signed: bool) -> dict[str, float]:
    """Return ``null_mean, null_sd, z, p``; p is two-sided for a signed metric, the observed value counted."""
    known = null[np.isfinite(null)]
    if known.size < 2:
        return {}
    mean, sd = float(known.mean()), float(known.std(ddof=1))
    tiny = 1e-12 * max(1.0, abs(value))  # equal up to rounding is at least as far
    far = np.abs(known - mean) >= abs(value - mean) - tiny if signed else known >= value - tiny
    return {
        "null_mean": mean, "null_sd": sd, "z": (value - mean) / sd if sd > 0 else math.nan,
        "p": (1 + int(far.sum())) / (1 + known.size),
    }  # fmt: skip


def _why(statistic: Statistic, view: Sample, group: str, n: int) -> tuple[str, str]:
    present = np.bincount(view.codes, minlength=len(view.levels))
    if statistic.per_group and present[view.levels.index(group)] == 0:
        return EMPTY, f"no image of group {group!r} is in this view."
    if not statistic.per_group and (present == 0).any():
        return EMPTY, f"no image of group {view.levels[int(present.argmin())]!r} is in this view."
    return statistic.undefined


def _missing(base: dict[str, Any], group: str, n: int, why: tuple[str, str]) -> dict[str, Any]:
    return {**base, "group": group, "value": math.nan, "n": n, "status": why[0], "reason": why[1]}


def ratio(totals_: np.ndarray) -> np.ndarray:
    """Kernel: first sum over second, of all groups together."""
    added = totals_.sum(1)
    return _over(added[:, 0], added[:, 1])


def rates(totals_: np.ndarray) -> np.ndarray:
    """Kernel: first sum over second, per group."""
    return _over(totals_[..., 0], totals_[..., 1])


def gap_of(values: np.ndarray) -> np.ndarray:
    """First minus second of two groups; largest minus smallest of those that have a value where there are more: (D, G) to (D,)."""
    if values.shape[1] == 2:
        return values[:, 0] - values[:, 1]
    return spread(values)


def spread(values: np.ndarray) -> np.ndarray:
    """Largest minus smallest over the groups that have a value; NaN with fewer than two: (D, G) to (D,)."""
    have = np.isfinite(values)
    high = np.where(have, values, -np.inf).max(1)
    low = np.where(have, values, np.inf).min(1)
    with np.errstate(invalid="ignore"):
        return np.where(have.sum(1) > 1, high - low, np.nan)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)
