"""COCO captions, with people's perceived attributes joined from a table or written by our own export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.registry import reader
from clipbias.data.table import from_files
from clipbias.errors import DataError

# What the format itself says of an image; any other field of an entry is ground truth and becomes a column.
STANDARD_FIELDS = ("id", "file_name", "license", "coco_url", "flickr_url", "date_captured", "height", "width")


@reader("coco-captions")
def read_coco_captions(
    annotations: str | Path,
    images: str | Path | None,
    *,
    labels: str | Path | pd.DataFrame | None = None,
    label_id: str = "image_id",
    attributes: Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
) -> ImageSet:
    """Read a COCO captions JSON file and its images.

    Parameters
    ----------
    annotations : str or Path
        ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``.
    images : str or Path or None
        Folder of the files. None: captions and labels only.
    labels : str, Path or pandas.DataFrame, optional
        Table of people's attributes, one row per image, joined on ``label_id``; images that it does not
        name are ``"unknown"``.
    label_id : str
    attributes, contexts : sequence of str, optional
        Columns of ``labels`` or of the image entries. Default: what the export wrote, else none.
    levels : mapping, optional
    name : str, optional

    Returns
    -------
    ImageSet
        ``table`` has ``captions`` (list of str) and ``caption`` (the first). Images without a caption or a
        file are in ``left_out``.

    Raises
    ------
    DataError
        The file is no COCO captions JSON, a column is missing, or a level is wrong.
    """
    path = Path(annotations)
    body = read_json(path, ("images", "annotations"))
    table, about = entries_table(body["images"], body.get("info"), str(path))
    table = join_labels(table, labels, label_id)
    by_image: dict[str, list[str]] = {}
    keys = dict(zip(table["key"], table["image_id"], strict=True))
    strays = []
    for number, annotation in enumerate(body["annotations"]):
        try:
            key, caption = annotation["image_id"], annotation["caption"]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}: annotation {number} has no {error}; is this a captions file?"
            ) from error
        if key in keys:
            by_image.setdefault(keys[key], []).append(str(caption).strip())
        else:
            strays.append(str(key))
    table["captions"] = [by_image.get(image, []) for image in table["image_id"]]
    bare = ~table["image_id"].isin(by_image)
    dropped = pd.concat(
        [
            left_out(table.loc[bare, "image_id"].tolist(), "no caption"),
            left_out(strays, "caption of an image that the file does not list"),
        ],
        ignore_index=True,
    )
    table = table[~bare].copy()
    table["caption"] = [captions[0] for captions in table["captions"]]
    return finish(
        table, images, about, where=str(path), name=name or path.stem, left=dropped, attributes=attributes,
        contexts=contexts, levels=levels,
    )  # fmt: skip


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """Return a JSON object that has some keys, or say what is wrong with the file."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} was not found.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    for key in keys:
        if not isinstance(body, dict) or not isinstance(body.get(key), list):
            found = ", ".join(map(repr, body)) if isinstance(body, dict) else type(body).__name__
            raise DataError(f"{path} has no list {key!r}. It holds: {found}.")
    return body


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
    new = [column for column in people if column != "image_id"]
    return joined.assign(**{column: joined[column].fillna("") for column in new})


def finish(
    table: pd.DataFrame,
    images: str | Path | None,
    about: dict,
    *,
    where: str,
    name: str,
    left: pd.DataFrame,
    attributes: Sequence[str] | None,
    contexts: Sequence[str] | None,
    levels: Mapping[str, Sequence[str]] | None,
    questions: pd.DataFrame | None = None,
) -> ImageSet:
    """Label the columns and make the image set; what is left open, our own export has written down."""
    attributes = list(about.get("attributes", []) if attributes is None else attributes)
    contexts = list(about.get("contexts", []) if contexts is None else contexts)
    declared = about.get("levels", {})
    columns = [*attributes, *contexts]
    levels = {**{c: declared[c] for c in columns if c in declared}, **(levels or {})}
    table = label_columns(table.drop(columns="key"), columns, levels=levels, where=where)
    others = {
        column: categorical(table[column], levels=allowed, where=where)
        for column, allowed in declared.items()
        if column in table and column not in columns
    }
    return from_files(
        table.assign(**others), images, left=left, name=name, attributes=attributes, contexts=contexts,
        questions=questions, licence=about.get("licence", "not stated"), source=about.get("source", ""),
        facts=about.get("facts", {}),
    )  # fmt: skip
