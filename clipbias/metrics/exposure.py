"""Exposure of groups over a whole ranking: what position is worth, averaged by group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.display import Shown
from clipbias.errors import DataError
from clipbias.metrics.prefix import discounts
from clipbias.metrics.ranking import tally_of_one
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RankingTally

PATIENCE = 0.01  # the chance to stop after each position that the registered awrf uses


@dataclass(frozen=True)
class Exposure(Shown):
    """Mean worth of the positions of each group.

    Attributes
    ----------
    by_group : dict
    ratio : float
        Smallest over largest, in [0, 1]; 1 is fair.
    gap : float
        Largest minus smallest.
    worst : label
        The group with the least exposure.
    """

    by_group: dict[Any, float]
    ratio: float
    gap: float
    worst: Any


@metric(
    "exposure", needs="ranking", per_group=True, range=(-1.0, np.inf), ideal=0.0, unit="relative difference",
    sign="positive: stands further up than average", direction="closer to 0 is fairer", worse="both",
    interval="ranked t", reference="arXiv:1802.07281",
    undefined=("empty group", "the group has no image here."),
)  # fmt: skip
def _exposure(t: RankingTally) -> np.ndarray:
    """Mean 1/log2(rank + 1) of a group's images over that of all images, minus 1."""
    return _above_average(t, t.positional(discounts(int(t.n.max()))))


@metric(
    "exposure_gap", needs="ranking", extreme_of=("exposure", "min"), spread=1.25, range=(0.0, 1.0), ideal=0.0, unit="share",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="arXiv:1802.07281",
)  # fmt: skip
def _exposure_gap(t: RankingTally) -> np.ndarray:
    """One minus the ratio of the smallest to the largest mean exposure of a group."""
    mean = t.positional(discounts(int(t.n.max())))
    return 1 - np.nanmin(mean, -1) / np.nanmax(mean, -1)


def _above_average(t: RankingTally, mean: np.ndarray) -> np.ndarray:
    """Return each group's mean over that of all images, minus 1."""
    size = t.totals[:, None, :]
    overall = np.where(size > 0, mean * size, 0).sum(-1) / t.n[:, None]
    return mean / overall[..., None] - 1


def _attention(t: RankingTally) -> np.ndarray:
    return t.positional(100 * PATIENCE * (1 - PATIENCE) ** np.arange(int(t.n.max())))


@metric(
    "awrf", needs="ranking", per_group=True, range=(-1.0, np.inf), ideal=0.0, unit="relative difference",
    sign="positive: gets more attention than average", direction="closer to 0 is fairer", worse="both",
    interval="t", reference="doi:10.1145/3308560.3317595", undefined=("empty group", "the group has no image here."),
)  # fmt: skip
def _awrf(t: RankingTally) -> np.ndarray:
    """Mean attention p(1 - p)^(rank - 1) of a group's images over that of all images, minus 1; p = .01."""
    return _above_average(t, _attention(t))


@metric(
    "awrf_gap", needs="ranking", extreme_of=("awrf", "min"), range=(0.0, 1.0), ideal=0.0, unit="share",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="doi:10.1145/3308560.3317595",
)  # fmt: skip
def _awrf_gap(t: RankingTally) -> np.ndarray:
    """One minus the ratio of the smallest to the largest mean attention of a group; p = .01."""
    mean = _attention(t)
    return 1 - np.nanmin(mean, -1) / np.nanmax(mean, -1)


@metric(
    "pairwise", needs="ranking", per_group=True, range=(-1.0, 1.0), ideal=0.0, unit="share of pairs",
    sign="positive: wins more of its pairs than it loses", direction="closer to 0 is fairer", worse="both",
    interval="t", reference="arXiv:1903.00780", undefined=("empty group", "one side of the pairs has no image here."),
)  # fmt: skip
def _pairwise(t: RankingTally) -> np.ndarray:
    """Pairs of an image of the group and one of another group that the group wins, minus those it loses."""
    n, mine = t.n[:, None, None], t.totals[:, None, :]
    below = n - 1 + t.positional(-np.arange(float(t.n.max())))
    with np.errstate(divide="ignore", invalid="ignore"):
        won = (mine * below - mine * (mine - 1) / 2) / (mine * (n - mine))
    return np.where((mine > 0) & (mine < n), 2 * won - 1, np.nan)


@metric(
    "pairwise_gap", needs="ranking", extreme_of=("pairwise", "min"), range=(0.0, 2.0), ideal=0.0, unit="share of pairs",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess", reference="arXiv:1903.00780",
)  # fmt: skip
def _pairwise_gap(t: RankingTally) -> np.ndarray:
    """Largest minus smallest balance of won and lost pairs of a group."""
    each = _pairwise(t)
    return np.nanmax(each, -1) - np.nanmin(each, -1)


def _result(t: RankingTally, weight: np.ndarray) -> Exposure:
    mean = t.positional(weight)[0, 0]
    by_group = {level: float(v) for level, v in zip(t.levels, mean, strict=True)}
    low, high = float(mean.min()), float(mean.max())
    return Exposure(by_group, low / high, high - low, t.levels[int(mean.argmin())])


def exposure(
    scores: Any, groups: Any, *, ties: str = "expected", levels: Sequence[Hashable] | None = None
) -> Exposure:
    """Mean exposure ``1/log2(rank + 1)`` of each group's images.

    Returns
    -------
    Exposure
        ``ratio`` 1 is fair. Tied images share the worth of their positions.

    Notes
    -----
    Singh and Joachims (2018), arXiv:1802.07281. Errors as for `clipbias.metrics.skew`.
    """
    t = tally_of_one(scores, groups, levels, ties=ties)
    return _result(t, discounts(int(t.n[0])))


def awrf(
    scores: Any,
    groups: Any,
    *,
    patience: float = 0.01,
    ties: str = "expected",
    levels: Sequence[Hashable] | None = None,
) -> Exposure:
    """Mean attention ``100 p (1 − p)^(rank − 1)`` of each group's images.

    Parameters
    ----------
    patience : float
        p, the chance to stop after each position; larger looks at fewer images.

    Returns
    -------
    Exposure
        ``ratio`` 1 is fair.

    Notes
    -----
    Sapiezynski et al. (2019), doi:10.1145/3308560.3317595. Errors as for `clipbias.metrics.skew`.
    """
    if not 0 < patience < 1:
        raise DataError(f"patience={patience}: a chance between 0 and 1 is needed.")
    t = tally_of_one(scores, groups, levels, ties=ties)
    return _result(t, 100 * patience * (1 - patience) ** np.arange(int(t.n[0])))


def pairwise(
    scores: Any, groups: Any, *, ties: str = "expected", levels: Sequence[Hashable] | None = None
) -> Exposure:
    """Share of mixed pairs that each group wins: an image of the group stands above one of another group.

    Returns
    -------
    Exposure
        ``by_group`` in [0, 1], .5 is fair; ``ratio`` of the smallest to the largest, 1 is fair. Tied pairs count half.
        With two groups a share is the area under the ROC curve of the scores.

    Notes
    -----
    Beutel et al. (2019), arXiv:1903.00780; Narasimhan et al. (2020). Errors as for `clipbias.metrics.skew`.
    """
    t = tally_of_one(scores, groups, levels, ties=ties)
    won = (_pairwise(t)[0, 0] + 1) / 2
    by_group = {level: float(v) for level, v in zip(t.levels, won, strict=True)}
    low, high = float(won.min()), float(won.max())
    return Exposure(by_group, low / high if high else 1.0, high - low, t.levels[int(won.argmin())])
