"""The data of a task: images, examples, and which of them are trained on and which show the bias."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest
from clipbias.tasks.examples import COLUMNS, SPLITS

TASKS = ("vqa", "captioning")


@dataclass(frozen=True, eq=False)
class TaskData:
    """Images and examples of one task in three splits.

    Attributes
    ----------
    task : {"vqa", "captioning"}
    images : ImageSet
        The images of all splits, with protected attributes and whatever ground truth there is.
    examples : pandas.DataFrame
        ``example_id`` (unique), ``image_id``, ``split`` (``"train"``, ``"val"`` or ``"test"``), ``question``
        (empty for captioning), ``question_type``, ``answer_type``, ``answers`` (list: all people's answers or
        all captions of the image) and ``target`` (what a generative head is trained on). For captioning,
        train and val have one row per image and caption, test has one per image.
    name, licence, source : str
    left_out : pandas.DataFrame
        ``item, reason``: what the files hold and the task does not use.

    Raises
    ------
    DataError
        A column or split is wrong, an id is there twice, an example's image is missing, a split has no examples,
        or an image, or two images of one ``scene`` (twins), are in two splits. ``test`` are the images of the
        bias evaluation, so they are never trained on.
    """

    task: str
    images: ImageSet
    examples: pd.DataFrame
    name: str
    licence: str = "not stated"
    source: str = ""
    left_out: pd.DataFrame = field(default_factory=lambda: left_out([], ""))

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DataError(f"there is no task {self.task!r}." + nearest(self.task, TASKS))
        table = self.examples
        for column in COLUMNS:
            if column not in table:
                raise DataError(f"the examples of {self.name!r} have no column {column!r}.")
        twice = table["example_id"].duplicated()
        if twice.any():
            raise DataError(
                f"{self.name!r} holds example {table.loc[twice, 'example_id'].iloc[0]!r} twice "
                f"({int(twice.sum())} such rows)."
            )
        wrong = ~table["split"].isin(SPLITS)
        if wrong.any():
            raise DataError(
                f"{self.name!r} has no split {table.loc[wrong, 'split'].iloc[0]!r}: {', '.join(SPLITS)}."
            )
        strays = ~table["image_id"].isin(self.images.ids)
        if strays.any():
            raise DataError(
                f"example {table.loc[strays, 'example_id'].iloc[0]!r} of {self.name!r} is about image "
                f"{table.loc[strays, 'image_id'].iloc[0]!r}, which is not in the set ({int(strays.sum())} such examples)."
            )
        for split in SPLITS:
            if not (table["split"] == split).any():
                raise DataError(f"{self.name!r} has no examples to {_USE[split]} (split {split!r}).")
        self._check_disjoint()

    def _check_disjoint(self) -> None:
        pairs = self.examples[["image_id", "split"]].drop_duplicates()
        _one_split_each(pairs, "image_id", "image", self.name)
        if "scene" in self.images.table:
            scene = self.images.table.set_index("image_id")["scene"].astype(str)
            pairs = pairs.assign(scene=pairs["image_id"].map(scene))
            _one_split_each(pairs[pairs["scene"] != ""], "scene", "scene", self.name)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {(self.examples['split'] == split).sum()}" for split in SPLITS)
        return f"TaskData({self.name!r}, {self.task}, {len(self.images)} images, {sizes})"

    def split(self, name: str) -> pd.DataFrame:
        """Return the examples of one split, in order, numbered from 0.

        Raises
        ------
        DataError
            There is no such split.
        """
        if name not in SPLITS:
            raise DataError(f"there is no split {name!r}." + nearest(name, SPLITS))
        return self.examples[self.examples["split"] == name].reset_index(drop=True)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {image: row for row, image in enumerate(self.images.ids)}

    def image_rows(self, examples: pd.DataFrame | Sequence[str]) -> np.ndarray:
        """Return the positions in ``images`` of examples, or of image ids: int64 (n,).

        Raises
        ------
        DataError
            An image is not in the set.
        """
        ids = examples["image_id"] if isinstance(examples, pd.DataFrame) else examples
        try:
            return np.array([self._place[image] for image in ids], np.int64)
        except KeyError as error:
            raise DataError(f"image {error.args[0]!r} is not in {self.name!r}.") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the task, the image ids and all examples; the images' bytes are not read."""
        total = hashlib.sha256(f"{self.task}|{self.name}|{len(self.images)}|".encode())
        total.update("\n".join(self.images.ids).encode())
        for row in self.examples[list(COLUMNS)].itertuples(index=False):
            total.update(repr(tuple(row)).encode())
        return total.hexdigest()


_USE = {"train": "train on", "val": "choose the best state by", "test": "measure bias on"}


def _one_split_each(pairs: pd.DataFrame, column: str, what: str, name: str) -> None:
    pairs = pairs[[column, "split"]].drop_duplicates()
    twice = pairs[column].duplicated(keep=False)
    if twice.any():
        first = pairs.loc[twice, column].iloc[0]
        places = ", ".join(pairs.loc[pairs[column] == first, "split"])
        raise DataError(
            f"{name!r} has {what} {first!r} in {places} ({pairs.loc[twice, column].nunique()} such {what}s). Bias is "
            "measured on images that were not trained on: split by image, twins together."
        )
