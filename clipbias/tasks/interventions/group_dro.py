"""Group DRO: the loss of the groups that do worst counts most (Sagawa, Koh, Hashimoto and Liang, 2020)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.resample import resample_rows


def group_means(losses: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """Return the mean loss of each group, float (size,); 0 for a group that does not occur."""
    counts = np.bincount(groups, minlength=size)
    return np.bincount(groups, losses, size) / np.maximum(counts, 1)


def dro_weights(
    q: np.ndarray,
    means: np.ndarray,
    *,
    eta: float = 0.01,
    adjustment: float = 0.0,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weights of the groups after one step.

    Parameters
    ----------
    q : numpy.ndarray (G,)
        Weights before, sum 1.
    means : numpy.ndarray (G,)
        Mean loss of each group in the batch.
    eta : float
        Step; 0 leaves the weights as they are.
    adjustment : float
        ``C``: groups of ``sizes`` training examples get ``C / sqrt(size)`` on top of their loss, as small groups generalise
        worse.
    sizes : numpy.ndarray (G,), optional

    Returns
    -------
    numpy.ndarray (G,)
        Sum 1.
    """
    loss = np.asarray(means, float)
    if adjustment > 0 and sizes is not None:
        loss = loss + adjustment / np.sqrt(np.maximum(sizes, 1))
    raised = np.log(np.maximum(q, 1e-300)) + eta * loss
    grown = np.exp(raised - raised.max())
    return grown / grown.sum()


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
