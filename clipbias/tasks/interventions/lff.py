"""Learning from failure: what is hard for a biased twin model counts more (Nam et al., 2020)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of


@register
class LfF(Intervention):
    """Train while a biased twin, a small network on the embeddings before adaptation, says what is hard for it.

    Attributes
    ----------
    q : float
    alpha : float
        See `generalised` and `Averages`.
    rate : float
        Learning rate of the twin.
    hidden : int
        Width of the twin; 0 is linear.
    weights : {"difficulty", "shuffled", "one"}
        ``"shuffled"``: the same weights on the wrong examples (the null twin); ``"one"``: plain training.
    """

    name: ClassVar[str] = "lff"
    q: float = Field(default=0.7, gt=0, le=1)
    alpha: float = Field(default=0.7, ge=0, lt=1)
    rate: float = Field(default=3e-3, gt=0)
    hidden: int = Field(default=0, ge=0)
    weights: str = Field(default="difficulty", pattern="^(difficulty|shuffled|one)$")

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.hooks import LfFLoss

        cells = on.cells
        hook = LfFLoss(
            on.encoder(cells.rows), cells.label, cells.home, cells.asked, q=self.q, alpha=self.alpha, rate=self.rate,
            hidden=self.hidden, weights=self.weights, seed=self.seed,
        )  # fmt: skip
        return Made((stage_of(cells, np.arange(len(cells)), loss=hook),), train="label", notes={"twin": "linear" if not self.hidden else f"{self.hidden} hidden"})  # fmt: skip


lff = LfF
