"""From fake to real: train on balanced synthetic images first, then on the real ones alone.

Qraitem, Saenko and Plummer, ECCV 2024. Two one-stage baselines use as many synthetic images.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError
from clipbias.tasks.interventions import synthetic
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register
from clipbias.tasks.interventions.cells import NONE, Cells, cells_of
from clipbias.tasks.interventions.resample import resample_rows
from clipbias.tasks.interventions.synthetic import combined, doubled_groups, draw_counts, synthetic_counts
from clipbias.tasks.plan import Stage

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData

How = Literal["two_stage", "uniform", "additive"]


@register
class SyntheticThenReal(Intervention):
    """Train on balanced synthetic images, then on the real ones.

    Attributes
    ----------
    how : {"two_stage", "uniform", "additive"}
        The last two are baselines of one stage on real and synthetic images together.
    stage2 : {"erm", "resample", "group_dro", "dfr"}
        How the second stage (or the one stage) trains. In one stage, real and synthetic images of a group are groups of their
        own.
    first : float
        Share of the steps for the synthetic stage.
    folder, n, artefact
        See `synthetic_data`.
    """

    name: ClassVar[str] = "synthetic_then_real"
    how: How = "two_stage"
    stage2: Literal["erm", "resample", "group_dro", "dfr"] = "resample"
    first: float = Field(default=0.5, gt=0, lt=1)
    folder: str = ""
    n: int = Field(default=2000, ge=1)
    artefact: float = Field(default=0.0, ge=0)

    def _make(self, on: Situation) -> Made:
        cells = on.cells
        fake = synthetic.synthetic_data(
            on.data, folder=self.folder, n=self.n, artefact=self.artefact, seed=self.seed
        )
        table = fake.images.table[["image_id", *fake.images.attributes]]
        theirs = cells_of(fake, table, "train", attribute=cells.attribute, label=self.label)
        chosen, total = self._chosen(cells, theirs)
        notes: dict[str, object] = {
            "synthetic images": total, "of them different": len(np.unique(chosen)), "artefact": self.artefact, "how": self.how,
            "second stage": self.stage2,
        }  # fmt: skip
        if self.how != "two_stage":
            return self._one_stage(on, fake, theirs, chosen, notes)
        first = Stage("synthetic", theirs.examples(chosen)[0], share=self.first, data=fake)
        real, refit = self._second(cells, np.zeros(len(cells), bool), np.arange(len(cells)))
        # The state that is kept is chosen on real validation images: it always is, and always of the last stage.
        return Made(
            (first, replace(real, name="real", share=1 - self.first)), refit=refit, selection="label", notes=notes
        )  # fmt: skip

    def _chosen(self, cells: Cells, theirs: Cells) -> tuple[np.ndarray, int]:
        """Return the synthetic images (places, with repeats) that bring every group to its count."""
        names = [
            (label, group)
            for label in cells.labels
            if label != NONE
            for group in cells.groups
            if group != UNKNOWN
        ]
        real = np.array([
            ((cells.label == cells.labels.index(label)) & (cells.group == cells.groups.index(group))).sum() for label, group in names
        ])  # fmt: skip
        counts = synthetic_counts(real, self.how)
        wanted = {}
        for (label, group), size in zip(names, counts.tolist(), strict=True):
            if size and (label not in theirs.labels or group not in theirs.groups):
                raise DataError(
                    f"no synthetic image has label {label!r} and group {group!r}: this cell is missing."
                )
            if size:
                wanted[theirs.labels.index(label) * len(theirs.groups) + theirs.groups.index(group)] = size
        if not wanted:
            raise DataError(
                "the real images are balanced already; there is nothing to add synthetic ones for."
            )
        return draw_counts(theirs.joint, wanted, seed=self.seed), int(counts.sum())

    def _second(self, cells: Cells, drawn: np.ndarray, places: np.ndarray) -> tuple[Stage, Any]:
        """Return the stage on some images, and the head refit that it needs."""
        groups = doubled_groups(cells.group[places], drawn[places])
        labels, refit = cells.label[places], None
        if self.stage2 == "erm":
            return Stage(index=cells.examples(places)[0]), None
        if self.stage2 == "dfr":
            from clipbias.tasks.interventions.dfr import DFR
            from clipbias.tasks.interventions.probe import balanced_rows
            from clipbias.tasks.interventions.refit import tune_balanced

            stays, held = cells.part(0.3, self.seed)
            usual = DFR()
            subsets = [
                cells.examples(
                    held[balanced_rows(cells.joint[held], seed=[self.seed, 42, d], missing="allow")]
                )[0]
                for d in range(5)
            ]
            refit = partial(
                tune_balanced,
                subsets=subsets,
                steps=usual.steps,
                rate=usual.rate,
                penalty=usual.penalty,
                part="",
            )
            return Stage(index=cells.examples(np.intersect1d(places, stays))[0]), refit
        index = cells.examples(places[resample_rows(labels, groups, seed=self.seed)])[0]
        if self.stage2 == "resample":
            return Stage(index=index), None
        from clipbias.tasks.interventions.hooks import GroupDROLoss

        every = doubled_groups(cells.joint, drawn)
        _, code, sizes = np.unique(every, return_inverse=True, return_counts=True)
        return Stage(index=index, loss=GroupDROLoss(code[cells.home], sizes)), None

    def _one_stage(
        self, on: Situation, fake: TaskData, theirs: Cells, chosen: np.ndarray, notes: dict
    ) -> Made:
        if self.stage2 == "dfr":
            raise DataError(
                "the one-stage baselines train with erm, resample or group_dro; dfr needs held-out real images."
            )
        both = combined(on.data, fake)
        mine = on.cells
        labels = tuple(dict.fromkeys([*mine.labels, *theirs.labels]))
        groups = tuple(dict.fromkeys([*mine.groups, *theirs.groups]))

        def codes(names: tuple[str, ...], own: tuple[str, ...], values: np.ndarray) -> np.ndarray:
            return np.array([names.index(name) for name in own])[values]

        offset = len(on.data.images)
        cells = Cells(
            np.concatenate([mine.rows, theirs.rows + offset]),
            np.concatenate([codes(labels, one.labels, one.label) for one in (mine, theirs)]),
            np.concatenate([codes(groups, one.groups, one.group) for one in (mine, theirs)]),
            labels, groups, np.concatenate([mine.home, theirs.home + len(mine)]), np.concatenate([mine.asked, theirs.asked]),
            mine.attribute, mine.what,
        )  # fmt: skip
        drawn = np.arange(len(cells)) >= len(mine)
        places = np.concatenate([np.arange(len(mine)), chosen + len(mine)])
        stage, refit = self._second(cells, drawn, places)
        return Made(
            (replace(stage, name="real and synthetic", data=both),),
            refit=refit,
            selection="label",
            notes=notes,
        )


synthetic_then_real = SyntheticThenReal
