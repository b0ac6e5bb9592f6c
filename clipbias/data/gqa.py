"""GQA: questions made from scene graphs, with one answer each."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.answers import ten_answers
from clipbias.data.assemble import LabelOptions, finish, need_fields, read_json
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError


@reader("gqa")
def read_gqa(
    questions: str | Path,
    images: str | Path | None,
    *,
    balanced: bool = False,
    **options: Unpack[LabelOptions],
) -> ImageSet:
    """Read ``{train,val,testdev}_{balanced,all}_questions.json``.

    Parameters
    ----------
    questions : str or Path
        ``{question id: {"imageId", "question", "answer", "types", "isBalanced"}}``.
    images : str or Path or None
        Folder of ``IMAGEID.jpg``. None: no pixels.
    balanced : bool
        Leave out the questions that are not of the balanced part.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        ``question_type`` is the structural type (``verify``, ``query``, ``choose``, ``logical``, ``compare``). The one
        answer stands ten times in ``answers``, so that the official VQA rule counts an exact match, as GQA does.

    Raises
    ------
    DataError
        The file is of another format.
    """
    path = Path(questions)
    body = read_json(path)
    if not isinstance(body, dict) or not body:
        raise DataError(f"{path} holds no questions by their id; is this a GQA questions file?")
    need_fields(list(body.values()), ("imageId", "question"), path, "question", "a GQA questions file")
    ids = list(dict.fromkeys(str(one["imageId"]) for one in body.values()))
    table = pd.DataFrame({"key": ids, "image_id": ids, "path": [f"{image}.jpg" for image in ids]})
    rows, unbalanced, bare = [], [], []
    for number, one in body.items():
        answer = str(one.get("answer", "") or "").strip()
        if balanced and not one.get("isBalanced", True):
            unbalanced.append(f"question {number}")
        elif "answer" in one and not answer:
            bare.append(f"question {number}")
        else:
            kind = one.get("types") or {}
            rows.append(
                {
                    "question_id": str(number),
                    "image_id": str(one["imageId"]),
                    "question": one["question"],
                    "answer": answer,
                    "answer_type": "yes/no" if answer in ("yes", "no") else "other",
                    "question_type": str(kind.get("structural", "")),
                    "answers": ten_answers([], answer),
                }
            )
    if not rows:
        raise DataError(f"{path} holds no question of the balanced part with an answer.")
    left = pd.concat(
        [left_out(unbalanced, "not of the balanced part"), left_out(bare, "no answer")], ignore_index=True
    )
    return finish(table, images, {}, path=path, left=left, questions=pd.DataFrame(rows), **options)
