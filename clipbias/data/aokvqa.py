"""A-OKVQA: questions that need knowledge, with four choices and ten free answers."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.answers import QUESTION_COLUMNS, majority, ten_answers, unique_questions
from clipbias.data.assemble import LabelOptions, finish, need_fields, numbered_images, read_json
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError


@reader("aokvqa")
def read_aokvqa(
    questions: str | Path,
    images: str | Path | None,
    *,
    difficult: bool = False,
    **options: Unpack[LabelOptions],
) -> ImageSet:
    """Read ``aokvqa_v1p0_{train,val,test}.json``.

    Parameters
    ----------
    questions : str or Path
        ``[{"image_id", "question_id", "question", "choices", "correct_choice_idx", "direct_answers",
        "difficult_direct_answer"}]``. The test split lacks the answers.
    images : str or Path or None
        Folder of COCO 2017 files, known by the last number in their name. None: no pixels.
    difficult : bool
        Keep the questions that the authors leave out of direct answering.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        ``questions`` also has ``choices`` (list) and ``choice`` (the right one, empty in the test split);
        ``answer`` is the majority of the direct answers.

    Raises
    ------
    DataError
        The file is of another format, or a question's id is there twice.
    """
    path = Path(questions)
    body = read_json(path)
    if not isinstance(body, list) or not body:
        raise DataError(f"{path} holds no list of questions; is this an A-OKVQA file?")
    need_fields(body, ("image_id", "question_id", "question", "choices"), path, "question", "an A-OKVQA file")
    table = numbered_images([one["image_id"] for one in body], images)
    rows = []
    for one in body:
        place = one.get("correct_choice_idx")
        choice = "" if place is None else str(one["choices"][place])
        answers = ten_answers([str(a).strip() for a in one.get("direct_answers") or [] if str(a).strip()])
        rows.append(
            {
                "question_id": str(one["question_id"]),
                "image_id": str(one["image_id"]),
                "question": one["question"],
                "answer": majority(answers),
                "answer_type": "other",
                "question_type": "",
                "answers": answers,
                "choices": list(one["choices"]),
                "choice": choice,
                "hard": bool(one.get("difficult_direct_answer", False)),
            }
        )
    asked = pd.DataFrame(rows)
    unique_questions(asked, path)
    hard = asked["hard"] & (not difficult)
    left = left_out(
        [f"question {i}" for i in asked.loc[hard, "question_id"]],
        "marked as too difficult for a direct answer",
    )
    asked = asked.loc[~hard, [*QUESTION_COLUMNS, "choices", "choice"]]
    return finish(table, images, {}, path=path, left=left, questions=asked, **options)
