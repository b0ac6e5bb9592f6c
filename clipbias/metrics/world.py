"""How far what a model shows lies from the real world: shares of a group by occupation against a labour table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from clipbias.errors import DataError, StatusError, nearest


@dataclass(frozen=True)
class WorldDeviation:
    """Shares of a group by occupation against those of a labour table.

    Attributes
    ----------
    deviation : dict
        Occupation to measured minus real share, in [-1, 1]; positive: the group is shown more than it is there.
    mean : float
        Signed mean; opposite deviations cancel in it.
    mean_absolute : float
        0 follows the table exactly. That is realism, not fairness: a table holds the segregation of its country and year.
    worst : label
        The occupation with the largest deviation without sign.
    spearman, slope : float
        Rank correlation over occupations, and the slope of measured on real share: above 1 exaggerates the table's
        differences, 0 does not know them. NaN where one side does not vary.
    n : int
    """

    deviation: dict[Any, float]
    mean: float
    mean_absolute: float
    worst: Any
    spearman: float
    slope: float
    n: int


def real_world_deviation(shares: Mapping[Any, float], labour: Mapping[Any, float]) -> WorldDeviation:
    """Compare the shares of a group that a model shows with those of the real world.

    Parameters
    ----------
    shares : mapping of occupation to share
        For example the share of women among the first k images, or predicted to be women; in [0, 1].
    labour : mapping of occupation to share
        The same share of the workforce, in [0, 1]; occupations that nobody measured may be in it.

    Returns
    -------
    WorldDeviation

    Raises
    ------
    DataError
        A share is outside [0, 1], or an occupation is not in the table (the nearest is named).
    StatusError
        No occupation.

    Notes
    -----
    Hall et al. (2023), arXiv:2306.12424, compare resolution and retrieval with US labour statistics.
    """
    if not shares:
        raise StatusError("no input", "there is no occupation to compare.")
    lost = [o for o in shares if o not in labour]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(shares)} occupations are not in the labour table, first {lost[0]!r}."
            + nearest(str(lost[0]), map(str, labour))
        )
    names = list(shares)
    x, y = np.array([labour[o] for o in names], float), np.array([shares[o] for o in names], float)
    for what, values in (("labour", x), ("shares", y)):
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            raise DataError(f"{what} has no share in [0, 1] for {names[int(np.argmax(wrong))]!r}.")
    gap = y - x
    varied = len(names) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0
    return WorldDeviation(
        deviation=dict(zip(names, gap.tolist(), strict=True)),
        mean=float(gap.mean()),
        mean_absolute=float(np.abs(gap).mean()),
        worst=names[int(np.abs(gap).argmax())],
        spearman=float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]) if varied else float("nan"),
        slope=float(np.polyfit(x, y, 1)[0]) if len(names) > 1 and np.ptp(x) > 0 else float("nan"),
        n=len(names),
    )
