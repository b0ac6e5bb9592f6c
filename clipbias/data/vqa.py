"""VQAv2: questions and ten people's answers about images; OK-VQA comes in the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.answers import QUESTION_COLUMNS, majority, ten_answers, unique_questions
from clipbias.data.assemble import (
    LabelOptions,
    entries_table,
    finish,
    need_fields,
    numbered_images,
    read_json,
)
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError


@reader("vqa")
def read_vqa(
    questions: str | Path,
    annotations: str | Path | None,
    images: str | Path | None,
    *,
    answer_field: str = "answer",
    **options: Unpack[LabelOptions],
) -> ImageSet:
    """Read VQAv2 or OK-VQA questions, their annotations and the images.

    Parameters
    ----------
    questions : str or Path
        ``{"questions": [{"question_id", "image_id", "question"}]}``.
    annotations : str or Path or None
        ``{"annotations": [{"question_id", "answer_type", "multiple_choice_answer", "answers"}]}``, of which
        ``answers`` or ``multiple_choice_answer`` may be missing. None: a test split without answers.
    images : str or Path or None
        Folder of files whose name ends in the image id, as in ``COCO_val2014_000000000042.jpg``. None: no
        pixels.
    answer_field : str
        What of an answer is read: OK-VQA has ``raw_answer`` (as typed) beside ``answer`` (stemmed).
    **options
        ``labels, label_id, attributes, contexts, levels, name``:
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        One row per image; ``questions`` has ``question_id, image_id, question, answer, answer_type,
        question_type, answers`` (a list; a single answer is taken as the true one and stands ten times).
        Questions without an annotation or image, annotations without a question and images without a file
        are in ``left_out``.

    Raises
    ------
    DataError
        A file is not of this format, an id is there twice, a column is missing, or a level is wrong.
    """
    path = Path(questions)
    body = read_json(path, ("questions",))
    need_fields(
        body["questions"], ("question_id", "image_id", "question"), path, "question", "a VQAv2 questions file"
    )
    if not body["questions"]:
        raise DataError(f"{path} holds no questions.")
    asked = pd.DataFrame(body["questions"])
    unique_questions(asked, path)
    if "images" in body:  # our own export lists the images with their ground truth; the real files do not
        table, about = entries_table(body["images"], body.get("info"), str(path))
    else:
        table, about = numbered_images(asked["image_id"], images), {}
    asked["shown"] = asked["question_key"] if "question_key" in asked else asked["question_id"].astype(str)
    keys = dict(zip(table["key"], table["image_id"], strict=True))
    known = asked["image_id"].isin(keys)
    strays = left_out(_items(asked[~known]), "question about an image that the file does not list")
    asked = asked[known].reset_index(drop=True)
    asked, left = _answers(asked, annotations, answer_field)
    asked = asked.assign(question_id=asked["shown"], image_id=asked["image_id"].map(keys))
    left = pd.concat([strays, left], ignore_index=True)
    asked = asked[list(QUESTION_COLUMNS)]
    return finish(table, images, about, path=path, left=left, questions=asked, **options)


def _items(asked: pd.DataFrame) -> list[str]:
    return [f"question {number}" for number in asked["shown"]]


def _answers(
    asked: pd.DataFrame, annotations: str | Path | None, answer_field: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join the annotations; returns questions and what was left out."""
    if annotations is None:
        blank: pd.Series = pd.Series([[] for _ in range(len(asked))], asked.index, dtype=object)
        return asked.assign(answer="", answer_type="unknown", question_type="", answers=blank), left_out(
            [], ""
        )
    path = Path(annotations)
    said = read_json(path, ("annotations",))["annotations"]
    need_fields(said, ("question_id",), path, "annotation", "a VQAv2 annotations file")
    for number, one in enumerate(said):
        if "answers" not in one and "multiple_choice_answer" not in one:
            raise DataError(
                f"{path}: annotation {number} has no 'answers' and no 'multiple_choice_answer'; is this a VQAv2 "
                "annotations file?"
            )
    unique_questions(pd.DataFrame(said, columns=["question_id"]), path)
    found = {one["question_id"]: one for one in said}
    key = asked["question_id"]
    there = key.isin(found).to_numpy()
    if not there.any():
        raise DataError(f"{path} annotates none of the questions; are the two files of the same split?")
    asked_of = set(key)
    strays = [f"annotation of question {number}" for number in found if number not in asked_of]
    rows = [found[number] for number in key[there]]
    told = [one.get("image_id", image) for one, image in zip(rows, asked.loc[there, "image_id"], strict=True)]
    texts = [_texts(one.get("answers", []), answer_field, path) for one in rows]
    given = [str(one.get("multiple_choice_answer", "") or "") for one in rows]
    answers = [ten_answers(found, answer) for found, answer in zip(texts, given, strict=True)]
    base = asked[there]
    base = base.assign(
        answer=[answer or majority(found) for answer, found in zip(given, answers, strict=True)],
        answer_type=[one.get("answer_type", "unknown") for one in rows],
        question_type=[one.get("question_type", "") for one in rows],
        answers=pd.Series(answers, base.index, dtype=object),
    )
    other = (base["image_id"].astype(str) != pd.Series(told, base.index).astype(str)).to_numpy()
    bare = (base["answers"].str.len() == 0).to_numpy() & ~other
    left = [
        left_out(_items(asked[~there]), "no annotation"),
        left_out(strays, "no such question"),
        left_out(_items(base[other]), "its annotation is about another image"),
        left_out(_items(base[bare]), "no answer"),
    ]
    return base[~other & ~bare].reset_index(drop=True), pd.concat(left, ignore_index=True)


def _texts(answers: list, field: str, path: Path) -> list[str]:
    try:
        texts = [str(one[field] if isinstance(one, dict) else one).strip() for one in answers]
    except KeyError as error:
        fields = ", ".join(sorted(next(one for one in answers if field not in one)))
        raise DataError(f"{path}: an answer has no {field!r}. It has: {fields}.") from error
    return [text for text in texts if text]
