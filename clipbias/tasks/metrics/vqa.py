"""VQA accuracy: the official rule, and the rules of three other tools under their names.

The four give different numbers for the same file, so a number without the name of its rule means little.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, nearest

RULES = ("official", "lavis", "lmms-eval", "a-okvqa")
ENOUGH = 3  # people who have to agree with an answer for it to be wholly right

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# The rule reads re.UNICODE as the largest number of replacements, so that only so many periods are dropped.
_MOST_PERIODS = int(re.UNICODE)
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Contracted words that the rule knows. An answer that lacks one apostrophe of such a word is given it.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the one that goes the other way


@dataclass(frozen=True)
class VqaAccuracy:
    """VQA accuracy in percent.

    Attributes
    ----------
    overall : float
        Mean over the questions, in [0, 100], not rounded; higher is better.
    per_answer_type, per_question_type : dict
        Means by the types of the annotations.
    per_question : dict
        Question id to its accuracy, in [0, 100].
    rule : str
        Which rule was used.
    n : int
    """

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]
    per_question: dict[Any, float] = field(repr=False)
    rule: str = "official"
    n: int = 0


def _strip(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@functools.lru_cache(maxsize=200_000)
def _punctuation(text: str) -> str:
    """Drop or blank punctuation, as each mark stands in the text as it came."""
    out, dense = text, _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        if mark in text:
            beside_blank = f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if beside_blank or dense else " ")
    return _PERIOD.sub("", out, count=_MOST_PERIODS)


def _words(text: str) -> str:
    """Lower-case, number words to digits, no articles, apostrophes put back."""
    numbered = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


@functools.lru_cache(maxsize=200_000)
def normalize_answer(text: str) -> str:
    """Return an answer as the official rule compares it.

    Line ends and tabs go; a mark of ``; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !`` is dropped where it stands beside a
    blank or where the text has a comma between digits, else it becomes a blank; periods go unless a digit follows;
    lower case; ``none`` and ``zero`` to ``ten`` become digits; ``a``, ``an``, ``the`` go; lost apostrophes come back.

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> normalize_answer("The two dogs.")
    '2 dogs'
    """
    return _words(_punctuation(_strip(text)))


def _official(predicted: str, answers: list[str]) -> tuple[str, list[str]]:
    predicted, answers = _strip(predicted), [_strip(a) for a in answers]
    # Where all people say the same, nothing is normalised: "Black." is wrong when ten people say "black".
    if len(set(answers)) == 1:
        return predicted, answers
    return normalize_answer(predicted), [normalize_answer(a) for a in answers]


def _lavis(predicted: str, answers: list[str]) -> tuple[str, list[str]]:
    if len(set(answers)) > 1:
        answers = [_punctuation(a) for a in answers]
    return normalize_answer(predicted), answers


def _lmms(predicted: str, answers: list[str]) -> tuple[str, list[str]]:
    return normalize_answer(predicted), [normalize_answer(a) for a in answers]


def _raw(predicted: str, answers: list[str]) -> tuple[str, list[str]]:
    return predicted, answers


_COMPARED: dict[str, Callable[[str, list[str]], tuple[str, list[str]]]] = dict(
    zip(RULES, (_official, _lavis, _lmms, _raw), strict=True)
)


def answer_accuracy(predicted: str, answers: Sequence[str], *, rule: str = "official") -> float:
    """Return the accuracy of one answer, in [0, 1].

    Parameters
    ----------
    predicted : str
    answers : sequence of str
        What people answered, ten in VQAv2; at least four (``"a-okvqa"``: three).
    rule : {"official", "lavis", "lmms-eval", "a-okvqa"}

    Raises
    ------
    DataError
        Unknown rule, or so few answers that nothing could be wholly right.

    Notes
    -----
    Mean of min(1, matches / 3) over the sets of answers that leave one out: of ten people 1, 2, 3 and 4 who agree give
    0.3, 0.6, 0.9 and 1. ``"a-okvqa"`` counts all answers instead, and compares them as they are.
    """
    compare = _rule(rule)
    needed = ENOUGH if rule == "a-okvqa" else ENOUGH + 1
    if len(answers) < needed:
        raise DataError(
            f"a question with {len(answers)} answer(s): the rule {rule!r} needs at least {needed} people's answers. "
            "For one right answer, use exact_match."
        )
    mine, theirs = compare(predicted, list(answers))
    n, matches = len(theirs), sum(mine == other for other in theirs)
    if rule == "a-okvqa":
        return min(1.0, matches / ENOUGH)
    # Leaving out one who agrees leaves one match less.
    return (matches * min(1.0, (matches - 1) / ENOUGH) + (n - matches) * min(1.0, matches / ENOUGH)) / n


def _rule(rule: str) -> Callable[[str, list[str]], tuple[str, list[str]]]:
    if rule not in _COMPARED:
        raise DataError(f"there is no VQA rule {rule!r}." + nearest(str(rule), RULES))
    return _COMPARED[rule]


def vqa_accuracy(
    predictions: Mapping[Any, str] | Iterable[Mapping[str, Any]] | pd.DataFrame,
    annotations: Mapping[str, Any] | Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    rule: str = "official",
) -> VqaAccuracy:
    """Return VQA accuracy.

    Parameters
    ----------
    predictions : mapping, list of dict or DataFrame
        Question id to answer; or records ``question_id, answer`` as in the official result file; or a prediction table
        (``example_id, prediction``).
    annotations : dict, list of dict or DataFrame
        The official annotation file as loaded (``{"annotations": [...]}``), its records, or a table with
        ``question_id`` (or ``example_id``), ``answers`` (strings, or dicts with ``answer``), and where they are known
        ``answer_type`` and ``question_type``.
    rule : {"official", "lavis", "lmms-eval", "a-okvqa"}
        ``"official"`` is the rule of the VQA challenge with its quirks: see `normalize_answer`; when all people agree,
        answers are compared as they are. ``"lavis"`` always normalises the prediction but of the people's answers only
        the punctuation; ``"lmms-eval"`` normalises both always; ``"a-okvqa"`` compares as it is, counts all answers, and
        leaves out the questions marked ``difficult_direct_answer`` where the annotations have that mark.

    Returns
    -------
    VqaAccuracy
        In percent, higher is better.

    Raises
    ------
    DataError
        A question without a prediction, a prediction without a question, a question given twice, too few answers,
        an unknown rule.

    Notes
    -----
    Antol et al. (2015), arXiv:1505.00468; Goyal et al. (2017), arXiv:1612.00837.
    """
    _rule(rule)
    given, asked = _predictions(predictions), _annotations(annotations)
    missing = [i for i in asked["id"] if i not in given]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(asked)} questions have no prediction, the first: {missing[0]!r}. "
            "Answer them, or leave them out of the annotations."
        )
    strange = given.keys() - set(asked["id"])
    if strange:
        first = min(strange, key=str)
        raise DataError(f"{len(strange)} predictions are for questions without an annotation: {first!r}.")
    if rule == "a-okvqa":
        asked = asked[~asked["difficult"]].reset_index(drop=True)
        if asked.empty:
            raise DataError(
                "every question is marked difficult_direct_answer, which the rule 'a-okvqa' leaves out."
            )
    values = np.empty(len(asked))
    for row, (key, answers) in enumerate(zip(asked["id"], asked["answers"], strict=True)):
        try:
            values[row] = answer_accuracy(given[key], answers, rule=rule)
        except DataError as error:
            raise DataError(f"question {key!r}: {error}") from error
    values *= 100
    return VqaAccuracy(
        float(values.mean()),
        _means(values, asked["answer_type"]),
        _means(values, asked["question_type"]),
        dict(zip(asked["id"], values.tolist(), strict=True)),
        rule,
        len(asked),
    )


def _means(values: np.ndarray, labels: pd.Series) -> dict[str, float]:
    found = pd.Series(values).groupby(labels.to_numpy(), sort=True).mean()
    return {str(label): float(value) for label, value in found.items() if label != ""}


def _predictions(predictions: Any) -> dict[Any, str]:
    if isinstance(predictions, pd.DataFrame):
        key = _column(predictions, ("question_id", "example_id"), "predictions")
        text = _column(predictions, ("answer", "prediction"), "predictions")
        pairs = list(zip(predictions[key], predictions[text], strict=True))
    elif isinstance(predictions, Mapping):
        pairs = list(predictions.items())
    else:
        pairs = []
        for place, record in enumerate(predictions):
            if not isinstance(record, Mapping) or not {"question_id", "answer"} <= record.keys():
                raise DataError(f"prediction {place} has no 'question_id' and 'answer'.")
            pairs.append((record["question_id"], record["answer"]))
    out: dict[Any, str] = {}
    for key, text in pairs:
        if key in out:
            raise DataError(f"question {key!r} has two predictions.")
        if not isinstance(text, str):
            raise DataError(f"the prediction of question {key!r} is {text!r}, which is no text.")
        out[key] = text
    if not out:
        raise DataError("there are no predictions.")
    return out


def _annotations(annotations: Any) -> pd.DataFrame:
    if isinstance(annotations, Mapping):
        if "annotations" not in annotations:
            raise DataError("the annotations have no key 'annotations'; is this a VQAv2 annotation file?")
        annotations = annotations["annotations"]
    frame = annotations if isinstance(annotations, pd.DataFrame) else pd.DataFrame(list(annotations))
    if frame.empty:
        raise DataError("there are no annotations.")
    key, answers = _column(frame, ("question_id", "example_id"), "annotations"), "answers"
    _column(frame, (answers,), "annotations")
    # As objects: ids stay the numbers or strings that the predictions have.
    out = pd.DataFrame({"id": pd.Series(frame[key].tolist(), dtype=object)})
    if out["id"].duplicated().any():
        raise DataError(f"question {out.loc[out['id'].duplicated(), 'id'].iloc[0]!r} is annotated twice.")
    out["answers"] = [
        [str(a["answer"]) if isinstance(a, Mapping) else str(a) for a in given] for given in frame[answers]
    ]
    for name in ("answer_type", "question_type"):
        out[name] = frame[name].astype(str).to_numpy() if name in frame else ""
    hard = frame.get("difficult_direct_answer", pd.Series(False, index=frame.index))
    out["difficult"] = hard.fillna(False).astype(bool).to_numpy()
    return out


def _column(frame: pd.DataFrame, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in frame:
            return name
    raise DataError(f"the {what} have no column {names[0]!r}." + nearest(names[0], map(str, frame.columns)))


def exact_match(predicted: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    """Return which predictions equal the truth after `normalize_answer`, bool (n,)."""
    if len(predicted) != len(truth):
        raise DataError(f"{len(predicted)} predictions but {len(truth)} true answers.")
    return np.array(
        [normalize_answer(a) == normalize_answer(b) for a, b in zip(predicted, truth, strict=True)]
    )
