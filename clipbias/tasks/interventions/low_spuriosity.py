"""Tuning the head on the held-out images that show the spurious cues of their class least (Moayeri et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.cells import Cells, cells_of
from clipbias.tasks.interventions.measures import check_apart
from clipbias.tasks.interventions.spuriosity import associated, directions, lowest, spuriosity

Choice = Literal["low", "random", "error", "high"]


@register
class LowSpuriosityHead(Intervention):
    """Train plainly, then tune the head's last part on held-out images that show the spurious cues of their class least.

    Attributes
    ----------
    k : int
        Images per class; at most half of its held-out images.
    choose : {"low", "random", "error", "high"}
        ``"random"``: as many at random (the null twin); ``"error"``: those that the model gets wrong (the plain twin).
    share : float
        Of the training images held out for the ranking: where a model has fitted its images, tuning on them moves nothing.
    fit_on : {"held_out", "train"}
    stop : float
        Tuning stops when the gap on validation images is at most this, in either direction; looked at after every step of
        ``every``.
    gap_k : int
        Validation images at each end per class.
    steps : int
        At most.
    every : int
        0: each step for VQA, every tenth for captions (which have to be written).
    rate : float
    cues : str
        Texts separated by ``|``, with ``reference`` the CLIP that ranks. Default: the levels of the attribute as directions in
        the embeddings before adaptation.
    reference : str
    part : str
        As in `DFR`.
    """

    name: ClassVar[str] = "low_spuriosity_head"
    k: int = Field(default=100, ge=1)
    choose: Choice = "low"
    share: float = Field(default=0.4, gt=0, lt=1)
    fit_on: Literal["held_out", "train"] = "held_out"
    stop: float = Field(default=0.05, ge=0)
    gap_k: int = Field(default=10, ge=1)
    steps: int = Field(default=150, ge=1)
    every: int = Field(default=0, ge=0)
    rate: float = Field(default=1e-3, gt=0)
    cues: str = ""
    reference: str = ""
    part: str = ""

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.refit import tune_by_gap

        cells = on.cells
        val = cells_of(on.data, on.table, "val", attribute=self.attribute, label=self.label)
        check_apart(cells.rows, val.rows)
        stays, held = cells.part(self.share, self.seed)
        ranked = held if self.fit_on == "held_out" else stays
        strength = self._cues(on)
        x = strength(cells)
        classes = np.array(cells.labels, object)[cells.label].astype(str)
        named = np.flatnonzero(cells.known)
        found = associated(x[named], classes[named])
        pool = ranked[cells.known[ranked]]
        scores = spuriosity(x[pool], classes[pool], found)
        chosen = pool[self._chosen(scores, classes[pool])]
        val_classes = np.array(val.labels, object)[val.label].astype(str)
        val_scores = spuriosity(strength(val), val_classes, found)
        refit = partial(
            tune_by_gap, images=chosen, pool=pool, cells=cells, val=val, val_scores=val_scores, val_classes=val_classes,
            captions=on.data.task == "captioning", setting=self,
        )  # fmt: skip
        minority = _minority(cells)
        notes = {
            "held out": len(held), "tuned on": len(chosen), "ranked by": self.cues or f"directions of {cells.attribute}",
            "minority share": round(float(minority[chosen].mean()), 3) if len(chosen) else float("nan"),
            "minority share of all": round(float(minority.mean()), 3),
        }  # fmt: skip
        seen = "label" if self.cues else "label, group (direction of the cues)"
        return Made(
            (stage_of(cells, stays),), refit=refit, train=seen, selection="label; ranks of cues", notes=notes
        )

    def _chosen(self, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if self.choose == "low":
            return lowest(scores, classes, self.k)
        if self.choose == "high":
            return lowest(-scores, classes, self.k)
        order = np.random.default_rng([self.seed, 71]).random(len(scores))
        return lowest(np.where(np.isfinite(scores), order, np.nan), classes, self.k)

    def _cues(self, on: Situation) -> Callable[[Cells], np.ndarray]:
        if self.cues:
            return self._texts(on)
        if self.reference:
            raise DataError("reference ranks by texts: say which (cues=text|text).")
        cells = on.cells
        known = [level for level in cells.groups if level != UNKNOWN]
        train = on.encoder(cells.rows)
        levels = np.array(cells.groups, object)[cells.group].astype(str)

        def strength(of: Cells) -> np.ndarray:
            if of is cells:
                return directions(train, levels, known)
            both = np.vstack([train, on.encoder(of.rows)])
            # Groups of other splits are not looked at.
            padded = np.concatenate([levels, np.full(len(of), UNKNOWN, object)]).astype(str)
            return directions(both, padded, known)[len(train) :]

        return strength

    def _texts(self, on: Situation) -> Callable[[Cells], np.ndarray]:
        from clipbias.embedding import EmbeddingCache, embed_images, embed_texts
        from clipbias.models import load_model

        if not self.reference:
            raise DataError("cue texts need a CLIP that ranks by them: name it (reference=MODEL).")
        texts = [text.strip() for text in self.cues.split("|") if text.strip()]
        clip, cache = load_model(self.reference), EmbeddingCache()
        wanted = np.asarray(embed_texts(clip, texts, cache=cache))

        def strength(of: Cells) -> np.ndarray:
            shown = on.data.images.take(of.rows)
            return np.asarray(embed_images(clip, shown, cache=cache, bad="raise").values) @ wanted.T

        return strength


def _minority(cells: Cells) -> np.ndarray:
    """Return which images are of a group that is smaller than an equal share of their label, bool (m,)."""
    counts = np.zeros((len(cells.labels), len(cells.groups)))
    np.add.at(counts, (cells.label, cells.group), 1)
    there = (counts > 0).sum(1, keepdims=True)
    return (counts < counts.sum(1, keepdims=True) / np.maximum(there, 1))[cells.label, cells.group]


low_spuriosity_head = LowSpuriosityHead
