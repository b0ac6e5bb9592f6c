"""Overwriting as an intervention: train on a set in which label and group have another association."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest
from clipbias.tasks.interventions.association import Selection, rebalance_rows, share_rows, tied_sides
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.cells import Cells
from clipbias.tasks.interventions.measures import phi_coefficient


def two_groups(cells: Cells, groups: str) -> tuple[int, int]:
    """Return the codes of the two groups that are compared.

    Raises
    ------
    DataError
        They are not named and there are not two, or they do not occur.
    """
    known = [name for name in cells.groups if name != UNKNOWN]
    named = [name.strip() for name in groups.split("|") if name.strip()] or known
    for name in named:
        if name not in known:
            raise DataError(f"no training image has {cells.attribute} {name!r}." + nearest(name, known))
    if len(named) != 2:
        raise DataError(
            f"two groups of {cells.attribute} are compared, and there are {len(named)} ({', '.join(named)}): say which (groups=A|B)."
        )
    return cells.groups.index(named[0]), cells.groups.index(named[1])


def paired(cells: Cells, groups: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the images that have a label and one of two groups, and whether it is the first."""
    one, two = two_groups(cells, groups)
    rows = np.flatnonzero(cells.known & np.isin(cells.group, (one, two)))
    return rows, cells.group[rows] == one


def _ties(said: object, labels: np.ndarray, first: str) -> dict[str, bool] | None:
    """Return which labels are tied to the first group, if the images say so of all of them.

    Where nothing is associated, as in neutral data, counts cannot tell which direction is the positive one.
    """
    if not isinstance(said, Mapping) or not set(labels.tolist()) <= set(said):
        return None
    found = {str(label): str(said[label]) == first for label in np.unique(labels)}
    return found if len(set(found.values())) == 2 else None


@register
class Rebalance(Intervention):
    """Train on a set in which label and group have another association.

    Attributes
    ----------
    phi : float or "natural"
        ``"natural"``: as many images as with the others, drawn at random (the plain twin).
    mode : {"same_n", "subselect", "weights"}
        See `rebalance_rows`.
    share : float, optional
        Instead of phi: the share of the first group among the images with the label ``positive`` (under-representation).
    positive : str
    groups : str
        ``A|B``: which two groups. Images of others, or unknown ones, are left out (and counted).
    n : int
        At most so many images.
    """

    name: ClassVar[str] = "rebalance"
    phi: float | Literal["natural"] = 0.0
    mode: Literal["same_n", "subselect", "weights"] = "same_n"
    share: float | None = Field(default=None, ge=0, le=1)
    positive: str = ""
    groups: str = ""
    n: int = Field(default=0, ge=0)

    def _make(self, on: Situation) -> Made:
        cells = on.cells
        rows, first = paired(cells, self.groups)
        labels = np.array(cells.labels)[cells.label[rows]]
        left = len(cells) - len(rows)
        if self.share is not None:
            found = share_rows(labels == self._positive(cells), first, share=self.share, seed=self.seed)
        elif self.phi == "natural":
            size = len(rebalance_rows(labels, first, seed=self.seed, n=self.n).index)
            index = np.sort(np.random.default_rng([self.seed, 13]).permutation(len(rows))[:size])
            side = tied_sides(
                labels,
                first,
                _ties(on.data.images.facts.get("ties"), labels, cells.groups[cells.group[rows[first]][0]]),
            )
            found = Selection(index, np.ones(size), phi_coefficient(side[index], first[index]), float(size))
        else:
            found = rebalance_rows(
                labels, first, phi=self.phi, mode=self.mode, n=self.n, seed=self.seed,
                ties=_ties(on.data.images.facts.get("ties"), labels, cells.groups[cells.group[rows[first]][0]]),
            )  # fmt: skip
        weights = (
            found.weights if self.mode == "weights" and self.share is None and self.phi != "natural" else None
        )
        notes = {"association": round(found.phi, 4), "without label or group, left out": left}
        return Made(
            (stage_of(cells, rows[found.index], weights),), notes=notes, weighted=weights is not None,
            train="none" if self.phi == "natural" and self.share is None else "label, group",
        )  # fmt: skip

    def _positive(self, cells: Cells) -> str:
        if self.positive not in cells.labels:
            raise DataError(
                f"share needs a positive label, not {self.positive!r}." + nearest(self.positive, cells.labels)
            )
        return self.positive


rebalance = Rebalance
