"""What the readers of annotation files share: JSON, image entries, captions, questions, people's labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.table import from_files
from clipbias.errors import DataError

# What the formats themselves say of an image; any other field of an entry is ground truth and becomes a column.
STANDARD_FIELDS = ("id", "file_name", "license", "coco_url", "flickr_url", "date_captured", "height", "width")
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


class LabelOptions(TypedDict, total=False):
    """Keywords of every reader of annotation files.

    Attributes
    ----------
    labels : str, Path or pandas.DataFrame
        Table of people's attributes, one row per image, joined on ``label_id``; images that it does not name are
        ``"unknown"``.
    label_id : str
        Default ``"image_id"``.
    attributes, contexts : sequence of str
        Columns of ``labels`` or of the image entries. Default: what our own export wrote, else none.
    levels : mapping of column to levels
    name : str
        Default: the name of the file.
    """

    labels: str | Path | pd.DataFrame | None
    label_id: str
    attributes: Sequence[str] | None
    contexts: Sequence[str] | None
    levels: Mapping[str, Sequence[str]] | None
    name: str | None


def read_json(path: Path, keys: Sequence[str] = ()) -> Any:
    """Return what a JSON file holds; with ``keys``, an object that has lists under these.

    Raises
    ------
    DataError
        The file is missing, not JSON, or lacks a list.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} was not found.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    for key in keys:
        if not isinstance(body, dict) or not isinstance(body.get(key), list):
            found = ", ".join(map(repr, body)) if isinstance(body, dict) else type(body).__name__
            raise DataError(f"{path} has no list {key!r}. It holds: {found}.")
    return body


def need_fields(records: Sequence[Any], fields: Sequence[str], where: object, what: str, hint: str) -> None:
    """Raise a DataError that names the first record which lacks a field.

    Parameters
    ----------
    records : sequence
        Anything but mappings lacks all fields.
    fields : sequence of str
    where : path
    what : str
        What a record is, for example ``"question"``.
    hint : str
        What the file should be, for example ``"a VQAv2 questions file"``.
    """
    for number, record in enumerate(records):
        for field in fields:
            if not isinstance(record, dict) or field not in record:
                raise DataError(f"{where}: {what} {number} has no {field!r}; is this {hint}?")


def entries_table(entries: list[dict], info: object, where: str) -> tuple[pd.DataFrame, dict]:
    """Turn image entries into a table, and find what our export says of the set.

    Returns
    -------
    table : pandas.DataFrame
        ``key`` (the file's own id), ``image_id`` (str), ``path`` and every field that the format does not
        define.
    about : dict
        Empty for files that are not our own.
    """
    about = info.get("clipbias", {}) if isinstance(info, dict) else {}
    rows = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry or "file_name" not in entry:
            raise DataError(f"{where}: image entry {number} lacks 'id' or 'file_name'.")
        extra = {field: value for field, value in entry.items() if field not in STANDARD_FIELDS}
        rows.append({"key": entry["id"], "path": entry["file_name"], "image_id": str(entry["id"]), **extra})
    if not rows:
        raise DataError(f"{where} lists no images.")
    return pd.DataFrame(rows), dict(about)


def numbered_images(ids: Iterable[object], images: str | Path | None) -> pd.DataFrame:
    """Return one entry per image id; files are known by the last number in their name.

    Parameters
    ----------
    ids : iterable
        May repeat.
    images : str or Path or None
        Folder of files such as ``COCO_val2014_000000000042.jpg``.

    Returns
    -------
    pandas.DataFrame
        ``key, path, image_id``.

    Raises
    ------
    DataError
        No such folder, or two files of one number.
    """
    unique = list(dict.fromkeys(ids))
    files: dict[int, str] = {}
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise DataError(f"the image folder {folder} does not exist.")
        for file in sorted(folder.iterdir()):
            number = _LAST_NUMBER.search(file.stem)
            if number and file.is_file():
                other = files.setdefault(int(number.group(1)), file.name)
                if other != file.name:
                    raise DataError(
                        f"{folder} holds two files of image {int(number.group(1))}, {other} and {file.name}. "
                        "Give the folder of one split."
                    )
    paths = [
        files.get(int(str(i)) if str(i).isdecimal() else -1, f"{i} (no file with this number)")
        for i in unique
    ]
    return pd.DataFrame({"key": unique, "path": paths, "image_id": [str(i) for i in unique]})


def add_captions(
    table: pd.DataFrame, captions: Iterable[tuple[object, object]], where: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every image its captions; images without one are left out.

    Parameters
    ----------
    table : pandas.DataFrame
        With ``key`` and ``image_id``.
    captions : iterable of (key, caption)
    where : str

    Returns
    -------
    table : pandas.DataFrame
        With ``captions`` (list of str) and ``caption`` (the first).
    left : pandas.DataFrame
        ``item, reason``.

    Raises
    ------
    DataError
        No image is left.
    """
    keys = dict(zip(table["key"], table["image_id"], strict=True))
    by_image: dict[str, list[str]] = {}
    strays, empty = [], []
    for key, caption in captions:
        text = "" if caption is None else str(caption).strip()
        if key not in keys:
            strays.append(str(key))
        elif not text:
            empty.append(f"a caption of image {keys[key]}")
        else:
            by_image.setdefault(keys[key], []).append(text)
    said = [by_image.get(image, []) for image in table["image_id"]]
    table = table.assign(captions=pd.Series(said, table.index, dtype=object))
    bare = ~table["image_id"].isin(by_image)
    if bare.all():
        raise DataError(f"{where}: none of its {len(table)} images has a caption.")
    left = [
        left_out(table.loc[bare, "image_id"].tolist(), "no caption"),
        left_out(strays, "caption of an image that the file does not list"),
        left_out(empty, "empty caption"),
    ]
    table = table[~bare].copy()
    table["caption"] = [found[0] for found in table["captions"]]
    return table, pd.concat(left, ignore_index=True)


def join_labels(table: pd.DataFrame, labels: str | Path | pd.DataFrame | None, label_id: str) -> pd.DataFrame:
    """Join people's attributes on the image id; images without a row get blanks."""
    if labels is None:
        return table
    if isinstance(labels, pd.DataFrame):
        where, people = "the labels", labels.astype(str)
    else:
        where, people = str(labels), read_csv(labels)
    need_columns(people, [label_id], where)
    twice = people[label_id].duplicated()
    if twice.any():
        raise DataError(
            f"{where} has more than one row for image {people[label_id][twice].iloc[0]!r}; one is needed."
        )
    people = people.rename(columns={label_id: "image_id"})
    if not set(table["image_id"]) & set(people["image_id"]):
        raise DataError(
            f"{where} names none of the images: it has ids such as {people['image_id'].iloc[0]!r}, "
            f"the images such as {table['image_id'].iloc[0]!r}."
        )
    joined = table.merge(people, on="image_id", how="left")
    new = [str(column) for column in people if column != "image_id"]
    return joined.assign(**{column: joined[column].fillna("") for column in new})


def finish(
    table: pd.DataFrame,
    images: str | Path | None,
    about: Mapping[str, Any],
    *,
    path: Path,
    left: pd.DataFrame | None = None,
    questions: pd.DataFrame | None = None,
    **options: Unpack[LabelOptions],
) -> ImageSet:
    """Join and label the columns and make the image set; what is left open, our own export has written down.

    Parameters
    ----------
    table : pandas.DataFrame
        ``key, image_id, path`` and more.
    images : str or Path or None
    about : mapping
        What our own export says of the set, or facts that the reader knows (``licence``, ``source``).
    path : Path
        The annotation file.
    left : pandas.DataFrame, optional
    questions : pandas.DataFrame, optional
        Columns `QUESTION_COLUMNS`. Those about images that are left out are left out as well.
    **options
        `LabelOptions`.
    """
    where = str(path)
    table = join_labels(table, options.get("labels"), options.get("label_id", "image_id"))
    given = options.get("attributes"), options.get("contexts")
    attributes = list(about.get("attributes", []) if given[0] is None else given[0])
    contexts = list(about.get("contexts", []) if given[1] is None else given[1])
    declared = about.get("levels", {})
    columns = [*attributes, *contexts]
    levels = {**{c: declared[c] for c in columns if c in declared}, **(options.get("levels") or {})}
    table = label_columns(table.drop(columns="key"), columns, levels=levels, where=where)
    others = {
        column: categorical(table[column], levels=allowed, where=where)
        for column, allowed in declared.items()
        if column in table and column not in columns
    }
    left = left_out([], "") if left is None else left
    made = from_files(
        table.assign(**others), images, left=left, name=options.get("name") or path.stem, attributes=attributes,
        contexts=contexts, licence=about.get("licence", "not stated"), source=about.get("source", ""),
        facts=about.get("facts", {}),
    )  # fmt: skip
    if questions is None:
        return made
    here = questions["image_id"].isin(made.ids)
    lost = left_out([f"question {i}" for i in questions.loc[~here, "question_id"]], "its image is left out")
    return replace(
        made,
        questions=questions[here].reset_index(drop=True),
        left_out=pd.concat([made.left_out, lost], ignore_index=True),
    )
