"""Deep feature reweighting: fit the last layer again on held-out data in which all groups are equally large.

Kirichenko, Izmailov and Wilson, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.cells import stratified
from clipbias.tasks.interventions.measures import check_apart
from clipbias.tasks.interventions.probe import (
    Probe,
    Scaler,
    average,
    balanced_rows,
    fit_probe,
    joint,
    judged,
)

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)


def dfr_probe(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    scaler: Scaler | None = None,
    ids: np.ndarray | None = None,
    trained_on: np.ndarray | None = None,
    strengths: Sequence[float] = STRENGTHS,
    draws: int = 20,
    l1: bool = True,
    balanced: bool = True,
    seed: int = 0,
) -> Probe:
    """Fit a last layer on balanced held-out data.

    The penalty is chosen on a half of the data by the worst group; then ``draws`` balanced subsets of all are drawn, and the
    coefficients of their fits averaged.

    Parameters
    ----------
    features : numpy.ndarray (n, d)
        Of held-out data.
    labels, groups : numpy.ndarray (n,)
    scaler : Scaler, optional
        That of the training features. Default: fitted on these.
    ids, trained_on : numpy.ndarray, optional
        Image ids of these data and of the training data, which must not overlap.
    strengths : sequence of float
        Inverse strengths of the penalty that are tried; of one nothing is chosen.
    draws : int
    l1 : bool
    balanced : bool
        False: the plain twin, refitted on all held-out data.
    seed : int

    Raises
    ------
    DataError
        A cell is missing, or the data overlap with training.
    """
    if ids is not None and trained_on is not None:
        check_apart(trained_on, ids, "held-out")
    labels, groups = np.asarray(labels), np.asarray(groups)
    cells, scaler = joint(labels, groups), scaler or Scaler.of(features)

    def fit(rows: np.ndarray, strength: float, times: int) -> Probe:
        found = []
        for draw in range(times if balanced else 1):
            chosen = rows
            if balanced:
                chosen = rows[balanced_rows(cells[rows], seed=[seed, 41, draw], labels=labels[rows])]
            found.append(
                fit_probe(
                    features[chosen], labels[chosen], strength=strength, l1=l1, scaler=scaler, seed=seed
                )
            )
        return average(found)

    best = strengths[0]
    if len(strengths) > 1:
        half = stratified(cells, 0.5, seed)
        fitted, chosen_by = np.flatnonzero(~half), np.flatnonzero(half)
        values = [
            judged(fit(fitted, c, 1), features[chosen_by], labels[chosen_by], groups[chosen_by])
            for c in strengths
        ]
        best = strengths[values.index(max(values))]
    return fit(np.arange(len(labels)), best, draws)


@register
class DFR(Intervention):
    """Train plainly, then tune the head's last part on balanced images that it has not seen.

    Attributes
    ----------
    share : float
        Of the training images held out for it.
    fit_on : {"held_out", "train"}
        ``"train"``: the null twin, balanced but already fitted.
    balanced : bool
        False: the plain twin.
    draws : int
        Balanced subsets, each tuned on from the same weights; their results are averaged.
    steps : int
        Per subset.
    rate : float
        Learning rate.
    penalty : float
        Of the l1 norm, taken as a proximal step.
    part : str
        Prefix of the head's parameters that are tuned. Default: its last part.
    """

    name: ClassVar[str] = "dfr"
    share: float = Field(default=0.3, gt=0, lt=1)
    fit_on: Literal["held_out", "train"] = "held_out"
    balanced: bool = True
    draws: int = Field(default=10, ge=1)
    steps: int = Field(default=60, ge=1)
    rate: float = Field(default=3e-3, gt=0)
    penalty: float = Field(default=1e-4, ge=0)
    part: str = ""

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.refit import tune_balanced

        cells = on.cells
        stays, held = cells.part(self.share, self.seed)
        fitted = held if self.fit_on == "held_out" else stays
        # A rare label with one group only cannot be balanced within itself; balancing over the cells that occur still is.
        subsets = [
            fitted[balanced_rows(cells.joint[fitted], seed=[self.seed, 42, draw], missing="allow")]
            if self.balanced
            else fitted
            for draw in range(self.draws if self.balanced else 1)
        ]
        refit = partial(
            tune_balanced, subsets=[cells.examples(rows)[0] for rows in subsets], steps=self.steps, rate=self.rate,
            penalty=self.penalty, part=self.part,
        )  # fmt: skip
        notes = {"held out": len(held), "balanced subset": len(subsets[0]), "draws": len(subsets)}
        seen = "label; label, group of the tuning images" if self.balanced else "label"
        return Made((stage_of(cells, stays),), refit=refit, train=seen, notes=notes)


dfr = DFR
