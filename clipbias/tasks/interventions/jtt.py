"""Just train twice: what a first model gets wrong is shown more often to the second (Liu et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.errors import DataError
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.cells import cells_of
from clipbias.tasks.interventions.measures import check_apart
from clipbias.tasks.interventions.probe import fit_probe, judged


def first_errors(
    features: np.ndarray, labels: np.ndarray, *, strength: float = 0.01, seed: int = 0
) -> np.ndarray:
    """Return what a weak first model gets wrong, bool (n,).

    The model is a linear probe held back by a strong l2 penalty, which stands for stopping early: it learns what is easiest
    first.

    Parameters
    ----------
    features : numpy.ndarray (n, d)
    labels : numpy.ndarray (n,)
    strength : float
        Inverse of the penalty's strength; the smaller, the weaker the model.
    seed : int
    """
    return fit_probe(features, labels, strength=strength, l1=False, seed=seed).predict(
        features
    ) != np.asarray(labels)


def upweighted(errors: np.ndarray, weight: int) -> np.ndarray:
    """Return a multiset in which each error comes ``weight`` times and all else once; 1 is plain training."""
    if weight < 1:
        raise DataError(f"errors come {weight} times; at least once.")
    return np.repeat(np.arange(len(errors)), np.where(errors, weight, 1))


@dataclass(frozen=True)
class Detection:
    """How well the errors find the minority groups.

    Attributes
    ----------
    precision, recall : float
        In [0, 1], higher is better; NaN where there are no errors or no minority.
    share : float
        Errors among all.
    """

    precision: float
    recall: float
    share: float


def detection(errors: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Detection:
    """Return how well errors find what is a minority in its label: a group smaller than an equal share of the label."""
    errors, labels, groups = np.asarray(errors, bool), np.asarray(labels), np.asarray(groups)
    rare = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = labels == label
        names, place, counts = np.unique(groups[mine], return_inverse=True, return_counts=True)
        rare[mine] = (counts < mine.sum() / len(names))[place]
    both = int((errors & rare).sum())
    nan = float("nan")
    return Detection(
        both / errors.sum() if errors.any() else nan,
        both / rare.sum() if rare.any() else nan,
        float(errors.mean()),
    )


@register
class JTT(Intervention):
    """Train with the errors of a weak first model repeated.

    The first model is a linear probe of the embeddings before adaptation, so that it is the same for frozen and trained
    towers; its errors are wrong labels (answers or words), not any differing token.

    Attributes
    ----------
    weight : int or "select"
        How often an error comes. ``"select"``: by the worst group of linear probes on the validation images, together with
        ``strength``.
    strength : float
        See `first_errors`.
    errors : {"model", "random"}
        ``"random"``: as many at random, the null twin.
    """

    name: ClassVar[str] = "jtt"
    weight: int | Literal["select"] = "select"
    strength: float = Field(default=0.01, gt=0)
    errors: Literal["model", "random"] = "model"

    def _make(self, on: Situation) -> Made:
        cells = on.cells
        x = on.encoder(cells.rows)
        strength, weight = self.strength, self.weight
        if weight == "select":
            strength, weight = self._select(on, x)
        wrong = first_errors(x, cells.label, strength=strength, seed=self.seed)
        if self.errors == "random":
            wrong = np.random.default_rng([self.seed, 61]).permutation(wrong)
        found = detection(wrong, cells.label, cells.group)
        notes = {
            "weight": weight, "strength": strength, "errors": int(wrong.sum()), "precision of errors": round(float(found.precision), 3),
            "recall of errors": round(float(found.recall), 3),
        }  # fmt: skip
        stage = stage_of(cells, upweighted(wrong, weight))
        return Made(
            (stage,),
            train="label",
            selection="label, group" if self.weight == "select" else "none",
            notes=notes,
        )

    def _select(
        self, on: Situation, x: np.ndarray, strengths: Sequence[float] = (0.003, 0.01, 0.1), weights: Sequence[int] = (1, 3, 10, 30)
    ) -> tuple[float, int]:  # fmt: skip
        val = cells_of(on.data, on.table, "val", attribute=self.attribute, label=self.label)
        check_apart(on.cells.rows, val.rows)
        names = np.array(on.cells.labels)[on.cells.label]
        truth = np.array(val.labels)[val.label][val.known]
        y, groups = on.encoder(val.rows[val.known]), val.group[val.known]
        best, chosen = (-1.0, -1.0), (self.strength, 1)
        for strength in strengths:
            wrong = first_errors(x, names, strength=strength, seed=self.seed)
            for weight in weights:
                each = np.where(wrong, float(weight), 1.0)
                probe = fit_probe(x, names, l1=False, weights=each, steps=100, seed=self.seed)
                value = judged(probe, y, truth, groups)
                if value > best:
                    best, chosen = value, (strength, weight)
        return chosen


jtt = JTT
