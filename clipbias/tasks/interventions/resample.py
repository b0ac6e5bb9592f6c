"""Resampling: what reweighting does with weights, done with the number of times an image is seen."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clipbias.errors import DataError
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.reweight import Objective, balancing_weights


def resample_rows(
    labels: np.ndarray,
    groups: np.ndarray,
    objective: str = "joint",
    *,
    how: Literal["up", "down"] = "up",
    seed: int = 0,
) -> np.ndarray:
    """Return a multiset of positions in which cells have the sizes that an objective's weights ask for.

    Parameters
    ----------
    labels, groups : array (n,)
    objective : str
        As in `balancing_weights`.
    how : {"up", "down"}
        Repeat the items of small cells (every item stays, repeats differ by at most one), or leave out items of large ones.
    seed : int

    Returns
    -------
    numpy.ndarray, int
        Ascending.
    """
    if how not in ("up", "down"):
        raise DataError(f"resampling goes 'up' or 'down', not {how!r}.")
    weights = balancing_weights(labels, groups, objective)
    y, a = (np.unique(np.asarray(v), return_inverse=True)[1] for v in (labels, groups))
    cells, place = np.unique(np.column_stack([y, a]), axis=0, return_inverse=True)
    place = place.reshape(-1)
    rng = np.random.default_rng([seed, 21])
    factor = 1 / weights.max() if how == "down" else 1 / weights.min()
    kept = []
    for cell in range(len(cells)):
        members = rng.permutation(np.flatnonzero(place == cell))
        size = len(members) * weights[members[0]] * factor
        size = int(np.floor(size + 1e-9)) if how == "down" else round(size)
        repeats, rest = divmod(size, len(members))
        kept += [np.repeat(members, repeats), members[:rest]]
    return np.sort(np.concatenate(kept))


@register
class Resample(Intervention):
    """Train on a resampled set.

    Attributes
    ----------
    objective : str
        See `balancing_weights`.
    how : {"up", "down"}
    """

    name: ClassVar[str] = "resample"
    objective: Objective = "joint"
    how: Literal["up", "down"] = "up"

    def _make(self, on: Situation) -> Made:
        index = resample_rows(on.cells.label, on.cells.group, self.objective, how=self.how, seed=self.seed)
        seen = {"y": "label", "g": "group"}.get(self.objective, "label, group")
        return Made((stage_of(on.cells, index),), train=seen, notes={"draws": len(index)})


resample = Resample
