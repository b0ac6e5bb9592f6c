"""Image sets written in the formats of the real ones: COCO captions, VQAv2, FairFace.

A folder appears whole or not at all. Images are written byte for byte, so that their embeddings stay in the
cache.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clipbias.data.answers import ANSWERS_PER_QUESTION
from clipbias.data.coco import STANDARD_FIELDS
from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError

_TEXTS = ("caption", "captions", "caption_full", "path")
_EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
_NUMBERS = re.compile(r"\d+|one|two|three|four|five|six|seven|eight|nine|ten|none", re.IGNORECASE)
_BATCH = 256


def export_coco(
    image_set: ImageSet, folder: str | Path, *, subset: str = "world", overwrite: bool = False
) -> Path:
    """Write ``annotations/captions_SUBSET.json`` and ``SUBSET/*.png``; returns the folder.

    Every image entry carries the ground truth (attributes, contexts, twin, planted strength) in fields of
    its own, which other tools ignore and :func:`~clipbias.data.coco.read_coco_captions` reads.

    Raises
    ------
    DataError
        The set has no captions, or the folder is there already and ``overwrite`` is False.
    """
    captions = _captions(image_set)

    def write(root: Path) -> None:
        entries = _write_images(image_set, root / subset, lambda i, end: f"{i:012d}{end}")
        annotations = [
            {"image_id": entry["id"], "caption": text}
            for entry, texts in zip(entries, captions, strict=True)
            for text in texts
        ]
        annotations = [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)]
        body = {
            "info": _info(image_set),
            "licenses": _licences(image_set),
            "images": entries,
            "annotations": annotations,
        }
        _write_json(root / "annotations" / f"captions_{subset}.json", body)

    return _whole(Path(folder), write, overwrite)


def export_vqa(
    image_set: ImageSet, folder: str | Path, *, subset: str = "world", overwrite: bool = False
) -> Path:
    """Write VQAv2 ``questions.json``, ``annotations.json`` and ``images/COCO_SUBSET_*.png``; returns the folder.

    Each annotation has ten answers as in the real files: those of the set if it has ten (column
    ``answers``), else its one answer ten times. Image numbers agree with :func:`export_coco` of the same
    set.

    Raises
    ------
    DataError
        The set has no questions, or the folder is there already and ``overwrite`` is False.
    """
    asked = image_set.questions
    if asked is None or asked.empty:
        raise DataError(f"image set {image_set.name!r} has no questions to export.")
    number = {image: row + 1 for row, image in enumerate(image_set.ids)}
    strays = ~asked["image_id"].isin(number)
    if strays.any():
        raise DataError(
            f"a question is about image {asked.loc[strays, 'image_id'].iloc[0]!r}, which is not in the set."
        )

    def write(root: Path) -> None:
        entries = _write_images(image_set, root / "images", lambda i, end: f"COCO_{subset}_{i:012d}{end}")
        place: dict[str, int] = {}
        questions, annotations = [], []
        for record in asked.to_dict("records"):
            image = number[record["image_id"]]
            place[record["image_id"]] = position = place.get(record["image_id"], -1) + 1
            # VQAv2 numbers questions within their image: image id x 1000 + position.
            key = {"question_id": image * 1000 + position, "image_id": image}
            own = {"question_key": _plain(record["question_id"])}
            questions.append({**key, "question": record["question"], **own})
            annotations.append({**key, **_annotation(record)})
        about = {
            "info": _info(image_set),
            "data_type": "mscoco",
            "data_subtype": subset,
            "license": _licences(image_set)[0],
        }
        body = {**about, "task_type": "Open-Ended", "questions": questions, "images": entries}
        _write_json(root / "questions.json", body)
        _write_json(root / "annotations.json", {**about, "annotations": annotations})

    return _whole(Path(folder), write, overwrite)


def export_fairface(
    image_set: ImageSet, folder: str | Path, *, subset: str = "val", overwrite: bool = False
) -> Path:
    """Write ``SUBSET_labels.csv`` (``file``, attributes, ``service_test``, ground truth) and ``SUBSET/*.png``.

    ``service_test`` marks, as in FairFace, a part in which the attributes are balanced: the first images of
    every combination of attribute levels, as many as the rarest has.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        No attributes, or the folder is there already and ``overwrite`` is False.
    """
    if not image_set.attributes:
        raise DataError(f"image set {image_set.name!r} has no attributes to export.")

    def write(root: Path) -> None:
        entries = _write_images(image_set, root / subset, lambda i, end: f"{i}{end}")
        truth = _truth(image_set)
        others = [c for c in truth if c not in image_set.attributes and c not in ("image_id", "service_test")]
        table = pd.DataFrame({"file": [f"{subset}/{entry['file_name']}" for entry in entries]})
        for column in image_set.attributes:
            table[column] = truth[column].to_numpy()
        table["service_test"] = _balanced(image_set)
        table["image_id"] = truth["image_id"].to_numpy()
        table = pd.concat([table, truth[others].reset_index(drop=True)], axis=1)
        table.to_csv(root / f"{subset}_labels.csv", index=False, quoting=csv.QUOTE_MINIMAL, encoding="utf-8")

    return _whole(Path(folder), write, overwrite)


def _whole(folder: Path, write: Callable[[Path], None], overwrite: bool) -> Path:
    """Let ``write`` fill a hidden folder beside the target, then rename it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise DataError(
            f"{folder} is there already. Choose another folder, or allow it to be replaced (overwrite=True)."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    old = None
    try:
        temporary.chmod(0o755)
        write(temporary)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
            os.replace(folder, old / "old")
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old is not None:
            if not folder.exists():
                os.replace(old / "old", folder)
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _write_images(image_set: ImageSet, folder: Path, name: Callable[[int, str], str]) -> list[dict]:
    """Write the images and return their COCO entries with the ground truth."""
    folder.mkdir(parents=True)
    truth = _truth(image_set).to_dict("records")
    entries = []
    for start in range(0, len(image_set), _BATCH):
        rows = range(start, min(start + _BATCH, len(image_set)))
        for row, data in zip(rows, image_set.read(rows), strict=True):
            try:
                with Image.open(io.BytesIO(data)) as image:
                    (width, height), kind = image.size, image.format
            except OSError as error:
                raise DataError(
                    f"image {image_set.ids[row]!r} cannot be read, so it cannot be exported: {error}."
                ) from error
            file = name(row + 1, _EXTENSIONS.get(kind or "", f".{(kind or 'bin').lower()}"))
            (folder / file).write_bytes(data)
            own = {key: _plain(value) for key, value in truth[row].items()}
            entries.append(
                {"id": row + 1, "file_name": file, "width": width, "height": height, "license": 1, **own}
            )
    return entries


def _truth(image_set: ImageSet) -> pd.DataFrame:
    """Return every column that is a plain value per image: the id, labels, twin, planted strength."""
    table = image_set.table
    columns = [
        c for c in table if c not in _TEXTS and not any(isinstance(value, (list, dict)) for value in table[c])
    ]
    first = ["image_id", *(c for c in columns if c != "image_id")]
    # A column that is called like a field of the formats must not replace it.
    return table[first].rename(columns={name: f"{name}_" for name in (*STANDARD_FIELDS, "file")})


def _captions(image_set: ImageSet) -> list[list[str]]:
    table = image_set.table
    if "captions" in table:
        texts = [list(found) for found in table["captions"]]
    elif "caption" in table:
        texts = [[str(text)] for text in table["caption"]]
    else:
        raise DataError(
            f"image set {image_set.name!r} has no captions to export (column 'captions' or 'caption')."
        )
    bare = [
        image for image, found in zip(image_set.ids, texts, strict=True) if not any(t.strip() for t in found)
    ]
    if bare:
        raise DataError(f"{len(bare)} images of {image_set.name!r} have no caption, first: {bare[0]!r}.")
    return texts


def _annotation(record: dict) -> dict:
    answer = str(record["answer"])
    answers = record.get("answers")
    ten = [str(a) for a in answers] if isinstance(answers, (list, np.ndarray)) and len(answers) else [answer]
    if len(ten) != ANSWERS_PER_QUESTION:
        ten = [answer] * ANSWERS_PER_QUESTION
    kind = record.get("answer_type") or _answer_type(answer)
    return {
        "question_type": record.get("question_type")
        or " ".join(str(record["question"]).lower().rstrip("?").split()[:2]),
        "answer_type": kind,
        "multiple_choice_answer": answer,
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(ten, 1)],
    }


def _answer_type(answer: str) -> str:
    if answer.lower() in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBERS.fullmatch(answer) else "other"


def _balanced(image_set: ImageSet) -> np.ndarray:
    """Return which images are in the balanced part: equally many of every combination that occurs."""
    cells = image_set.table[list(image_set.attributes)].astype(str)
    place = cells.groupby(list(cells.columns)).cumcount()
    return (place < cells.value_counts().min()).to_numpy()


def _info(image_set: ImageSet) -> dict:
    table = image_set.table
    levels = {
        column: [str(level) for level in table[column].cat.categories]
        for column in table
        if isinstance(table[column].dtype, pd.CategoricalDtype)
    }
    about = {
        "name": image_set.name, "attributes": list(image_set.attributes), "contexts": list(image_set.contexts),
        "levels": levels, "licence": image_set.licence, "source": image_set.source, "facts": dict(image_set.facts),
    }  # fmt: skip
    return {"description": f"{image_set.name}, written by clipbias", "version": "1.0", "clipbias": about}


def _licences(image_set: ImageSet) -> list[dict]:
    return [{"id": 1, "name": image_set.licence, "url": ""}]


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def _write_json(path: Path, body: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, ensure_ascii=False, default=_jsonable), encoding="utf-8")


def _jsonable(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    return str(value)
