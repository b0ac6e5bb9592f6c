"""CelebA: faces with forty yes-or-no attributes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.imageset import ImageSet
from clipbias.data.labels import label_columns, need_columns, read_csv
from clipbias.data.registry import reader
from clipbias.data.table import from_files
from clipbias.errors import DataError

# What the two columns that are protected attributes are called here.
_NAMES = {
    "Male": ("gender", {"1": "Male", "-1": "Female"}),
    "Young": ("age", {"1": "young", "-1": "not young"}),
}
_SPLITS = {"0": "train", "1": "val", "2": "test"}


@reader("celeba")
def read_celeba(
    labels: str | Path,
    images: str | Path | None,
    *,
    attributes: Sequence[str] = ("gender", "age"),
    split: str = "",
    name: str = "celeba",
) -> ImageSet:
    """Read CelebA: ``list_attr_celeba.txt`` as published, or the same as CSV (``image_id,5_o_Clock_Shadow,...``).

    Parameters
    ----------
    labels : str or Path
        ``list_eval_partition.txt`` (or ``.csv``) beside it is read too.
    images : str or Path or None
        Folder of the aligned images. None: labels only.
    attributes : sequence of str
        ``gender`` (column ``Male``), ``age`` (column ``Young``) or any other column of the file.
    split : {"", "train", "val", "test"}
        Only this part.
    name : str

    Returns
    -------
    ImageSet
        All other columns are contexts with the levels ``yes`` and ``no``; ``split`` is one where it is known.
        Gender and age are binary judgements of a company's annotators.

    Raises
    ------
    DataError
        Not such a file, a value other than 1 and -1, an unknown column or split, or a split without its file.
    """
    path = Path(labels)
    table = _published(path) if path.suffix == ".txt" else read_csv(path)
    need_columns(table, ["image_id", *_NAMES], str(path))
    columns = [str(column) for column in table if column != "image_id"]
    for column in columns:
        new, words = _NAMES.get(column, (column, {"1": "yes", "-1": "no"}))
        values = table[column].str.strip().replace({"0": "-1"})  # some copies write 0 for no
        wrong = ~values.isin(list(words))
        if wrong.any():
            raise DataError(
                f"{path}, column {column!r}: {table.loc[wrong, column].iloc[0]!r} is neither 1 nor -1."
            )
        table = table.rename(columns={column: new}).assign(**{new: values.map(words)})
    contexts = [_NAMES[c][0] if c in _NAMES else c for c in columns]
    table, known = _splits(table, path)
    if known:
        contexts.append("split")
    if split:
        table = _only(table, split, known, path)
    contexts = [column for column in contexts if column not in attributes]
    levels = {new: list(words.values()) for new, words in _NAMES.values() if new in (*attributes, *contexts)}
    table = label_columns(table, [*attributes, *contexts], levels=levels, where=str(path))
    return from_files(
        table.assign(path=table["image_id"]), images, name=name, attributes=attributes, contexts=contexts,
        licence="non-commercial research only (CelebA)", source="Liu, Luo, Wang, Tang 2015, CelebA",
    )  # fmt: skip


def _published(path: Path) -> pd.DataFrame:
    """Read the text file: the number of images, the names of the columns, then one line per image."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} was not found.") from error
    count, _, rest = text.partition("\n")
    if not count.strip().isdigit():
        raise DataError(f"{path} should begin with the number of images; is this list_attr_celeba.txt?")
    head, _, body = rest.partition("\n")
    names = head.split()
    table = pd.read_csv(io.StringIO(body), sep=r"\s+", header=None, dtype=str, keep_default_na=False)
    if table.shape[1] != len(names) + 1:
        raise DataError(f"{path}: {len(names)} columns are named and {table.shape[1] - 1} are there.")
    if len(table) != int(count):
        raise DataError(
            f"{path} promises {int(count)} images and has {len(table)}; it is cut short or was edited."
        )
    table.columns = pd.Index(["image_id", *names])
    return table


def _splits(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, bool]:
    text, csv = path.with_name("list_eval_partition.txt"), path.with_name("list_eval_partition.csv")
    if text.is_file():
        parts = pd.read_csv(text, sep=r"\s+", header=None, names=["image_id", "partition"], dtype=str)
    elif csv.is_file():
        parts = read_csv(csv)
        need_columns(parts, ["image_id", "partition"], str(csv))
    else:
        return table, False
    of = dict(zip(parts["image_id"], parts["partition"].map(_SPLITS), strict=True))
    return table.assign(split=table["image_id"].map(of).fillna("")), True


def _only(table: pd.DataFrame, split: str, known: bool, path: Path) -> pd.DataFrame:
    if not known:
        raise DataError(f"split={split!r} needs list_eval_partition.txt beside {path.name}.")
    if split not in _SPLITS.values():
        raise DataError(f"split={split!r} is none of train, val and test.")
    return table[table["split"] == split].reset_index(drop=True)
