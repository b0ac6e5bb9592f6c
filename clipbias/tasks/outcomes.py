"""What a model said about the test images, next to what is true of them: the ground on which `evaluate` counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest
from clipbias.tasks.metrics.vqa import normalize_answer

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData

NONE = "none"  # what a caption names that names no concept
_CONCEPTS = ("role", "object")


class Outcomes:
    """Predictions joined with the test examples and their images.

    Parameters
    ----------
    predictions : DataFrame
        ``example_id, prediction``.
    data : TaskData
    concept : str, optional
        Column of the images whose levels captions name and questions ask for. Default: the one that the ties are of, else
        ``role`` or ``object`` where the images have it.

    Attributes
    ----------
    items : DataFrame
        The test examples with their prediction.
    rows : ndarray (n,)
        Positions of the test images in ``data.images``, ascending.
    home : ndarray
        For each example, which of the test images it is about.
    table : DataFrame
        The test images.

    Raises
    ------
    DataError
        A test example without a prediction, or with two; a prediction that is no text or for no example; no such concept.
    """

    def __init__(self, predictions: pd.DataFrame, data: TaskData, *, concept: str | None = None) -> None:
        self.data, self.task = data, data.task
        self.items = _joined(predictions, data)
        place = data.image_rows(self.items)
        self.rows, self.home = np.unique(place, return_inverse=True)
        self.table = data.images.table.iloc[self.rows].reset_index(drop=True)
        if concept is not None and concept not in self.table:
            raise DataError(f"the images have no column {concept!r}." + nearest(concept, self.table.columns))
        ties = data.images.facts.get("ties")
        self.ties: dict[str, str] = (
            {str(k): str(v) for k, v in ties.items()} if isinstance(ties, Mapping) else {}
        )
        self.concept = concept or self._tied_column() or next((c for c in _CONCEPTS if c in self.table), None)

    @property
    def n(self) -> int:
        """Number of test images."""
        return len(self.rows)

    def attribute(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return group codes of the images (-1 where it is not known) and the levels that occur, in their order."""
        column = self.data.images.column(name)
        labels = np.asarray(column, dtype=object)[self.rows].astype(str)
        seen = set(labels.tolist())
        levels = tuple(
            str(level) for level in column.categories if str(level) in seen and str(level) != UNKNOWN
        )
        codes = {level: code for code, level in enumerate(levels)}
        return np.array([codes.get(label, -1) for label in labels], dtype=np.int64), levels

    @cached_property
    def blocks(self) -> np.ndarray | None:
        """What is resampled as a whole: the scene, else the pair of twins; None where there are neither."""
        if "scene" in self.table:
            scene = self.table["scene"].astype(str)
            if (scene != "").all():
                return scene.to_numpy(dtype=object)
        if len(self.pairs):
            block = np.arange(self.n)
            block[self.pairs[:, 1]] = self.pairs[:, 0]
            return block
        return None

    @cached_property
    def twin_attribute(self) -> str | None:
        """The attribute in which twins differ, and in no other."""
        mine, other = self._twins
        if not len(mine):
            return None
        for name in self.data.images.attributes:
            codes, _ = self.attribute(name)
            if (codes[mine] != codes[other]).all():
                return name
        return None

    @cached_property
    def pairs(self) -> np.ndarray:
        """Twins as positions of images (m, 2), each pair once and in the order of the attribute's levels."""
        name = self.twin_attribute
        mine, other = self._twins
        if name is None:
            return np.zeros((0, 2), dtype=np.int64)
        codes, _ = self.attribute(name)
        # Only known groups have an order.
        once = (codes[mine] < codes[other]) & (codes[mine] >= 0)
        return np.column_stack([mine[once], other[once]])

    @cached_property
    def _twins(self) -> tuple[np.ndarray, np.ndarray]:
        empty = np.zeros(0, dtype=np.int64)
        if "twin" not in self.table:
            return empty, empty
        place = {str(image): row for row, image in enumerate(self.table["image_id"])}
        there = [
            (row, place[twin]) for row, twin in enumerate(self.table["twin"].astype(str)) if twin in place and place[twin] != row
        ]  # fmt: skip
        return tuple(np.array(there, dtype=np.int64).reshape(-1, 2).T)  # type: ignore[return-value]

    @cached_property
    def concepts(self) -> np.ndarray:
        """The true concept of each image, str (n,)."""
        assert self.concept is not None
        return self.table[self.concept].astype(str).to_numpy(dtype=object)

    @cached_property
    def concept_levels(self) -> tuple[str, ...]:
        """The concepts that occur in the whole set or are tied, sorted."""
        assert self.concept is not None
        seen = set(self.data.images.table[self.concept].dropna().astype(str)) | set(self.ties)
        return tuple(sorted(seen - {"", UNKNOWN}))

    def ties_of(self, levels: Sequence[str]) -> dict[str, str]:
        """Return concept to the level of an attribute that it is tied to; empty where the ties are of another attribute."""
        return self.ties if self.ties and set(self.ties.values()) <= set(levels) else {}

    def said_concepts(self) -> np.ndarray:
        """Return the concept that each image's caption names, or the answer to the question for it; None where there is none."""
        out = np.full(self.n, None, dtype=object)
        if self.concept is None:
            return out
        if self.task == "captioning":
            out[self.home] = named(self.items["prediction"].tolist(), self.concept_levels)
            return out
        asked = self.concept_question
        if asked is not None:
            own = (self.items["question"] == asked).to_numpy()
            out[self.home[own]] = (
                self.items.loc[own, "prediction"].map(normalize_answer).to_numpy(dtype=object)
            )
        return out

    @cached_property
    def concept_question(self) -> str | None:
        """The question whose true answer is the concept of the image, the most asked one if there are several."""
        if self.concept is None:
            return None
        truth = pd.Series(self.concepts[self.home]).map(normalize_answer).to_numpy()
        right = self.items["target"].astype(str).map(normalize_answer).to_numpy() == truth
        found = pd.DataFrame({"question": self.items["question"].to_numpy(), "right": right, "truth": truth})
        table = found.groupby("question").agg(
            share=("right", "mean"), n=("right", "size"), kinds=("truth", "nunique")
        )
        # A question about one concept only ("is there a dog?") is not a question for the concept.
        table = table[(table["share"] > 0.9) & (table["kinds"] > 1)]
        return None if table.empty else str(table["n"].idxmax())

    def _tied_column(self) -> str | None:
        if not self.ties:
            return None
        for name in self.table:
            try:
                if set(self.ties) <= set(self.data.images.table[name].dropna().astype(str)):
                    return str(name)
            except TypeError:  # lists and the like are no labels
                continue
        return None


def named(texts: Sequence[str], levels: Sequence[str]) -> np.ndarray:
    """Return the level that each text names first, ``"none"`` where it names none.

    Longer names win over the shorter ones inside them, words may be plural, and case does not matter.
    """
    longest = sorted(levels, key=len, reverse=True)
    found = {re.sub(r"\s+", " ", level.lower()): level for level in longest}
    if not found:
        return np.full(len(texts), NONE, dtype=object)
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, found)) + r")(?:e?s)?\b")
    said = (pattern.search(re.sub(r"\s+", " ", text.lower())) for text in texts)
    return np.array([found[match.group(1)] if match else NONE for match in said], dtype=object)


def _joined(predictions: pd.DataFrame, data: TaskData) -> pd.DataFrame:
    for column in ("example_id", "prediction"):
        if column not in predictions:
            raise DataError(
                f"the predictions have no column {column!r}." + nearest(column, map(str, predictions.columns))
            )
    ids = predictions["example_id"].astype(str)
    if ids.duplicated().any():
        raise DataError(
            f"example {ids[ids.duplicated()].iloc[0]!r} has two predictions; evaluate one model at a time."
        )
    items = data.split("test").reset_index(drop=True)
    strange = ~ids.isin(data.examples["example_id"].astype(str))
    if strange.any():
        raise DataError(
            f"{int(strange.sum())} predictions are for no example of {data.name!r}, the first: {ids[strange].iloc[0]!r}."
        )
    said = dict(zip(ids, predictions["prediction"], strict=True))
    missing = [i for i in items["example_id"].astype(str) if i not in said]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} test examples have no prediction, the first: {missing[0]!r}. Was the "
            "prediction interrupted?"
        )
    items["prediction"] = [said[i] for i in items["example_id"].astype(str)]
    silent = [not isinstance(text, str) for text in items["prediction"]]
    if any(silent):
        first: Any = items["example_id"][int(np.argmax(silent))]
        raise DataError(f"the prediction of example {first!r} is no text.")
    return items
