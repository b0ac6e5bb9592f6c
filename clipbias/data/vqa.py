"""VQAv2: questions and ten people's answers about images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.coco import entries_table, finish, join_labels, read_json
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError

_LAST_NUMBER = re.compile(r"(\d+)\D*$")


@reader("vqa")
def read_vqa(
    questions: str | Path,
    annotations: str | Path | None,
    images: str | Path | None,
    *,
    labels: str | Path | pd.DataFrame | None = None,
    label_id: str = "image_id",
    attributes: Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
    levels: Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
) -> ImageSet:
    """Read VQAv2 questions, their annotations and the images.

    Parameters
    ----------
    questions : str or Path
        ``{"questions": [{"question_id", "image_id", "question"}]}``.
    annotations : str or Path or None
        ``{"annotations": [{"question_id", "answer_type", "multiple_choice_answer", "answers"}]}``. None: a
        test split without answers.
    images : str or Path or None
        Folder of files whose name ends in the image id, as in ``COCO_val2014_000000000042.jpg``. None: no
        pixels.
    labels, label_id, attributes, contexts, levels, name
        As in :func:`~clipbias.data.coco.read_coco_captions`.

    Returns
    -------
    ImageSet
        One row per image; ``questions`` has ``question_id, image_id, question, answer, answer_type,
        question_type, answers`` (a list). Questions without an annotation and images without a file are in
        ``left_out``.

    Raises
    ------
    DataError
        A file is not of this format, a column is missing, or a level is wrong.
    """
    path = Path(questions)
    body = read_json(path, ("questions",))
    asked = _records(body["questions"], ("question_id", "image_id", "question"), path, "question")
    if not len(asked):
        raise DataError(f"{path} holds no questions.")
    if asked["question_id"].duplicated().any():
        twice = asked.loc[asked["question_id"].duplicated(), "question_id"].iloc[0]
        raise DataError(f"{path} holds question_id {twice} twice.")
    if "images" in body:  # our own export lists the images with their ground truth; the real files do not
        table, about = entries_table(body["images"], body.get("info"), str(path))
    else:
        table, about = _image_entries(asked["image_id"], images), {}
    keys = dict(zip(table["key"], table["image_id"], strict=True))
    asked = asked.assign(image_id=asked["image_id"].map(keys))
    table = join_labels(table, labels, label_id)
    asked, dropped = _answers(asked, annotations)
    return finish(
        table, images, about, where=str(path), name=name or path.stem, left=dropped, attributes=attributes,
        contexts=contexts, levels=levels, questions=asked,
    )  # fmt: skip


def _records(records: list, fields: Sequence[str], path: Path, what: str) -> pd.DataFrame:
    for number, record in enumerate(records):
        for field in fields:
            if not isinstance(record, dict) or field not in record:
                raise DataError(f"{path}: {what} {number} has no {field!r}; is this a VQAv2 {what}s file?")
    return pd.DataFrame(records, columns=[*fields, *sorted({f for r in records for f in r} - set(fields))])


def _image_entries(ids: pd.Series, images: str | Path | None) -> pd.DataFrame:
    """One row per image asked about; files are known by the last number in their name."""
    unique = list(dict.fromkeys(ids))
    files: dict[int, str] = {}
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise DataError(f"the image folder {folder} does not exist.")
        for file in sorted(folder.iterdir()):
            number = _LAST_NUMBER.search(file.stem)
            if number and file.is_file():
                other = files.setdefault(int(number.group(1)), file.name)
                if other != file.name:
                    raise DataError(
                        f"{folder} holds two files of image {int(number.group(1))}, {other} and {file.name}. "
                        "Give the folder of one split."
                    )
    paths = [files.get(_int(i), f"{i} (no file with this number)") for i in unique]
    return pd.DataFrame({"key": unique, "path": paths, "image_id": [str(i) for i in unique]})


def _int(value: object) -> int:
    return int(value) if str(value).isdecimal() else -1  # type: ignore[call-overload]


def _answers(asked: pd.DataFrame, annotations: str | Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join the annotations; returns questions and what was left out."""
    key = asked["question_id"]
    shown = asked["question_key"] if "question_key" in asked else key.astype(str)
    base = pd.DataFrame({"question_id": shown, "image_id": asked["image_id"], "question": asked["question"]})
    if annotations is None:
        empty = base.assign(
            answer="", answer_type="unknown", question_type="", answers=[[] for _ in range(len(base))]
        )
        return empty, left_out([], "")
    path = Path(annotations)
    body = read_json(path, ("annotations",))
    found = _records(
        body["annotations"], ("question_id", "multiple_choice_answer", "answers"), path, "annotation"
    )
    found = found.drop_duplicates("question_id").set_index("question_id")
    there = key.isin(found.index).to_numpy()
    if not there.any():
        raise DataError(f"{path} annotates none of the questions; are the two files of the same split?")
    rows = found.loc[key[there]]
    base = base[there].reset_index(drop=True)
    base["answer"] = rows["multiple_choice_answer"].astype(str).tolist()
    base["answer_type"] = rows["answer_type"].tolist() if "answer_type" in rows else "unknown"
    base["question_type"] = rows["question_type"].tolist() if "question_type" in rows else ""
    base["answers"] = [[str(a["answer"]) for a in answers] for answers in rows["answers"]]
    lost = [f"question {i}" for i in shown[~there]]
    return base, left_out(lost, "no annotation")
