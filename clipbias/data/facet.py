"""FACET: people in photographs, with the counts of annotators kept as soft labels."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipbias.data.files import MISSING, left_out, no_files
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.regions import Box, index_files, read_regions
from clipbias.data.registry import reader
from clipbias.errors import DataError

# Attribute -> prefix of its columns and the levels; the column of "nobody can tell" ends in `na`.
COUNTS = {
    "gender": ("gender_presentation_", ("masc", "fem", "non_binary")),
    "age": ("age_presentation_", ("young", "middle", "older")),
    "skin_tone": ("skin_tone_", tuple(str(tone) for tone in range(1, 11))),
}
CONTEXTS = ("class1", "class2")


@reader("facet")
def read_facet(
    csv: str | Path, images: str | Path | None, *, contexts: Sequence[str] = CONTEXTS, name: str = "facet"
) -> ImageSet:
    """Read FACET's ``annotations.csv``: one row per person, cut out of the photograph.

    Parameters
    ----------
    csv : str or Path
    images : str or Path or None
        Folder of the photographs, at any depth (``imgs_1`` to ``imgs_3``). None: labels only.
    contexts : sequence of str
        Columns that views may use; class1 and class2 by default.
    name : str

    Returns
    -------
    ImageSet
        Attributes gender and age (presentation, as perceived) and skin_tone (Monk scale, 1 to 10). What the file
        holds are counts of annotators: ``ATTRIBUTE=LEVEL`` is the share of them that chose a level, in [0, 1] (soft
        label; ``facts["soft"]`` names the columns). The attribute itself is the level chosen most often;
        ``"unknown"`` where levels tie or most could not tell, with the reason in ``ATTRIBUTE_note``.

    Raises
    ------
    DataError
        Missing file or column, a count that is no number, or a box that cannot be read (row named).
    """
    path = Path(csv)
    table = read_csv(path)
    needed = [p + level for p, levels in COUNTS.values() for level in (*levels, "na")]
    need_columns(table, ["person_id", "filename", "bounding_box", *needed, *contexts], str(path))
    soft: dict[str, list[str]] = {}
    columns: dict[str, Any] = {}
    for attribute, (prefix, levels) in COUNTS.items():
        shares, label, note = _soft(table, prefix, levels, str(path))
        soft[attribute] = [f"{attribute}={level}" for level in levels]
        columns |= dict(zip(soft[attribute], shares.T, strict=True))
        columns[attribute] = categorical(label, levels=levels, where=f"{path}, {attribute}")
        columns[f"{attribute}_note"] = note
    boxes = [_box(text, row, path) for row, text in enumerate(table["bounding_box"], 1)]
    table = label_columns(table, contexts, levels=None, where=str(path))
    table = table.drop(columns=[*needed, "bounding_box"]).assign(
        image_id=table["person_id"], path=table["filename"], scene=table["filename"], **columns
    )
    read, left = no_files(name), left_out([], "")
    if images is not None:
        found = index_files(images)
        there = table["path"].isin(found)
        if not there.any():
            raise DataError(
                f"none of the photographs is below {images}; looked for {table['path'].iloc[0]} first."
            )
        left = left_out(table.loc[~there, "image_id"].tolist(), f"{MISSING} (below {images})")
        boxes = [box for box, ok in zip(boxes, there, strict=True) if ok]
        table = table[there].reset_index(drop=True)
        read = read_regions([found[file] for file in table["path"]], boxes)
    first = ["image_id", "path"]
    return ImageSet(
        name, table[[*first, *(c for c in table if c not in first)]], tuple(COUNTS), read, tuple(contexts), left_out=left,
        licence="evaluation only (FACET; labels are perceived)", source="Gustafson et al. 2023, FACET",
        facts={"soft": soft, "boxes": boxes},
    )  # fmt: skip


def _soft(
    table: pd.DataFrame, prefix: str, levels: Sequence[str], where: str
) -> tuple[np.ndarray, pd.Series, list[str]]:
    """Return shares (n, levels), the label of most annotators, and why there is none."""
    names = [prefix + level for level in (*levels, "na")]
    counts = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = np.argwhere(~(counts >= 0))
    if len(bad):
        row, column = int(bad[0][0]), names[int(bad[0][1])]
        raise DataError(
            f"{where}, column {column!r}: {table[column].iloc[row]!r} in row {row + 1} is no count."
        )
    chosen, cannot = counts[:, :-1], counts[:, -1]
    total = chosen.sum(1)
    shares = np.divide(chosen, total[:, None], out=np.zeros_like(chosen), where=total[:, None] > 0)
    tied = (chosen == chosen.max(1, keepdims=True)).sum(1) > 1
    note = np.select(
        [total + cannot == 0, cannot > chosen.max(1), tied],
        ["not annotated", "most annotators could not tell", "annotators disagree"],
        default="",
    )
    best = np.asarray(levels, dtype=object)[chosen.argmax(1)]
    return shares, pd.Series(np.where(note == "", best, UNKNOWN), dtype=object), note.tolist()


def _box(text: str, row: int, path: Path) -> Box:
    try:
        given = ast.literal_eval(text)
        left, top, width, height = (float(given[key]) for key in ("x", "y", "width", "height"))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: bounding_box in row {row} should be a mapping with x, y, width and height; found {text[:60]!r}."
        ) from error
    return left, top, left + width, top + height
