"""From task data to what heads are trained on: answer list, soft targets, vocabulary, examples that point to images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipbias.errors import DataError
from clipbias.tasks.batches import Material, Source
from clipbias.tasks.metrics.vqa import ENOUGH, normalize_answer
from clipbias.tasks.vocabulary import Vocabulary

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData
    from clipbias.tasks.recipe import TaskRecipe

PEOPLE = 10  # answers per question in the official files


def answer_list(examples: pd.DataFrame, n: int) -> tuple[str, ...]:
    """Return the ``n`` most frequent majority answers of examples, normalised; of equals the first in the alphabet.

    Raises
    ------
    DataError
        Fewer than two different answers: there is nothing to choose between.
    """
    counts = Counter(normalize_answer(text) for text in examples["target"])
    counts.pop("", None)
    kept = sorted(counts, key=lambda answer: (-counts[answer], answer))[:n]
    if len(kept) < 2:
        raise DataError(
            f"the training questions have {'one answer only: ' + repr(kept[0]) if kept else 'no answers'}; "
            "a model that answers needs at least two to choose between."
        )
    return tuple(kept)


def soft_targets(examples: pd.DataFrame, answers: tuple[str, ...]) -> Tensor:
    """Return how right each answer would be, float32 (n, A) in [0, 1]: three people of ten make it wholly right."""
    place = {answer: column for column, answer in enumerate(answers)}
    soft = torch.zeros(len(examples), len(answers))
    for row, (given, target) in enumerate(zip(examples["answers"], examples["target"], strict=True)):
        said = list(given) or [target]
        for answer, count in Counter(map(normalize_answer, said)).items():
            column = place.get(answer)
            if column is not None:
                soft[row, column] = min(1.0, count * PEOPLE / len(said) / ENOUGH)
    return soft


def vocabulary_of(parts: Sequence[TaskData], recipe: TaskRecipe, language: str = "") -> Vocabulary:
    """Return the vocabulary of the training texts, or the tokenizer of a language model by path.

    The same for every CLIP, as it is made of texts alone. Answers are normalised, as in the answer list.
    """
    if language:
        return Vocabulary.pretrained(language)
    texts: list[str] = []
    for data in parts:
        train = data.split("train")
        texts += train["question"].tolist()
        if data.task == "vqa":
            texts += _answers(train["target"])
            texts += [normalize_answer(answer) for answers in train["answers"] for answer in set(answers)]
        else:
            texts += train["target"].tolist()
    return Vocabulary.build((text for text in texts if text), max_size=recipe.vocabulary)


def _answers(targets: pd.Series) -> list[str]:
    """Return answers normalised; what normalising would leave nothing of ("a") stays as it is."""
    return [normalize_answer(target) or target for target in targets]


def material_of(
    data: TaskData, examples: pd.DataFrame, source: Source, *, answers: tuple[str, ...] = ()
) -> Material:
    """Return examples with their images' places and, for an answer list, soft targets.

    Answers to be written are normalised ("two dogs" is "2 dogs"), so that a head that writes and one that chooses from
    the answer list learn the same.

    Raises
    ------
    DataError
        An example that is trained on has an empty target.
    """
    examples = examples.reset_index(drop=True)
    trained = examples["split"] != "test"
    empty = trained & (examples["target"].str.strip() == "")
    if empty.any():
        raise DataError(
            f"{int(empty.sum())} training examples of {data.name!r} have an empty "
            f"{'caption' if data.task == 'captioning' else 'answer'}, first: {examples.loc[empty, 'example_id'].iloc[0]!r}."
        )
    if data.task == "vqa":
        examples = examples.assign(target=_answers(examples["target"]))
    soft = soft_targets(examples, answers) if answers and data.task == "vqa" and trained.any() else None
    return Material(examples, data.image_rows(examples), source, soft)


def without_images(data: TaskData, missing: np.ndarray) -> TaskData:
    """Return the data without the examples of some images (places in ``data.images``), which cannot be read."""
    from dataclasses import replace

    if not len(missing):
        return data
    gone = set(np.asarray(data.images.ids, object)[missing])
    examples = data.examples[~data.examples["image_id"].isin(gone)].reset_index(drop=True)
    return replace(data, examples=examples)
