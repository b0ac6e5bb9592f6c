"""Intervals that cover: for what a value would be on average over new samples of the same size.

Resampling adds noise to noise. For a signed mean that is harmless. For a maximum, an entropy or a divergence it
is not: such a value has a floor above its ideal at finite n, a bootstrap draw has that floor twice, and the
percentile interval lies beside the value (simulated coverage 0 to 60 %). So every interval here is for the
*expectation at the same n*, which the observed value estimates without bias, and the bootstrap is only asked
for a variance. Which variance belongs to which expectation differs by kind:

``t``
    Value ± t · sd; degrees of freedom from the group's size.
``ranked t``
    The same with the null's sd where that is larger: of a mean in which the first few places weigh most, a bootstrap sees
    the spread only if the group happens to have those places (83 % cover at n = 100 with the bootstrap alone).
``share``, ``log share``, ``twice share``
    The value is a share of the first k (or of the images of a group) or a transform of it. A share's variance
    falls to 0 at 0 and 1, where a bootstrap sees none at all: Wilson's interval, with the dispersion that the
    bootstrap finds in place of the binomial one.
``excess``
    Variance is taken as linear in the expectation, through two points that are known: the null (permuted
    labels) and the bootstrap population. Solved for the expectation as Wilson's interval is for a share. For
    a quadratic statistic (divergences, to first order) this line is exact.

`benchmarks/coverage.py` measures how often they cover: benchmarks/coverage.csv holds the first family at n = 100 and 1,000 with 2 and 7
groups and effects of 0 to .5 standard deviations (nominal 95 %: signed and excess values cover 92 to 98 %, and two unsigned cells without
an effect 98.1 and 98.3), benchmarks/coverage_others.csv all other metrics. Where the null moves with the value (recalls: 97 to 99.9 % if the interval is only shifted) `moved_interval` takes it from the joint bootstrap of
both.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri, stdtrit

KINDS = {
    "t": "value ± t · bootstrap sd, for the expectation at the same n",
    "ranked t": "value ± t · the larger of bootstrap and null sd, for the expectation at the same n",
    "share": "Wilson with bootstrap dispersion, for the expectation at the same n",
    "log share": "log of a Wilson interval with bootstrap dispersion, for the expectation at the same n, "
    "given that the group is present",
    "twice share": "Wilson with bootstrap dispersion, for the expectation at the same n",
    "excess": "null-anchored bootstrap variance, for the expectation at the same n (not a population value: "
    "the metric has a floor at finite n)",
}

Pair = tuple[float, float]


def mean_interval(
    value: float,
    boot: np.ndarray,
    *,
    level: float,
    factor: float = 1.0,
    df: float = math.inf,
    least: float = 0.0,
) -> Pair:
    """Return value ± t · sd of the draws.

    Parameters
    ----------
    value : float
    boot : ndarray (B,)
    level : float
    factor : float
        Small-sample factor on the standard deviation.
    df : float
        Degrees of freedom of t; infinite is the normal distribution.
    least : float
        Standard deviation below which it is not believed.
    """
    tail = 0.5 + level / 2
    t = float(stdtrit(df, tail)) if df < 1e6 else float(ndtri(tail))
    half = t * max(factor * float(boot.std(ddof=1)), least)
    return value - half, value + half


def share_interval(
    share: float, boot: np.ndarray, *, trials: float, level: float, factor: float = 1.0
) -> Pair:
    """Return Wilson's interval for a share of ``trials``, with the dispersion that the draws show."""
    binomial = share * (1 - share) / trials
    dispersion = float(boot.var(ddof=1)) * factor**2 / binomial if binomial > 1e-12 else 1.0
    a = float(ndtri(0.5 + level / 2)) ** 2 * (dispersion or 1.0) / trials
    centre, half = (share + a / 2) / (1 + a), math.sqrt(a * share * (1 - share) + a * a / 4) / (1 + a)
    return max(0.0, centre - half), min(1.0, centre + half)


# Two noisy points that lie close together tell little of the line through them: it is too flat where the bootstrap saw
# little, and of any steepness. So its slope is compared with that of a quadratic statistic, of which the null alone
# tells it: never more than ``_STEEPEST`` times that, and within ``_NEAR`` null standard deviations never less than
# ``_FLATTEST`` times. Set on six metrics (n = 100 and 1,000; 2 and 7 groups; effects 0, .25, .5): further out a floor
# makes intervals of maxima too wide (100 % at n = 1,000), and without one some cells cover 91 %.
_FLATTEST, _STEEPEST, _NEAR = 0.45, 3.0, 2.5


def excess_interval(
    value: float,
    boot: np.ndarray,
    null: np.ndarray,
    *,
    level: float,
    factor: float = 1.0,
    ideal: float = math.nan,
) -> Pair:
    """Return the expectations whose standard deviation makes the value unsurprising.

    With ``u`` the distance of the value from the null mean, in the direction in which the bootstrap mean lies,
    and ``variance(e) = v0 + slope * e``: all e with ``(u - e)^2 <= z^2 variance(e)``; below the null, where no
    expectation lies, the variance is that of the null.

    Of a quadratic statistic (a sum of squares of normal variables with its minimum at ``ideal``) the null alone
    tells the slope: ``2 v0 / |null mean - ideal|``. Where ``ideal`` is given, the slope found is kept near that.
    """
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    floor, v0 = float(null.mean()), float(null.var(ddof=1))
    ahead = float(boot.mean()) - floor
    side = 1.0 if ahead >= 0 else -1.0
    u = side * (value - floor)
    slope = max(0.0, float(boot.var(ddof=1)) * factor**2 - v0) / max(abs(ahead), 1e-12)
    if abs(floor - ideal) > 1e-12:  # not where it is NaN
        quadratic = 2 * v0 / abs(floor - ideal)
        if abs(ahead) < _NEAR * math.sqrt(v0):
            slope = max(slope, _FLATTEST * quadratic)
        slope = min(slope, _STEEPEST * quadratic)
    centre = u + z2 * slope / 2
    half = math.sqrt(max(0.0, centre**2 - (u**2 - z2 * v0)))
    low, high = centre - half, centre + half
    if low < 0:
        low = min(0.0, u - math.sqrt(z2 * v0))
    ends = sorted((floor + side * low, floor + side * high))
    return ends[0], ends[1]


def moved_interval(
    value: float, ends: Pair, boot: np.ndarray, center: float, boot_center: np.ndarray
) -> Pair:
    """Return the interval of a value less the center of its null, which is made of the same images.

    Both move together, so an interval of the value that is only shifted is too wide. Its two arms are shrunk (or
    stretched) by the ratio of standard deviations that the joint bootstrap of value and center finds.

    Parameters
    ----------
    value, center : float
    ends : tuple
        Interval of the value.
    boot, boot_center : ndarray (B,)
        The value and the center in the same draws.
    """
    good = np.isfinite(boot) & np.isfinite(boot_center)
    alone = float(boot[good].std()) if good.any() else 0.0
    ratio = float((boot[good] - boot_center[good]).std()) / alone if alone > 0 else 1.0
    return value - center - (value - ends[0]) * ratio, value - center + (ends[1] - value) * ratio


def interval(
    kind: str,
    value: float,
    boot: np.ndarray,
    null: np.ndarray | None,
    *,
    level: float = 0.95,
    factor: float = 1.0,
    df: float = math.inf,
    trials: float = math.nan,
    reference: float = math.nan,
    bounds: Pair = (-math.inf, math.inf),
    ideal: float = math.nan,
) -> Pair:
    """Return the interval of one value.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    value : float
    boot, null : ndarray (B,), (R,)
        Bootstrap and permutation values. Without a null, ``excess`` falls back to the bootstrap variance.
    trials, reference : float
        Of a share: how many images it is a share of, and its reference share.
    bounds : tuple
        Range of the metric.
    ideal : float
        The value of a fair result, for ``excess``; see `excess_interval`.

    Returns
    -------
    tuple of float
        NaN where fewer than two draws are defined.
    """
    absent = np.isneginf(boot)
    defined = boot[np.isfinite(boot) | absent] if kind == "log share" else boot[np.isfinite(boot)]
    finite = null[np.isfinite(null)] if null is not None else np.zeros(0)
    if defined.size < 2:
        return math.nan, math.nan
    if kind == "log share":
        share = reference * math.exp(value)
        low, high = share_interval(
            min(share, 1.0), reference * np.exp(defined), trials=trials, level=level, factor=factor
        )
        low, high = (math.log(s / reference) if s > 0 else -math.inf for s in (low, high))
    elif kind == "twice share":
        share = min(max(reference + value / 2, 0.0), 1.0)
        low, high = share_interval(share, reference + defined / 2, trials=trials, level=level, factor=factor)
        low, high = 2 * (low - reference), 2 * (high - reference)
    elif kind == "share":
        low, high = share_interval(value, defined, trials=trials, level=level, factor=factor)
    elif kind == "excess" and finite.size > 1:
        low, high = excess_interval(value, defined, finite, level=level, factor=factor, ideal=ideal)
    else:
        least = float(finite.std(ddof=1)) if kind == "ranked t" and finite.size > 1 else 0.0
        low, high = mean_interval(value, defined, level=level, factor=factor, df=df, least=least)
    # Rounding must not put the value outside its own interval.
    return max(bounds[0], min(low, value)), min(bounds[1], max(high, value))
