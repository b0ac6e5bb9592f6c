"""Group DRO: the loss of the groups that do worst counts most (Sagawa, Koh, Hashimoto and Liang, 2020)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.dro import dro_weights, group_means
from clipbias.tasks.interventions.resample import resample_rows


@register
class GroupDRO(Intervention):
    """Train on resampled groups, and raise the weight of those with the highest loss.

    Attributes
    ----------
    eta : float
    adjustment : float
        See `dro_weights`.
    sampler : bool
        Draw groups equally often, as is part of the method. What that gives alone is the plain twin, ``resample``.
    """

    name: ClassVar[str] = "group_dro"
    eta: float = Field(default=0.01, ge=0)
    adjustment: float = Field(default=0.0, ge=0)
    sampler: bool = True

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.hooks import GroupDROLoss

        cells = on.cells
        names, code, sizes = np.unique(cells.joint, return_inverse=True, return_counts=True)
        hook = GroupDROLoss(code[cells.home], sizes, eta=self.eta, adjustment=self.adjustment)
        index = (
            resample_rows(cells.label, cells.group, seed=self.seed) if self.sampler else np.arange(len(cells))
        )
        return Made(
            (stage_of(cells, index, loss=hook),),
            notes={"cells": len(names), "smallest cell": int(sizes.min())},
        )


group_dro = GroupDRO
__all__ = ["GroupDRO", "dro_weights", "group_dro", "group_means"]
