"""Task data of real files: captions, questions and annotations as they are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.data import ImageSet, combine, load
from clipbias.data.files import left_out
from clipbias.data.sniff import CAPTIONS, QUESTIONS, sniff
from clipbias.errors import DataError, nearest
from clipbias.tasks.data import TASKS, TaskData
from clipbias.tasks.examples import caption_examples, question_examples
from clipbias.tasks.people import gender_of_captions, read_people, with_people
from clipbias.tasks.splits import split_images

if TYPE_CHECKING:
    from clipbias.tasks.metrics.words import WordList

PARTS = ("captions", "questions", "annotations", "images")
EASY_VQA = "easy-vqa"  # comes as a Python package, so it is named instead of a file
_Words = str | Mapping[str, Sequence[str]]


def from_files(
    task: str,
    *,
    captions: str | Path | None = None,
    questions: str | Path | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    labels: str | Path | pd.DataFrame | None = None,
    label_id: str | None = None,
    attributes: Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
    words: _Words | WordList | None = "hendricks2018",
    test: Mapping[str, str | Path] | None = None,
    kind: str | None = None,
    options: Mapping[str, object] | None = None,
    val_share: float = 0.05,
    test_share: float = 0.2,
    n_train: int = 0,
    seed: int = 0,
    name: str | None = None,
) -> TaskData:
    """Read task data from annotation files; their format is told from what they hold.

    Parameters
    ----------
    task : {"vqa", "captioning"}
    captions : path, optional
        COCO captions JSON, one of Karpathy's split files (COCO, Flickr30k) or Flickr30k's token file. For VQA it is
        only used to infer gender.
    questions, annotations : path, optional
        VQAv2 or OK-VQA questions and annotations; or, with their answers in one file, A-OKVQA, GQA or Visual Genome
        questions; or ``"easy-vqa"``. Not used for captioning.
    images : path, optional
        Folder of the image files. None: texts only, reading pixels is an error.
    labels : path or pandas.DataFrame, optional
        Annotations of people, one row per image; see :func:`~clipbias.tasks.people.read_people`, also for ``label_id``,
        ``attributes`` and ``contexts``. Images without a row are ``"unknown"``.
    words : str, mapping or None
        Word list by which ``gender`` is inferred from the captions where no annotation gives it. None: do not.
    test : mapping, optional
        Files of the bias evaluation: ``captions``, ``questions``, ``annotations``, ``images``. Images that are in the
        training files as well are left out of these. Default: the file's own test split, else drawn from it.
    kind : str, optional
        Name of the reader (``clipbias.data.list_readers()``) if it cannot be told from the file.
    options : mapping, optional
        Options of the reader, such as ``balanced=True`` of GQA.
    val_share, test_share, n_train, seed
        As in :func:`~clipbias.tasks.splits.split_images`.
    name : str, optional

    Returns
    -------
    TaskData
        What was not used stands in ``left_out``, with the reason.

    Raises
    ------
    DataError
        A file is missing, not of its format, or the splits cannot be made; unknown word list.
    """
    if task not in TASKS:
        raise DataError(f"there is no task {task!r}." + nearest(task, TASKS))
    given = {"captions": captions, "questions": questions, "annotations": annotations, "images": images}
    for key in test or ():
        if key not in PARTS:
            raise DataError(f"test has no part {key!r}." + nearest(key, PARTS))
    if words:
        from clipbias.tasks.metrics.words import load_words

        words = load_words(words)  # an unknown list is told before large files are read
    people = None
    more: dict[str, Any] = {**(options or {}), "attributes": attributes, "contexts": contexts}
    if labels is not None and not (isinstance(labels, str) and not labels):
        people = read_people(labels, label_id=label_id, attributes=attributes, contexts=contexts)
        more["attributes"] = None
        more["contexts"] = [c for c in contexts or () if c not in people[0]] or None
    found = _read(task, given, people, words, kind, more)
    apart = _read(task, test, people, words, kind, more) if test else None
    if people is not None:
        _check_labels(people[0], [found, *([apart] if apart else [])], labels)
    if apart is not None:
        found = _without(found, apart)
        found = combine([found, apart], name=found.name)
    if name:
        found = replace(found, name=name)
    splits, beyond = split_images(
        found, test=apart.ids if apart else (), val_share=val_share, test_share=test_share, n_train=n_train, seed=seed
    )  # fmt: skip
    found, unanswered = _answered(found, task)
    examples = (question_examples if task == "vqa" else caption_examples)(found, splits)
    left = pd.concat([found.left_out, unanswered, beyond], ignore_index=True)
    # Only the images that are used: a tower sees them all.
    used = found.take(found.table["image_id"].isin(examples["image_id"]).to_numpy())
    return TaskData(task, used, examples, found.name, found.licence, found.source, left)


def _check_labels(people: pd.DataFrame, sets: Sequence[ImageSet], labels: object) -> None:
    ids = [image for one in sets for image in one.ids]
    if not set(people["image_id"]) & set(ids):
        where = "the table of labels" if isinstance(labels, pd.DataFrame) else str(labels)
        raise DataError(
            f"{where} names none of the images: it has ids such as {people['image_id'].iloc[0]!r}, the images such as "
            f"{ids[0]!r}."
        )


def _read(
    task: str,
    given: Mapping[str, str | Path | None],
    people: tuple[pd.DataFrame, list[str]] | None,
    words: _Words | WordList | None,
    kind: str | None,
    options: dict[str, Any],
) -> ImageSet:
    """Read one group of files, with the attributes of people."""
    captions, questions = given.get("captions") or None, given.get("questions") or None
    images, annotations = given.get("images") or None, given.get("annotations") or None
    if task == "captioning":
        if captions is None:
            raise DataError("captioning needs a file of captions (captions=).")
        found = load(kind or sniff(captions, CAPTIONS), captions, images, **options)
    else:
        if questions is None:
            raise DataError("VQA needs a file of questions (questions=).")
        kind = kind or (EASY_VQA if str(questions) == EASY_VQA else sniff(questions, QUESTIONS))
        if kind == EASY_VQA:
            folder = None if str(questions) == EASY_VQA else questions
            found = load(kind, folder, **options)
        elif kind == "vqa":
            if annotations is None:
                raise DataError(
                    f"the answers to {questions} are missing: give its annotations (annotations=)."
                )
            found = load(kind, questions, annotations, images, **options)
        else:
            if annotations is not None:
                raise DataError(
                    f"{questions} is a file of {kind}, which holds its answers; leave out annotations."
                )
            found = load(kind, questions, images, **options)
    if people is not None:
        found = with_people(found, *people)
    if words and "gender" not in found.attributes:
        found = _with_gender(found, captions, words)
    return found


def _with_gender(images: ImageSet, captions: str | Path | None, words: _Words | WordList) -> ImageSet:
    """Add the column ``gender``, inferred from captions; without captions nothing is added."""
    if "captions" in images.table:
        said = images.table["captions"].tolist()
    elif captions is not None:
        other = load(sniff(captions, CAPTIONS), captions, None).table.set_index("image_id")["captions"]
        if not set(images.ids) & set(other.index):
            raise DataError(
                f"{captions} describes none of the images asked about: it has ids such as {other.index[0]!r}, the "
                f"questions such as {images.ids[0]!r}."
            )
        said = [other.get(image, []) for image in images.ids]
    else:
        return images
    table = images.table.assign(gender=gender_of_captions(said, words))
    source = words if isinstance(words, str) else getattr(words, "name", "custom")
    facts = {**images.facts, "gender": f"inferred from captions by the word list {source}"}
    return replace(images, table=table, attributes=("gender", *images.attributes), facts=facts)


def _without(images: ImageSet, apart: ImageSet) -> ImageSet:
    """Return the images that are not in another set, by their id or their id in COCO."""
    ids = set(apart.ids)
    shared = images.table["image_id"].isin(ids).to_numpy()
    if "coco_id" in images.table:
        shared |= images.table["coco_id"].isin(ids).to_numpy()
    if not shared.any():
        return images
    kept = images.take(~shared)
    lost = left_out(
        images.table.loc[shared, "image_id"].tolist(),
        "in training and bias evaluation; only the latter uses it",
    )
    return replace(kept, left_out=pd.concat([kept.left_out, lost], ignore_index=True))


def _answered(images: ImageSet, task: str) -> tuple[ImageSet, pd.DataFrame]:
    """Return the set without questions that nobody answered, and these."""
    asked = images.questions
    if task != "vqa" or asked is None:
        return images, left_out([], "")
    bare = np.array([len(answers) == 0 for answers in asked["answers"]], bool)
    lost = left_out([f"question {number}" for number in asked.loc[bare, "question_id"]], "no answer")
    return replace(images, questions=asked[~bare].reset_index(drop=True)), lost
