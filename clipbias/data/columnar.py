"""Images and labels in columns: Hugging Face ``datasets`` objects, and the parquet files they are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import NO_LABEL, label_columns, need_columns
from clipbias.data.registry import reader
from clipbias.errors import DataError

Read = Callable[[Sequence[int]], list[bytes]]
_ROWS = 64  # of a data set without row groups: read at once


@reader("datasets")
def read_datasets(
    dataset: Any,
    images: str | Path | None = None,
    *,
    attributes: Sequence[str],
    contexts: Sequence[str] = (),
    levels: Mapping[str, Sequence[str]] | None = None,
    image_column: str = "image",
    id_column: str = "",
    no_label: Sequence[str] = NO_LABEL,
    name: str = "",
    licence: str = "not stated",
    source: str = "",
) -> ImageSet:
    """Read a Hugging Face ``datasets.Dataset``, or parquet files as the hub keeps them.

    Parameters
    ----------
    dataset : datasets.Dataset, str or Path
        One split; or a parquet file, or a folder of them (read in the order of their names). The ``datasets``
        library is not needed for files.
    images : str or Path, optional
        Folder that image paths are relative to, where the data set holds paths and not the images themselves.
    attributes, contexts : sequence of str
        Columns. Numbers of a ``ClassLabel`` are read as its names, and its names are the levels; -1 is "no label".
    levels : mapping of column to levels, optional
    image_column : str
    id_column : str
        Default: the row number.
    no_label : sequence of str
    name, licence, source : str

    Returns
    -------
    ImageSet
        Images are read when they are asked for. Rows without an image are in ``left_out``.

    Raises
    ------
    DataError
        No such file or column, several splits at once, no image in the image column, or a wrong level.
    """
    table, names, read, where = open_columns(dataset, image_column, images)
    need_columns(table, [*attributes, *contexts, *([id_column] if id_column else [])], where)
    table, allowed = _spell(table, names, [*attributes, *contexts], dict(levels or {}))
    ids = table[id_column].astype(str) if id_column else pd.Series([str(i) for i in range(len(table))])
    table = label_columns(table, [*attributes, *contexts], levels=allowed, where=where, no_label=no_label)
    table = table.assign(image_id=ids.to_numpy())
    return finish_columns(
        table,
        read,
        name=name or where,
        attributes=attributes,
        contexts=contexts,
        licence=licence,
        source=source,
    )


def finish_columns(
    table: pd.DataFrame,
    read: Read,
    *,
    name: str,
    attributes: Sequence[str],
    contexts: Sequence[str],
    licence: str,
    source: str,
    skip: Mapping[str, Sequence[bool]] | None = None,
) -> ImageSet:
    """Make the image set of rows that have an image (column ``_has_image``) and no reason to be skipped.

    Parameters
    ----------
    table : pandas.DataFrame
    read : callable
    name : str
    attributes, contexts : sequence of str
    licence, source : str
    skip : mapping of reason to mask, optional
        Rows that are left out for other reasons than a missing image; the first reason is given.

    Raises
    ------
    DataError
        No row is left.
    """
    keep = np.ones(len(table), bool)
    parts = []
    reasons = {**(skip or {}), "the row has no image": (~table["_has_image"].to_numpy(bool)).tolist()}
    for reason, mask in reasons.items():
        out = np.asarray(mask, bool) & keep
        parts.append(left_out(table.loc[out, "image_id"].tolist(), reason))
        keep &= ~out
    if not keep.any():
        raise DataError(f"{name} has no row with an image.")
    rows = np.flatnonzero(keep)
    kept = table[keep].drop(columns="_has_image").reset_index(drop=True)
    kept = kept[["image_id", *(c for c in kept if c != "image_id")]]
    return ImageSet(
        name, kept, tuple(attributes), lambda wanted: read([int(rows[i]) for i in wanted]), tuple(contexts),
        left_out=pd.concat(parts, ignore_index=True), licence=licence, source=source,
    )  # fmt: skip


def open_columns(
    dataset: Any, image_column: str, images: str | Path | None
) -> tuple[pd.DataFrame, dict[str, list[str]], Read, str]:
    """Return labels, names of class labels, a function that reads images, and a name for messages.

    The table has every column but the images, and ``_has_image``.
    """
    if isinstance(dataset, str | Path):
        return _of_files(Path(dataset), image_column, images)
    if isinstance(dataset, Mapping):
        raise DataError(f"this is a dictionary of splits ({', '.join(map(str, dataset))}); give one of them.")
    if not hasattr(dataset, "with_format") or not hasattr(dataset, "features"):
        raise DataError(
            f"a {type(dataset).__name__} is no datasets.Dataset and no path of parquet files. "
            "Streaming data sets have no rows by number: load them without streaming."
        )
    where = str(getattr(dataset, "info", None) and dataset.info.dataset_name or "datasets object")
    features = dataset.features
    if image_column not in features:
        need_columns(pd.DataFrame(columns=list(features)), [image_column], where)
    names = {
        str(c): list(f.names) for c, f in features.items() if hasattr(f, "names") and hasattr(f, "int2str")
    }
    # In the arrow format images come as they are stored, not decoded.
    arrow = dataset.with_format("arrow")
    others = [c for c in features if c != image_column]
    labels = (
        arrow.select_columns(others)[:].to_pandas() if others else pd.DataFrame(index=range(len(dataset)))
    )
    only = arrow.select_columns([image_column])
    parts = range(0, len(dataset), _ROWS)
    has = [one for start in parts for one in _present(only[start : start + _ROWS][image_column])]
    read = _reader(lambda rows: only[list(rows)][image_column].to_pylist(), images, where)
    return labels.assign(_has_image=has), names, read, where


def _of_files(
    path: Path, image_column: str, images: str | Path | None
) -> tuple[pd.DataFrame, dict[str, list[str]], Read, str]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise DataError(f"{path} was not found, or holds no parquet file.")
    try:
        opened = [pq.ParquetFile(file) for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    schema = opened[0].schema_arrow
    if image_column not in schema.names:
        need_columns(pd.DataFrame(columns=schema.names), [image_column], str(path))
    odd = next((f for f, o in zip(files, opened, strict=True) if o.schema_arrow.names != schema.names), None)
    if odd is not None:
        raise DataError(f"{odd} has other columns than {files[0].name}. Give files of one data set.")
    others = [c for c in schema.names if c != image_column]
    labels = pd.concat([one.read(columns=others).to_pandas() for one in opened], ignore_index=True)
    groups = [(one, g) for one in opened for g in range(one.num_row_groups)]
    ends = np.cumsum([one.metadata.row_group(g).num_rows for one, g in groups])
    stored = _Groups(groups, ends, image_column)
    has = [one for number in range(len(groups)) for one in _present(stored.column(number))]
    labels["_has_image"] = has
    return labels, _class_names(schema), _reader(stored.rows, images, str(path)), path.stem


class _Groups:
    """Rows of parquet files by number; the row group that was read last is kept."""

    def __init__(self, groups: list[tuple[pq.ParquetFile, int]], ends: np.ndarray, column: str) -> None:
        self.groups, self.ends, self.name = groups, ends, column
        self.kept: tuple[int, pa.ChunkedArray] | None = None

    def column(self, number: int) -> pa.ChunkedArray:
        if self.kept is None or self.kept[0] != number:
            file, group = self.groups[number]
            self.kept = number, file.read_row_group(group, columns=[self.name])[self.name]
        return self.kept[1]

    def rows(self, wanted: Sequence[int]) -> list[Any]:
        out: list[Any] = [None] * len(wanted)
        group_of = np.searchsorted(self.ends, np.asarray(wanted), side="right")
        for number in np.unique(group_of):
            start = int(self.ends[number - 1]) if number else 0
            column = self.column(int(number))
            for place in np.flatnonzero(group_of == number):
                out[place] = column[int(wanted[int(place)]) - start].as_py()
        return out


def _present(column: pa.ChunkedArray) -> list[bool]:
    """Tell which rows have an image: bytes, or a path to one."""
    if not pa.types.is_struct(column.type):
        return column.is_valid().to_pylist()
    # struct_field heeds nulls of the whole cell; the children of a null cell need not be null themselves.
    parts = [pc.struct_field(column, n) for n in ("bytes", "path") if column.type.get_field_index(n) >= 0]
    return [any(valid) for valid in zip(*(part.is_valid().to_pylist() for part in parts), strict=True)]


def _reader(rows_of: Callable[[Sequence[int]], list[Any]], images: str | Path | None, where: str) -> Read:
    def read(rows: Sequence[int]) -> list[bytes]:
        return [_bytes(one, images, where) for one in rows_of([int(row) for row in rows])]

    return read


def _bytes(one: Any, images: str | Path | None, where: str) -> bytes:
    """Return the encoded image of a cell: bytes, a mapping with bytes or path, or a path."""
    if isinstance(one, bytes):
        return one
    path = one
    if isinstance(one, Mapping):
        if one.get("bytes") is not None:
            return bytes(one["bytes"])
        path = one.get("path")
    if not isinstance(path, str):
        raise DataError(
            f"{where}: a cell of the image column holds a {type(one).__name__}, which is no image."
        )
    file = Path(images or ".") / path
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}: {file} cannot be read ({error.strerror}); give the folder of the images (images=)."
        ) from error


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of class labels, which the hub writes into the files' metadata."""
    said = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(said)["info"]["features"] if said else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {
        c: list(f["names"])
        for c, f in features.items()
        if isinstance(f, dict) and f.get("_type") == "ClassLabel"
    }


def _spell(
    table: pd.DataFrame,
    names: Mapping[str, list[str]],
    columns: Sequence[str],
    levels: dict[str, Sequence[str]],
) -> tuple[pd.DataFrame, dict[str, Sequence[str]]]:
    """Write labels as text: class labels by their names, yes/no for booleans."""
    for column in columns:
        values = table[column]
        if column in names:
            known = dict(enumerate(names[column]))
            text = values.map(lambda v, known=known: known.get(int(v), "") if pd.notna(v) else "")
            levels.setdefault(column, names[column])
        elif pd.api.types.is_bool_dtype(values):
            text = values.map({True: "yes", False: "no"})
        else:
            text = values.astype(object).where(values.notna(), "").astype(str)
        table = table.assign(**{column: text})
    return table, levels
