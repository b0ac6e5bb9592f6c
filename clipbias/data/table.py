"""A folder of images with a table beside it: the reader for sets of one's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.files import left_out, locate, missing_rows, no_files, read_files
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import NO_LABEL, label_columns, need_columns, read_csv
from clipbias.data.registry import reader


@reader("table")
def read_table(
    csv: str | Path,
    images: str | Path | None,
    *,
    attributes: Sequence[str],
    contexts: Sequence[str] = (),
    levels: Mapping[str, Sequence[str]] | None = None,
    id_column: str | None = None,
    path_column: str = "path",
    no_label: Collection[str] = NO_LABEL,
    name: str | None = None,
    licence: str = "not stated",
    source: str = "",
) -> ImageSet:
    """Read a folder of images and a CSV, TSV or parquet table.

    Parameters
    ----------
    csv : str or Path
        One row per image.
    images : str or Path or None
        The folder that ``path_column`` is relative to. None: labels only, reading pixels is an error.
    attributes, contexts : sequence of str
        Columns of protected attributes, and columns that views may use.
    levels : mapping of column to levels, optional
        Allowed levels in order. A level that no row has is kept as an empty group; a value that is no level
        is an error.
    id_column : str, optional
        Unique names of the images. Default: what ``path_column`` says.
    path_column : str
    no_label : collection of str
        What stands for "nobody labelled it"; becomes the level ``"unknown"``.
    name, licence, source : str
        ``name`` defaults to the table's file name.

    Returns
    -------
    ImageSet
        Missing files stand in ``left_out``.

    Raises
    ------
    DataError
        Missing table, folder or column (the nearest is named), a wrong level, or duplicated ids.
    """
    csv = Path(csv)
    table = read_csv(csv)
    need_columns(table, [path_column, *([id_column] if id_column else [])], str(csv))
    table = label_columns(table, [*attributes, *contexts], levels=levels, where=str(csv), no_label=no_label)
    table = table.assign(image_id=table[id_column or path_column], path=table[path_column])
    return from_files(
        table,
        images,
        name=name or csv.stem,
        attributes=attributes,
        contexts=contexts,
        licence=licence,
        source=source,
    )


def from_files(
    table: pd.DataFrame,
    images: str | Path | None,
    *,
    name: str,
    attributes: Sequence[str],
    contexts: Sequence[str] = (),
    left: pd.DataFrame | None = None,
    questions: pd.DataFrame | None = None,
    licence: str = "not stated",
    source: str = "",
    facts: Mapping[str, object] | None = None,
) -> ImageSet:
    """Make an image set of a table with ``image_id`` and ``path``, leaving out rows whose file is missing.

    ``left`` is a ``left_out`` table to go on from; the rest is as in
    :class:`~clipbias.data.imageset.ImageSet`.
    """
    parts = [] if left is None else [left]
    if images is None:
        read = no_files(name)
    else:
        paths = locate(table["path"].tolist(), images)
        parts.append(missing_rows(table["image_id"].tolist(), paths, images))
        table = table[[path is not None for path in paths]]
        read = read_files([path for path in paths if path is not None])
    first = ["image_id", "path"]
    table = table[[*first, *(c for c in table if c not in first)]].reset_index(drop=True)
    if questions is not None:
        questions = questions[questions["image_id"].isin(table["image_id"])].reset_index(drop=True)
    return ImageSet(
        name, table, tuple(attributes), read, tuple(contexts), questions,
        pd.concat(parts, ignore_index=True) if parts else left_out([], ""), licence, source, dict(facts or {}),
    )  # fmt: skip
