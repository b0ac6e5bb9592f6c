"""Exposure of groups over a whole ranking: what position is worth, averaged by group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.errors import DataError
from clipbias.metrics.prefix import discounts
from clipbias.metrics.ranking import tally_of_one
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RankingTally


@dataclass(frozen=True)
class Exposure:
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
    interval="t", reference="arXiv:1802.07281",
    undefined=("empty group", "the group has no image here."),
)  # fmt: skip
def _exposure(t: RankingTally) -> np.ndarray:
    """Mean 1/log2(rank + 1) of a group's images over that of all images, minus 1."""
    mean = t.positional(discounts(int(t.n.max())))
    size = t.totals[:, None, :]
    overall = np.where(size > 0, mean * size, 0).sum(-1) / t.n[:, None]
    return mean / overall[..., None] - 1


@metric(
    "exposure_gap", needs="ranking", extreme_of=("exposure", "min"), range=(0.0, 1.0), ideal=0.0, unit="share",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="arXiv:1802.07281",
)  # fmt: skip
def _exposure_gap(t: RankingTally) -> np.ndarray:
    """One minus the ratio of the smallest to the largest mean exposure of a group."""
    mean = t.positional(discounts(int(t.n.max())))
    return 1 - np.nanmin(mean, -1) / np.nanmax(mean, -1)


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
