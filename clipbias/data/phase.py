"""PHASE: people in web pictures, each region labelled by three annotators or by their majority."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from clipbias.data.assemble import read_json
from clipbias.data.files import left_out, locate, missing_rows, no_files, read_files
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.labels import categorical
from clipbias.data.regions import read_regions
from clipbias.data.registry import reader
from clipbias.errors import DataError, nearest

LEVELS = {
    "age": ("baby", "child", "young", "adult", "senior"),
    "gender": ("male", "female"),
    "skintone": ("lighter", "darker"),
    "ethnicity": (
        "black", "east asian", "indian", "latino", "middle eastern", "southeast asian", "white", "other",
    ),
    "emotion": ("happiness", "sadness", "fear", "anger", "neutral"),
    "activity": (
        "helping and caring", "eating", "household", "dance and music", "personal care", "posing", "sports",
        "transportation", "work", "other",
    ),
}  # fmt: skip
ATTRIBUTES = ("age", "gender", "skintone", "ethnicity")
CONTEXTS = ("emotion", "activity")
# Short forms in circulation.
_SHORT = {
    "caring": "helping and caring", "music": "dance and music", "personal": "personal care", "happy": "happiness",
    "sad": "sadness",
}  # fmt: skip
_NO_LABEL = ("unsure", "disagreement")
_PERSON = re.compile(r"person[ _]?(\d+)")


@reader("phase")
def read_phase(
    annotations: str | Path, images: str | Path | None, *, unit: str = "person", name: str | None = None
) -> ImageSet:
    """Read PHASE annotations (``phase_gcc_{train,val}_{regions,all}_20221101.json``).

    Parameters
    ----------
    annotations : str or Path
        ``{image: {"caption", "person1": {"region": [left, top, right, bottom], "annotations"}, ...}}``;
        annotations are one label per attribute (``regions``) or a list with one entry per annotator (``all``).
    images : str or Path or None
        Folder of the images. None: labels only.
    unit : {"person", "image"}
        One row per person, cut out; or one row per image with the labels of its largest region (the other people
        are in ``left_out``).
    name : str, optional

    Returns
    -------
    ImageSet
        Attributes age, gender, skintone and ethnicity; contexts emotion and activity; ``scene`` is the image.
        Where annotators were unsure or disagreed the level is ``"unknown"`` and the column ``ATTRIBUTE_note`` says
        which of the two. With all annotations ``ATTRIBUTE_agreement`` is the share of annotators behind the
        label, in (0, 1]; a label needs more than half of them.

    Raises
    ------
    DataError
        Not such a file, an unknown unit or label, or nobody in it.
    """
    if unit not in ("person", "image"):
        raise DataError(f"unit={unit!r} is unknown." + nearest(unit, ("person", "image")))
    path = Path(annotations)
    body = read_json(path)
    if not isinstance(body, dict) or not body:
        raise DataError(f"{path} should map images to their people.")
    rows: list[dict[str, Any]] = []
    lost: list[tuple[str, str]] = []
    for image, entry in body.items():
        people = {k: v for k, v in entry.items() if _PERSON.fullmatch(k)} if isinstance(entry, dict) else {}
        if not people:
            lost.append((image, "no person is annotated"))
        for key, person in people.items():
            who = f"{image}/{key}"
            if not isinstance(person, dict) or not _is_box(person.get("region")):
                lost.append((who, "no region"))
            elif not person.get("annotations"):
                lost.append((who, "no annotations"))
            else:
                text = str(entry.get("caption", "") or "")
                rows.append({"image_id": who, "path": image, "scene": image, "caption": text,
                             "box": tuple(map(float, person["region"])), **_labels(person["annotations"], f"{path}, {who}")})  # fmt: skip
    if not rows:
        raise DataError(f"{path} holds nobody with a region and annotations.")
    table = pd.DataFrame(rows)
    if unit == "image":
        table, fewer = _largest(table)
        lost += fewer
    for column in (*ATTRIBUTES, *CONTEXTS):
        table[column] = categorical(table[column], levels=LEVELS[column], where=f"{path}, {column}")
    left = left_out([item for item, _ in lost], [reason for _, reason in lost])
    made = ImageSet(
        name or path.stem, table.drop(columns="box"), ATTRIBUTES, no_files(name or path.stem), CONTEXTS, left_out=left,
        licence="research only (PHASE; labels are perceived)", source="Garcia, Hirota, Wu, Nakashima 2023, PHASE",
        facts={"boxes": table["box"].tolist()},
    )  # fmt: skip
    return made if images is None else _with_files(made, images, whole=unit == "image")


def _is_box(region: object) -> bool:
    return (
        isinstance(region, list | tuple)
        and len(region) == 4
        and all(isinstance(v, int | float) for v in region)
    )


def _labels(given: Any, where: str) -> dict[str, Any]:
    """Return label, note and (with several annotators) agreement of every attribute."""
    each = given if isinstance(given, list) else [given]
    out: dict[str, Any] = {}
    for attribute, levels in LEVELS.items():
        votes = [_word(one.get(attribute)) for one in each if isinstance(one, Mapping) and one.get(attribute)]
        strange = next((v for v in votes if v not in (*levels, *_NO_LABEL)), None)
        if strange is not None:
            raise DataError(f"{where}: {attribute} {strange!r} is no known label." + nearest(strange, levels))
        label, count = Counter(votes).most_common(1)[0] if votes else ("", 0)
        if votes and 2 * count <= len(votes):
            label = "disagreement"
        out[attribute] = UNKNOWN if label in (*_NO_LABEL, "") else label
        out[f"{attribute}_note"] = label if label in _NO_LABEL else "" if label else "not annotated"
        if isinstance(given, list):
            out[f"{attribute}_agreement"] = count / len(votes) if votes else float("nan")
    return out


def _word(value: object) -> str:
    text = str(value).strip().lower().replace("_", " ")
    return _SHORT.get(text, text)


def _largest(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    area = table["box"].map(lambda b: max(b[2] - b[0], 0) * max(b[3] - b[1], 0))
    order = area.sort_values(ascending=False, kind="stable").index
    first = ~table.loc[order, "scene"].duplicated()
    keep = first[first].index.sort_values()
    fewer = [
        (item, "a smaller region of an image that is used whole") for item in table["image_id"].drop(keep)
    ]
    kept = table.loc[keep].reset_index(drop=True)
    return kept.assign(image_id=kept["path"]), fewer


def _with_files(made: ImageSet, images: str | Path, *, whole: bool) -> ImageSet:
    files = locate(made.table["path"].tolist(), images)
    there = [path is not None for path in files]
    boxes = [box for box, found in zip(made.facts["boxes"], there, strict=True) if found]  # type: ignore[call-overload]
    paths = [path for path in files if path is not None]
    return replace(
        made, table=made.table[there].reset_index(drop=True),
        read=read_files(paths) if whole else read_regions(paths, boxes),
        left_out=pd.concat([made.left_out, missing_rows(made.ids, files, images)], ignore_index=True),
        facts={**made.facts, "boxes": boxes},
    )  # fmt: skip
