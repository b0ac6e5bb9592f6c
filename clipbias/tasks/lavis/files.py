"""Task data as the files that LAVIS's ``coco_caption`` and ``coco_vqa`` builders read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from clipbias.tasks.metrics.vqa import normalize_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipbias.tasks.data import TaskData

_BATCH = 256
# Caption files hold one row per image in these splits, one per caption in training.
_EVALUATED = ("val", "test")


def write_files(data: TaskData, folder: Path, *, answers: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Write the images, byte for byte, and one annotation file per split.

    Parameters
    ----------
    data : TaskData
    folder : Path
        Images go into ``images``.
    answers : sequence of str
        Answer list (VQA).

    Returns
    -------
    dict
        Annotation files by split, in the order in which LAVIS wants them.
    """
    names = _write_images(data, folder / "images")
    listed = folder / "answer_list.json"
    if data.task == "vqa":
        listed.write_text(json.dumps(list(answers), ensure_ascii=False), encoding="utf-8")
    files = {}
    for split in ("train", *_EVALUATED):
        examples = data.split(split)
        records = (
            _captions(examples, names, split) if data.task == "captioning" else _questions(examples, names)
        )
        path = folder / f"{data.task}_{split}.json"
        path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
        files[split] = [path, listed] if data.task == "vqa" and split in _EVALUATED else [path]
    return files


def image_name(row: int) -> str:
    """Return the file name of an image by its place in the set.

    LAVIS takes the id of a captioned image from its file name, the number before ``.jpg``; Pillow goes by the content,
    so the name may say JPEG where the file is none.
    """
    return f"image_{row:012d}.jpg"


def _write_images(data: TaskData, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    ids = data.examples["image_id"].drop_duplicates().tolist()
    rows = data.image_rows(ids)
    names = dict(zip(ids, map(image_name, rows.tolist()), strict=True))
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH].tolist()
        for row, content in zip(some, data.images.read(some), strict=True):
            (folder / image_name(row)).write_bytes(content)
    return names


def _captions(examples: pd.DataFrame, names: dict[str, str], split: str) -> list[dict]:
    if split in _EVALUATED:
        examples = examples.drop_duplicates("image_id")
    return [
        {"image": names[image], "image_id": image, "caption": caption}
        for image, caption in zip(examples["image_id"], examples["target"], strict=True)
    ]


def _questions(examples: pd.DataFrame, names: dict[str, str]) -> list[dict]:
    """Return one record per question; its id is its place in the split, as LAVIS's ids are whole numbers."""
    return [
        {
            "question_id": number,
            "image": names[image],
            "question": question,
            "answer": said_of(answers, target),
        }
        for number, (image, question, answers, target) in enumerate(
            zip(
                examples["image_id"],
                examples["question"],
                examples["answers"],
                examples["target"],
                strict=True,
            )
        )
    ]


def said_of(answers: Sequence[str], target: str) -> list[str]:
    """Return all people's answers, normalised as the answer list is; LAVIS weighs each by how many gave it."""
    said = [text for text in map(normalize_answer, list(answers) or [target]) if text]
    return said or [target]
