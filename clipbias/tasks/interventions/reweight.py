"""Instance reweighting: each cell of label and group counts as one of six objectives says (Han, Baldwin and Cohn, 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np

from clipbias.errors import DataError, nearest
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of

Objective = Literal["joint", "y", "g", "stratified_y", "stratified_g", "EO"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


def balancing_weights(labels: np.ndarray, groups: np.ndarray, objective: str = "joint") -> np.ndarray:
    """Return a weight per item.

    Parameters
    ----------
    labels, groups : array (n,)
    objective : {"joint", "y", "g", "stratified_y", "stratified_g", "EO"}
        What becomes uniform: all cells; labels; groups; groups within each label, whose shares stay; labels within each
        group; groups within each label, such that each cell counts as much as the label had (equal opportunity).

    Returns
    -------
    numpy.ndarray, float (n,)
        Positive; mean one (``EO``: before normalisation the number of groups). ``y`` and ``g`` alone leave the
        association of label and group as it is; ``joint``, ``stratified_y``, ``stratified_g`` and ``EO`` take it away, if
        every cell has items.
    """
    if objective not in OBJECTIVES:
        raise DataError(f"there is no objective {objective!r}." + nearest(objective, OBJECTIVES))
    labels, groups = np.asarray(labels), np.asarray(groups)
    y, a = (np.unique(values, return_inverse=True)[1] for values in (labels, groups))
    if len(y) == 0 or len(y) != len(a):
        raise DataError(f"{len(y)} labels came with {len(a)} groups; one of each is needed per item.")
    table = np.zeros((y.max() + 1, a.max() + 1))
    np.add.at(table, (y, a), 1)
    n, n_y, n_a = table.sum(), table.sum(1, keepdims=True), table.sum(0, keepdims=True)
    there = table > 0
    size = np.where(there, table, 1)
    weight = {
        "joint": n / (there.sum() * size),
        "y": n / (len(n_y) * n_y) * np.ones_like(table),
        "g": n / (n_a.shape[1] * n_a) * np.ones_like(table),
        "stratified_y": n_y / there.sum(1, keepdims=True) / size,
        "stratified_g": n_a / there.sum(0, keepdims=True) / size,
        "EO": n_y / size,
    }[objective]
    return weight[y, a]


@register
class Reweight(Intervention):
    """Train on all images, each weighted.

    Attributes
    ----------
    objective : str
        See `balancing_weights`.
    """

    name: ClassVar[str] = "reweight"
    objective: Objective = "joint"

    def _make(self, on: Situation) -> Made:
        weights = balancing_weights(on.cells.label, on.cells.group, self.objective)
        stage = stage_of(on.cells, np.arange(len(on.cells)), weights)
        seen = {"y": "label", "g": "group"}.get(self.objective, "label, group")
        return Made(
            (stage,), train=seen, weighted=True, notes={"largest weight": round(float(weights.max()), 2)}
        )


reweight = Reweight
