"""Visual Genome: freely asked questions about images, with one answer each."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.answers import ten_answers, unique_questions
from clipbias.data.assemble import LabelOptions, finish, need_fields, read_json
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError

_FOLDERS = ("", "VG_100K", "VG_100K_2")  # the two archives in which the images are distributed


@reader("visual-genome-qa")
def read_visual_genome_qa(
    questions: str | Path,
    images: str | Path | None,
    *,
    image_data: str | Path | None = None,
    **options: Unpack[LabelOptions],
) -> ImageSet:
    """Read ``question_answers.json``.

    Parameters
    ----------
    questions : str or Path
        ``[{"id", "qas": [{"qa_id", "question", "answer"}]}]``.
    images : str or Path or None
        Folder of ``ID.jpg``, or the one that holds ``VG_100K`` and ``VG_100K_2``. None: no pixels.
    image_data : str or Path, optional
        ``image_data.json``; adds the column ``coco_id`` (empty where there is none), by which the images of COCO
        can be kept apart.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        Answers without their full stop; the one answer stands ten times in ``answers``, so that the official
        VQA rule counts an exact match. Images without a question and questions without an answer are in
        ``left_out``.

    Raises
    ------
    DataError
        A file is of another format, or an id is there twice.
    """
    path = Path(questions)
    body = read_json(path)
    if not isinstance(body, list) or not body:
        raise DataError(f"{path} holds no list of images; is this Visual Genome's question_answers.json?")
    need_fields(body, ("qas",), path, "image entry", "Visual Genome's question_answers.json")
    rows, bare, unasked = [], [], []
    for number, one in enumerate(body):
        image = one.get("id", one.get("image_id"))
        if image is None:
            raise DataError(f"{path}: image entry {number} has no 'id'.")
        need_fields(one["qas"], ("qa_id", "question", "answer"), path, f"question of image {image},",
                    "Visual Genome's question_answers.json")  # fmt: skip
        if not one["qas"]:
            unasked.append(str(image))
        for asked in one["qas"]:
            answer = str(asked["answer"] or "").strip().removesuffix(".")
            if not answer:
                bare.append(f"question {asked['qa_id']}")
                continue
            rows.append(
                {
                    "question_id": str(asked["qa_id"]),
                    "image_id": str(image),
                    "question": str(asked["question"]).strip(),
                    "answer": answer,
                    "answer_type": "yes/no" if answer.casefold() in ("yes", "no") else "other",
                    "question_type": str(asked["question"]).strip().lower().split(" ")[0],
                    "answers": ten_answers([], answer),
                }
            )
    if not rows:
        raise DataError(f"{path} holds no question with an answer.")
    table = pd.DataFrame({"key": list(dict.fromkeys(row["image_id"] for row in rows))})
    table["image_id"] = table["key"]
    table["path"] = [_place(image, images) for image in table["key"]]
    if image_data is not None:
        table["coco_id"] = table["key"].map(_coco_ids(Path(image_data))).fillna("")
    asked = pd.DataFrame(rows)
    unique_questions(asked, path)
    left = pd.concat([left_out(unasked, "no question"), left_out(bare, "no answer")], ignore_index=True)
    return finish(table, images, {}, path=path, left=left, questions=asked, **options)


def _place(image: str, images: str | Path | None) -> str:
    if images is not None:
        for folder in _FOLDERS:
            if (Path(images) / folder / f"{image}.jpg").is_file():
                return f"{folder}/{image}.jpg".lstrip("/")
    return f"{image}.jpg"


def _coco_ids(path: Path) -> dict[str, str]:
    body = read_json(path)
    if not isinstance(body, list):
        raise DataError(f"{path} holds no list; is this Visual Genome's image_data.json?")
    need_fields(body, ("coco_id",), path, "image entry", "Visual Genome's image_data.json")
    return {
        str(one.get("image_id", one.get("id"))): str(one["coco_id"])
        for one in body
        if one["coco_id"] is not None
    }
