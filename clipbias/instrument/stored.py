"""Stored scores or embeddings measured like a model: published numbers, and what other tools have put out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd

from clipbias import probes
from clipbias.data import ImageSet
from clipbias.errors import DataError, ModelError, nearest
from clipbias.instrument import images as image_sets
from clipbias.instrument.part import Part
from clipbias.instrument.recipe import Measurement, Recipe
from clipbias.instrument.unit import measure_unit, plan_unit, put_together, unit_key
from clipbias.instrument.work import Measured, Unit
from clipbias.metrics import integrity
from clipbias.models.stored import Stored, is_stored, load_stored


def measure_one(unit: Unit, *, on_step: Callable[[str], None] | None = None) -> Measured:
    """Measure one model, or one file of stored scores or embeddings; see `measure_unit`."""
    if is_stored(unit.model):
        return measure_stored(unit, on_step or (lambda text: None))
    return measure_unit(unit, on_step=on_step)


def measure_stored(unit: Unit, say: Callable[[str], None]) -> Measured:
    """Measure one file of scores or embeddings; see `measure_unit`."""
    say(f"{unit.model}: reading")
    stored = load_stored(unit.model)
    sets = [image_sets.load(m, protocol=unit.recipe.protocol) for m in unit.recipe.measurements]
    data = {s.name: image_sets.digest(s, np.arange(len(s)), labels_only=True) for s in sets}
    key = unit_key(unit, stored.digest, data)
    if key == unit.done:
        return Measured(key, kept=True, data=data)
    collected: dict[str, list[pd.DataFrame]] = {}
    for measurement, image_set in zip(unit.recipe.measurements, sets, strict=True):
        say(f"{unit.model}: {image_set.name}")
        for name, frame in StoredPart(unit, measurement, image_set, stored).tables().items():
            collected.setdefault(name, []).append(frame)
    tables = put_together(collected, unit.model, dict(stored.metadata), stored.digest)
    return Measured(key, False, tables, 0, 0, data)


class StoredPart(Part):
    """One measurement of stored numbers; images without a row are left out and counted."""

    def __init__(self, unit: Unit, measurement: Measurement, image_set: ImageSet, stored: Stored) -> None:
        self.unit, self.recipe, self.measurement = unit, unit.recipe, measurement
        self.model = self.reference = self.cache = None
        self.stored = stored
        rows = self._match(image_set)
        missing = np.flatnonzero(rows < 0)
        self.left_out = pd.concat(
            [
                image_set.left_out,
                pd.DataFrame({"item": [image_set.ids[i] for i in missing], "reason": "no stored row"}),
            ],
            ignore_index=True,
        )
        self.images = image_set if not len(missing) else image_set.take(np.flatnonzero(rows >= 0))
        self.numbers = stored.values[rows[rows >= 0]]
        self._describe()
        self._check()
        columns = self._columns(measurement.probe, stored.names)
        self.concepts = [stored.names[i] for i in columns]
        self._picked = columns
        self.values = None if stored.texts is None else _unit(self.numbers)
        self.texts = None if stored.texts is None else _unit(stored.texts[columns])

    def _match(self, image_set: ImageSet) -> np.ndarray:
        """Return the stored row of each image, −1 where there is none."""
        stored = self.stored
        found = integrity.check_ids(stored.ids, len(stored.values), image_set.ids)
        integrity.gate(found, str(stored.spec))
        self._ids = found
        absent = sum(f.value for f in found if f.check == "images without a row")
        if absent > self.unit.max_bad * len(image_set):
            reason = next(f.reason for f in found if f.check == "images without a row")
            raise DataError(
                f"{stored.spec}: {reason} Add the rows, narrow the image set, or raise --max-bad (now {self.unit.max_bad:g})."
            )
        return pd.Index(stored.ids or []).get_indexer(pd.Index(image_set.ids))

    def _check(self) -> None:
        """Run the gates on the rows that are used; a failed one ends the measurement."""
        stored = self.stored
        if stored.texts is None:
            found = integrity.check_scores(self.numbers, stored.names, probabilities=stored.probabilities)
        else:
            found = integrity.check_embeddings(self.numbers, "images")
            found += [
                f for f in integrity.check_embeddings(stored.texts, "texts") if f.status == integrity.FAILED
            ]
        integrity.gate(found, str(stored.spec))
        self._checks = found

    def _columns(self, probe: str, names: list[str]) -> list[int]:
        """Return the columns that a probe set asks for; all of them without one."""
        if not probe:
            return list(range(len(names)))
        wanted = probes.load(probe).concepts
        columns = [names.index(c) for c in wanted if c in names]
        if not columns:
            raise DataError(
                f"{self.stored.spec} has none of the concepts of the probe set {probe!r}."
                + nearest(wanted[0], names)
                + " Leave --probe out to use all columns."
            )
        lost = [c for c in wanted if c not in names]
        if lost:
            row = {"item": probe, "reason": f"no stored column for {', '.join(lost)}"}
            self.left_out = pd.concat([self.left_out, pd.DataFrame([row])], ignore_index=True)
        return columns

    def similarity(self, rows: np.ndarray) -> np.ndarray:
        """Return the stored scores, or the cosines of the stored embeddings, (P, rows)."""
        if self.texts is None or self.values is None:
            return self.numbers[np.ix_(rows, np.array(self._picked))].T
        return super().similarity(rows)

    def rankings(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the stored columns and their scores; what the protocol asks of prompts and lengths is settled."""
        return self.concepts, self.similarity(rows)

    def harm(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the harmful columns: names joined by commas, or the concepts of a probe set."""
        names = self.stored.names
        asked = [part.strip() for part in self.measurement.harmful.split(",")]
        if not all(part in names for part in asked):
            asked = [c for c in probes.load(self.measurement.harmful).concepts if c in names]
        if not asked:
            raise DataError(f"{self.stored.spec} has no column for {self.measurement.harmful!r}.")
        at = [names.index(a) for a in asked]
        if self.stored.texts is None:
            return asked, self.numbers[np.ix_(rows, np.array(at))].T
        return asked, _unit(self.stored.texts[at]) @ self.values[rows].T  # type: ignore[index]

    def level_scores(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the stored columns for the concepts of a probe set of levels."""
        names = self.stored.names
        levels = [c for c in probes.load(self.measurement.levels).concepts if c in names]
        at = np.array([names.index(c) for c in levels], dtype=int)
        if self.stored.texts is None:
            return levels, self.numbers[np.ix_(rows, at)].T
        return levels, _unit(self.stored.texts[at]) @ self.values[rows].T  # type: ignore[index]

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return stored text embeddings by their names; nothing can be encoded without a model."""
        names = self.stored.names
        lost = [t for t in texts if t not in names]
        if lost or self.stored.texts is None:
            raise ModelError(
                f"{self.stored.spec} holds no embedding of the text {(lost or texts)[0]!r}: without a model nothing new is encoded."
            )
        return _unit(self.stored.texts[[names.index(t) for t in texts]])

    def integrity(self) -> pd.DataFrame:
        """Return the checks that the numbers have passed, and the geometry of stored embeddings."""
        found = [*self._ids, *self._checks]
        if self.values is not None:
            found += integrity.geometry(self.values, self.texts)
        return pd.DataFrame([asdict(f) for f in found])

    def _examples(self) -> pd.DataFrame:
        """Return no pictures where the image set was read without its images."""
        try:
            return super()._examples()
        except (DataError, OSError):
            columns = [
                "model",
                "image_set",
                "attribute",
                "probe",
                "group",
                "image_id",
                "caption",
                "png",
                "score",
            ]
            return pd.DataFrame(columns=columns)


def plan_one(spec: str, recipe: Recipe, device: str, precision: str) -> dict[str, object]:
    """Return what a unit would cost; see `plan_unit`. Of stored numbers nothing is left to encode."""
    if not is_stored(spec):
        return plan_unit(spec, recipe, device, precision)
    stored = load_stored(spec)
    cells = 0
    for m in recipe.measurements:
        attributes = len(m.attributes or image_sets.load(m).attributes)
        cells += attributes * len(m.metrics) * len(recipe.views_of(m))
    n = len(stored.values)
    return {"model": spec, "images": n, "in the cache": n, "to encode": 0, "values (at least)": cells}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
