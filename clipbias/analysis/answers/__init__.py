"""Answers to the questions of a study, one module for each kind."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from clipbias.analysis.answers.base import Answer
from clipbias.analysis.answers.interventions import answer_interventions
from clipbias.analysis.answers.local import answer_global_local
from clipbias.analysis.answers.spaces import answer_convergence, group_states, study_name
from clipbias.analysis.answers.transfer import answer_transfer
from clipbias.analysis.answers.validity import answer_validity
from clipbias.analysis.questions import Question
from clipbias.errors import DataError

__all__ = ["ANSWERS", "Answer", "answer", "answer_convergence", "group_states", "study_name"]

ANSWERS = {
    "transfer": answer_transfer,
    "global-local": answer_global_local,
    "interventions": answer_interventions,
    "validity": answer_validity,
}


def answer(
    question: Question,
    tables: Mapping[str, pd.DataFrame],
    *,
    ideals: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Answer:
    """Answer one question about tables.

    Parameters
    ----------
    question : Question
        Of a kind in `ANSWERS`; convergence needs states, see `answer_convergence`.
    tables : mapping of str to DataFrame
        ``intrinsic``, ``extrinsic``, ``models``, ``views``; what is missing becomes a verdict row that says so.
    ideals : mapping, optional
        Metric -> its ideal value.
    seed : int

    Returns
    -------
    Answer

    Raises
    ------
    DataError
        A table that is not what it should be, or a kind that has no answer here.
    """
    try:
        function = ANSWERS[question.kind]
    except KeyError:
        raise DataError(f"a {question.kind} question is not about tables.") from None
    return function(question, tables, ideals=ideals or {}, seed=seed)
