"""What the readers of questions share: their columns, people's answers, unique numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from clipbias.errors import DataError

QUESTION_COLUMNS = (
    "question_id", "image_id", "question", "answer", "answer_type", "question_type", "answers",
)  # fmt: skip
ANSWERS_PER_QUESTION = 10


def ten_answers(answers: Sequence[str], answer: str = "") -> list[str]:
    """Return the answers that a prediction is compared with.

    Several people's answers stay as they are. One true answer stands ten times, so that the official VQA rule,
    which asks for three people who agree, counts an exact match.
    """
    found = list(answers) or ([answer] if answer else [])
    return found * ANSWERS_PER_QUESTION if len(found) == 1 else found


def majority(answers: Sequence[str]) -> str:
    """Return the most frequent answer, of equals the first; empty without answers."""
    return Counter(answers).most_common(1)[0][0] if answers else ""


def unique_questions(questions: pd.DataFrame, where: object) -> None:
    """Raise a DataError that names the first question id that is there twice."""
    twice = questions["question_id"].duplicated()
    if twice.any():
        raise DataError(f"{where} holds question_id {questions.loc[twice, 'question_id'].iloc[0]} twice.")
