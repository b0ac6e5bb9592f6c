"""The null of a local view: what random subsets of its size and make-up show, metric by metric."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from clipbias import views
from clipbias.errors import StatusError
from clipbias.instrument.inputs import input_of, usable
from clipbias.metrics import inference
from clipbias.metrics.inference import Inputs
from clipbias.metrics.record import get

if TYPE_CHECKING:
    from clipbias.instrument.part import Part

TIED = "towards the planted ties"  # stands for a probe where a band is of the mean over probes in their planted direction
BAND_COLUMNS = [
    "model", "image_set", "view", "attribute", "probe", "metric", "size", "value", "q_low", "q_mid", "q_high", "p_high",
]  # fmt: skip


class Bands:
    """The bands of one measurement of one model; views with the same subsets share what these show."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._drawn: dict[tuple[str, bytes], dict[tuple[str, str], np.ndarray]] = {}

    def band(self, view: views.View, attribute: str, inputs: dict[str, Inputs]) -> list[dict]:
        """Return the 95 % band of random subsets like a view, and how often they reach the view's own value."""
        draws = self.part.recipe.random_subsets
        names = [
            n for n in self.part.measurement.metrics
            if not get(n).per_group and input_of(n) not in ("association", "targets", "words") and usable(n, inputs.get(input_of(n))) is not None
        ]  # fmt: skip
        if not draws or not names:
            return []
        masks = self._random_masks(view, attribute, draws)
        # Views of one size and make-up (all contexts, for example) are compared with the same subsets: measured once.
        key = attribute, hashlib.sha256(np.packbits(masks).tobytes()).digest()
        if key not in self._drawn:
            self._drawn[key] = self._means(names, attribute, inputs, masks)
        seen = self._means(names, attribute, inputs, view.mask[None])
        bands = []
        for (probe, name), means in self._drawn[key].items():
            own, drawn = seen[probe, name][0], means[~np.isnan(means)]
            if len(drawn) == 0:
                continue
            low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975], method="nearest")
            reached = np.nan if np.isnan(own) else (1 + (drawn >= own).sum()) / (1 + len(drawn))
            bands.append(
                {"view": view.name, "attribute": attribute, "probe": probe, "metric": name, "size": view.size, "value": own,
                 "q_low": low, "q_mid": middle, "q_high": high, "p_high": reached}
            )  # fmt: skip
        return bands

    def _means(
        self, names: list[str], attribute: str, inputs: dict[str, Inputs], masks: np.ndarray
    ) -> dict[tuple[str, str], np.ndarray]:
        """Return each metric's mean over probes in each subset, and C-ASC towards the ties, by probe and metric."""
        by_input: dict[str, list[str]] = {}
        for name in names:
            by_input.setdefault(input_of(name), []).append(name)
        means: dict[str, np.ndarray] = {}
        for kind, some in by_input.items():
            means |= self._of_subsets(some, inputs[kind], masks)
        found = {("", name): means[name] for name in names}
        tied = self.part.tied(attribute)
        by_concept = inputs["ranking"].probes == self.part.concepts  # type: ignore[union-attr]
        wanted = "association" in inputs and "c_asc" in self.part.measurement.metrics
        if tied is not None and wanted and by_concept:
            found[TIED, "c_asc"] = self._towards_ties(tied, inputs["ranking"], masks)
        return found

    def _of_subsets(self, names: list[str], given: Inputs, masks: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric's mean over probes in each subset of the images, (m,); NaN where undefined."""
        try:
            found = inference.subset_values(names, given, masks, protocol=self.part.recipe.protocol)
        except StatusError:  # the view's own row says why, for example k larger than n
            return {name: np.full(len(masks), np.nan) for name in names}
        means = {}
        for name, values in found.items():
            have = ~np.isnan(values)
            # −inf (a group absent from a list) stays in the mean over probes, as it does in the view's own row.
            means[name] = np.where(have, values, 0).sum(1) / np.where(have.any(1), have.sum(1), np.nan)
        return means

    def _towards_ties(
        self, tied: tuple[list[int], list[int], tuple[str, str]], given: Inputs, masks: np.ndarray
    ) -> np.ndarray:
        """Return each subset's C-ASC in the direction of the planted ties, (m,): of the tied group, mean over concepts."""
        try:
            parts = [
                inference.point_values(
                    "c_asc", given, masks, protocol=self.part.recipe.protocol, group=level
                )[:, concepts]
                for concepts, level in zip(tied[:2], tied[2], strict=True)
            ]
        except StatusError:
            return np.full(len(masks), np.nan)
        return np.concatenate(parts, axis=1).mean(1)

    def _random_masks(self, view: views.View, attribute: str, draws: int) -> np.ndarray:
        """Return random subsets like a view: whole twin groups if it is made of them, else images with its composition."""
        seed = self.part.recipe.protocol.seed
        if self.part.blocks is not None:
            names, codes = np.unique(self.part.blocks, return_inverse=True)
            inside = np.bincount(codes, view.mask, len(names))
            if np.isin(inside / np.bincount(codes), (0, 1)).all():
                return views.random_subsets(len(names), int((inside > 0).sum()), draws=draws, seed=seed)[
                    :, codes
                ]
        labels = self.part.images.table[attribute].astype(str).to_numpy()
        return views.matched_subsets(view, draws=draws, seed=seed, strata=labels)
