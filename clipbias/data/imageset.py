"""An image set: one table row per image, and a way to get its pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from clipbias.errors import DataError, nearest

UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with perceived attributes.

    Attributes
    ----------
    name : str
    table : pandas.DataFrame
        One row per image in a fixed order: ``image_id`` (unique str), optionally ``path``, ``caption``;
        attribute and context columns are categorical with explicit levels. ``"unknown"`` is a level of its
        own and is never imputed.
    attributes, contexts : tuple of str
        Columns that hold protected attributes, and columns that views may use.
    read : callable
        ``read(rows) -> list of bytes``: encoded images (PNG, JPEG, ...) for row positions.
    questions : pandas.DataFrame or None
        Columns ``question_id, image_id, question, answer, answer_type``.
    left_out : pandas.DataFrame
        ``item, reason``: what the reader did not take, and why.
    licence, source : str
    facts : mapping
        Anything else the maker knows, for example the planted strengths.
    """

    name: str
    table: pd.DataFrame
    attributes: tuple[str, ...]
    read: Callable[[Sequence[int]], list[bytes]]
    contexts: tuple[str, ...] = ()
    questions: pd.DataFrame | None = None
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"item": [], "reason": []}))
    licence: str = "not stated"
    source: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = self.table.get("image_id")
        if ids is None:
            raise DataError(f"image set {self.name!r} has no column 'image_id'.")
        if ids.duplicated().any():
            raise DataError(
                f"image set {self.name!r} has duplicated image_id {ids[ids.duplicated()].iloc[0]!r}."
            )
        for column in (*self.attributes, *self.contexts):
            self.column(column)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"ImageSet({self.name!r}, n={len(self)}, attributes={list(self.attributes)})"

    @property
    def ids(self) -> list[str]:
        """Image ids in row order."""
        return self.table["image_id"].tolist()

    def column(self, name: str) -> pd.Categorical:
        """Return a labelled column, or an error that names the nearest one.

        Raises
        ------
        DataError
            The column does not exist, or does not hold labels.
        """
        if name not in self.table:
            raise DataError(
                f"image set {self.name!r} has no column {name!r}." + nearest(name, self.table.columns)
            )
        try:
            return pd.Categorical(self.table[name])
        except TypeError as error:
            raise DataError(
                f"column {name!r} of {self.name!r} holds no labels (one plain value per image)."
            ) from error

    def image(self, row: int) -> Image.Image:
        """Return one image as RGB."""
        return Image.open(io.BytesIO(self.read([row])[0])).convert("RGB")

    def digests(self, rows: Sequence[int] | None = None) -> list[str]:
        """Return the SHA-256 of each image's encoded bytes (the key of its embedding)."""
        rows = range(len(self)) if rows is None else rows
        return [hashlib.sha256(data).hexdigest() for data in self.read(list(rows))]

    def take(self, mask: np.ndarray, name: str | None = None) -> ImageSet:
        """Return the images where ``mask`` (bool or row positions) selects them."""
        rows = np.flatnonzero(mask) if np.asarray(mask).dtype == bool else np.asarray(mask)
        table = self.table.iloc[rows].reset_index(drop=True)
        questions = self.questions
        if questions is not None:
            questions = questions[questions["image_id"].isin(table["image_id"])].reset_index(drop=True)
        read = self.read
        return ImageSet(
            name or self.name, table, self.attributes, lambda r: read([int(rows[i]) for i in r]), self.contexts,
            questions, self.left_out, self.licence, self.source, self.facts,
        )  # fmt: skip
