"""Posterior regularisation: answers keep, over all test images, the share of each group that they had in training.

Jia, Meng, Zhao and Chang, ACL 2020. It restores the training ratio, not fairness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from clipbias.errors import DataError
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register
from clipbias.tasks.interventions.rebalance import paired

if TYPE_CHECKING:
    from clipbias.tasks.interventions.base import Encoder
    from clipbias.tasks.interventions.cells import Cells


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Probabilities after calibration.

    Attributes
    ----------
    probabilities : numpy.ndarray (n, A)
    shifts : numpy.ndarray (A,)
        Multipliers of the constraints, positive where the answer went too often with the group; 0: nothing was in the way.
    before, after : numpy.ndarray (A,)
        Share of the group in the mass of each answer; NaN for an answer that is not constrained.
    violated_before, violated_after : int
        Answers whose share is farther from the target than the margin.
    """

    probabilities: np.ndarray
    shifts: np.ndarray
    before: np.ndarray
    after: np.ndarray
    violated_before: int
    violated_after: int


def calibrate(
    probabilities: np.ndarray,
    member: np.ndarray,
    target: np.ndarray,
    *,
    margin: float = 0.01,
    steps: int = 500,
) -> Calibrated:
    """Return the probabilities closest to the given ones under which each answer's share of a group is near a target.

    ``q(y|x) ~ p(y|x) exp(-shift_y (member(x) - target_y))``, the exponent's margin left out; the shifts minimise the convex
    dual.

    Parameters
    ----------
    probabilities : numpy.ndarray (n, A)
        Rows sum to one.
    member : numpy.ndarray (n,)
        Probability that the image is of the group, in [0, 1].
    target : numpy.ndarray (A,)
        Share of the group among each answer; NaN does not constrain the answer.
    margin : float
        How far the share may be from the target; infinite changes nothing.
    steps : int

    Returns
    -------
    Calibrated

    Raises
    ------
    DataError
        Shapes do not fit, or the margin is negative.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    p, a, r = np.asarray(probabilities, float), np.asarray(member, float), np.asarray(target, float)
    if p.ndim != 2 or a.shape != (len(p),) or r.shape != (p.shape[1],):
        raise DataError(
            f"probabilities are (n, A), members (n,), targets (A,); not {p.shape}, {a.shape}, {r.shape}."
        )
    if margin < 0:
        raise DataError(f"the margin is {margin}; it is not negative.")
    before = _shares(p, a, r)
    log_p = np.log(np.maximum(p, 1e-30))
    free = np.isfinite(r)
    slack = np.where(free, a[:, None] - np.nan_to_num(r), 0.0)

    # Upper and lower constraints have a multiplier each.
    def dual(both: np.ndarray) -> tuple[float, np.ndarray]:
        up, down = both.reshape(2, -1)
        energy = log_p - up * (slack - margin) - down * (-slack - margin)
        q = softmax(energy, axis=1)
        gradient = np.stack([-(q * (slack - margin)).sum(0), -(q * (-slack - margin)).sum(0)])
        gradient[:, ~free] = 0
        return float(logsumexp(energy, axis=1).sum()) / len(p), gradient.ravel() / len(p)

    shifts = np.zeros((2, len(r)))
    if np.isfinite(margin) and _violations(before, r, margin):
        found = minimize(
            dual, shifts.ravel(), jac=True, method="L-BFGS-B", bounds=[(0, 200)] * (2 * len(r)),
            options={"maxiter": steps, "ftol": 1e-15, "gtol": 1e-9},
        )  # fmt: skip
        shifts = found.x.reshape(2, -1)
    finite = margin if np.isfinite(margin) else 0.0
    q = (
        softmax(log_p - shifts[0] * (slack - finite) - shifts[1] * (-slack - finite), axis=1)
        if shifts.any()
        else p
    )
    after = _shares(q, a, r)
    return Calibrated(
        q, shifts[0] - shifts[1], before, after, _violations(before, r, margin), _violations(after, r, margin)
    )  # fmt: skip


def _shares(p: np.ndarray, a: np.ndarray, target: np.ndarray) -> np.ndarray:
    mass = p.sum(0)
    shares = np.divide(a @ p, mass, out=np.full(len(mass), np.nan), where=mass > 1e-9)
    return np.where(np.isfinite(target), shares, np.nan)


def _violations(shares: np.ndarray, target: np.ndarray, margin: float) -> int:
    return int((np.abs(shares - target) > margin + 1e-6).sum())  # NaN compares false


def mean_amplification(shares: np.ndarray, target: np.ndarray) -> float:
    """Return by how much answers lean more to the group that they leant to already, on average; 0 is as in training."""
    toward = np.where(np.asarray(target) >= 0.5, 1.0, -1.0)
    return float(np.nanmean(toward * (np.asarray(shares) - target)))


class AnswerCalibration:
    """The map of a plan: calibrates the answers to one question.

    Parameters
    ----------
    question : str
    shares : dict of str to float
        Share of the first group in the training images with each answer.
    member : dict of str to float
        Probability of the first group for each test image.
    train_examples : DataFrame
        From which the answers' order follows.
    margin : float
    """

    def __init__(
        self, question: str, shares: dict[str, float], member: dict[str, float], train_examples: pd.DataFrame, margin: float
    ) -> None:  # fmt: skip
        self.question, self.shares, self.member, self.margin = question, shares, member, margin
        self.train_examples = train_examples
        self.last: Calibrated | None = None

    def __call__(self, probabilities: Any, examples: pd.DataFrame) -> Any:
        """Return the probabilities with those of the question calibrated."""
        import torch

        from clipbias.tasks.material import answer_list

        answers = answer_list(self.train_examples, probabilities.shape[1])
        mine = np.flatnonzero(
            (examples["question"] == self.question).to_numpy()
            & examples["image_id"].isin(self.member).to_numpy()
        )
        if len(mine) == 0:
            return probabilities
        member = np.array([self.member[image] for image in examples["image_id"].to_numpy()[mine]])
        target = np.array([self.shares.get(answer, np.nan) for answer in answers])
        given = probabilities[torch.from_numpy(mine)].double().cpu().numpy()
        self.last = calibrate(given, member, target, margin=self.margin)
        out = probabilities.clone()
        out[torch.from_numpy(mine)] = torch.as_tensor(
            self.last.probabilities, dtype=out.dtype, device=out.device
        )
        return out


@register
class CalibratePosterior(Intervention):
    """Train plainly, and calibrate the answers to the label's question over all test images.

    Attributes
    ----------
    margin : float
        How far the share may be from that of training.
    member : {"encoder", "labels"}
        Who is in the test images: as a probe of the embeddings before adaptation says, or as annotated.
    groups : str
        ``A|B``, as in `Rebalance`.
    """

    name: ClassVar[str] = "calibrate_posterior"
    tasks: ClassVar[tuple[str, ...]] = ("vqa",)
    margin: float = Field(default=0.01, ge=0)
    member: Literal["encoder", "labels"] = "encoder"
    groups: str = ""

    def _make(self, on: Situation) -> Made:
        cells = on.cells
        rows, first = paired(cells, self.groups)
        shares = {
            cells.labels[code]: float(first[cells.label[rows] == code].mean())
            for code in np.unique(cells.label[rows])
        }
        train = on.data.split("train")
        question = str(train["question"].to_numpy()[np.flatnonzero(cells.asked)[0]])
        place = np.unique(on.data.image_rows(on.data.split("test")))
        names = on.data.images.ids
        ids = [names[row] for row in place]
        known = self._members(on, cells, rows, first, place, ids)
        hook = AnswerCalibration(question, shares, known, train, self.margin)
        notes = {
            "answers constrained": len(shares),
            "margin": self.margin,
            "restores": "the training ratio, not fairness",
        }
        return Made(posterior=hook, test="group" if self.member == "labels" else "none", notes=notes)

    def _members(
        self,
        on: Situation,
        cells: Cells,
        rows: np.ndarray,
        first: np.ndarray,
        place: np.ndarray,
        ids: list[str],
    ) -> dict[str, float]:
        if self.member == "labels":
            names = (cells.groups[cells.group[rows[first]][0]], cells.groups[cells.group[rows[~first]][0]])
            values = on.table.set_index("image_id")[cells.attribute].astype(str).reindex(ids)
            return {image: float(value == names[0]) for image, value in values.items() if value in names}  # type: ignore[misc]
        return dict(
            zip(ids, _probabilities(on.encoder, cells.rows[rows], first, place).tolist(), strict=True)
        )


def _probabilities(encoder: Encoder, rows: np.ndarray, first: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the probability of the first group for images, from a probe of the embeddings of others."""
    from clipbias.tasks.interventions.probe import fit_probe

    probe = fit_probe(encoder(rows), first, l1=False, strength=1.0)
    return 1 / (1 + np.exp(-probe.scores(encoder(place))[:, 1]))


calibrate_posterior = CalibratePosterior
