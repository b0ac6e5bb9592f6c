"""Which group an image belongs to: (answer or word, attribute), where unknown is a level of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest

if TYPE_CHECKING:
    from clipbias.data.imageset import ImageSet
    from clipbias.tasks.data import TaskData

NONE = "none"  # label of an image whose captions name no word, or of which the question is not asked
_CONCEPTS = ("role", "object")


@dataclass(frozen=True, eq=False)
class Cells:
    """The images of a split with their label and group, and which examples are about them.

    Attributes
    ----------
    rows : numpy.ndarray, int (m,)
        Positions in the data's images, ascending.
    label, group : numpy.ndarray, int (m,)
        Codes into ``labels`` and ``groups``.
    labels, groups : tuple of str
        Levels that occur; ``"none"`` and ``"unknown"`` come last and are levels like the others.
    home : numpy.ndarray, int (n,)
        For each example of the split, the place of its image in ``rows``.
    asked : numpy.ndarray, bool (n,)
        Whether the example is about the label: asks its question (VQA) or is a caption.
    attribute, what : str
        The column that the groups come from; what the labels are.
    """

    rows: np.ndarray
    label: np.ndarray
    group: np.ndarray
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    home: np.ndarray
    asked: np.ndarray
    attribute: str
    what: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def joint(self) -> np.ndarray:
        """One code per (label, group), int (m,)."""
        return self.label * len(self.groups) + self.group

    @property
    def known(self) -> np.ndarray:
        """Images that have a label and a known group, bool (m,)."""
        label = np.array([name != NONE for name in self.labels])
        group = np.array([name != UNKNOWN for name in self.groups])
        return label[self.label] & group[self.group]

    def examples(
        self, images: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the examples of a multiset of images, and what each counts.

        Parameters
        ----------
        images : numpy.ndarray, int (k,)
            Places in ``rows``; an image may come several times.
        weights : numpy.ndarray, float (k,), optional

        Returns
        -------
        index : numpy.ndarray, int
            All examples about the first image, then those about the second, ...
        weights : numpy.ndarray, float
            Of the image of each.
        """
        images = np.asarray(images, np.int64)
        given = np.ones(len(images)) if weights is None else np.asarray(weights, float)
        order = np.argsort(self.home, kind="stable")
        counts = np.bincount(self.home, minlength=len(self))
        starts = np.cumsum(counts) - counts
        each = counts[images]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        return order[np.repeat(starts[images], each) + within], np.repeat(given, each)

    def shuffled(self, seed: int) -> Cells:
        """Return the same images with their groups permuted: the null of everything that uses groups."""
        return replace(self, group=np.random.default_rng([seed, 99]).permutation(self.group))

    def part(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the images that stay, and of those held out: ``share`` of every cell, rounded."""
        held = stratified(self.joint, share, seed)
        return np.flatnonzero(~held), np.flatnonzero(held)


def stratified(cells: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return which of n items are held out, bool (n,): a share of every cell; of a cell of two or more at least one stays.

    Raises
    ------
    DataError
        The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise DataError(f"the held-out share is {share}; it lies between 0 and 1.")
    rng = np.random.default_rng([seed, 31])
    held = np.zeros(len(cells), bool)
    for cell in np.unique(cells):
        members = rng.permutation(np.flatnonzero(cells == cell))
        number = int(np.clip(round(share * len(members)), len(members) > 1, max(len(members) - 1, 0)))
        held[members[:number]] = True
    return held


def cells_of(
    data: TaskData, groups: pd.DataFrame, split: str, *, attribute: str = "", label: str = ""
) -> Cells:
    """Return the groups of a split's images.

    Parameters
    ----------
    data : TaskData
    groups : DataFrame
        ``image_id`` and attributes.
    split : {"train", "val", "test"}
    attribute : str
        Default: the first of the table.
    label : str
        VQA: the question whose answers are the labels; default, the one that asks for what is planted, else for the role or
        object, else the most asked. Captioning: words, separated by ``|``; default, the roles or objects of the images.

    Raises
    ------
    DataError
        There are no group labels, or no such attribute, question or words.
    """
    examples = data.split(split)
    place = data.image_rows(examples)
    rows, home = np.unique(place, return_inverse=True)
    name = _attribute(groups, attribute, data.name)
    values = groups.set_index("image_id")[name].astype(object)
    names = data.images.ids  # a property: made anew at each look
    ids = [names[row] for row in rows]
    found = values.reindex(ids).fillna(UNKNOWN).astype(str).to_numpy(dtype=object)
    if (found == UNKNOWN).all():
        raise DataError(
            f"no image of the {split} split of {data.name!r} has a known {name!r}, and this intervention needs group "
            "labels: give them as a table (--labels), or choose another attribute."
        )
    make = _answers if data.task == "vqa" else _words
    said, asked, what = make(data, examples, home, len(rows), label)
    label_code, labels = _codes(said, NONE)
    group_code, levels = _codes(found, UNKNOWN)
    return Cells(rows, label_code, group_code, labels, levels, home, asked, name, what)


def _codes(values: np.ndarray, last: str) -> tuple[np.ndarray, tuple[str, ...]]:
    levels = sorted(set(values.tolist()), key=lambda level: (level == last, level))
    place = {level: code for code, level in enumerate(levels)}
    return np.array([place[value] for value in values], np.int64), tuple(levels)


def _attribute(groups: pd.DataFrame, attribute: str, name: str) -> str:
    columns = [str(column) for column in groups if column != "image_id"]
    if not columns:
        raise DataError(
            f"the images of {name!r} have no protected attribute, and this intervention needs group labels: give them as a "
            "table (--labels)."
        )
    if attribute and attribute not in columns:
        raise DataError(
            f"the images of {name!r} have no attribute {attribute!r}." + nearest(attribute, columns)
        )
    return attribute or columns[0]


def _concept(images: ImageSet) -> str | None:
    """Return the column that the ties are of, else the role or object."""
    ties = images.facts.get("ties")
    named = set(ties) if isinstance(ties, dict) else set()
    for column in [*_CONCEPTS, *map(str, images.table)]:
        if named and column in images.table and column not in images.attributes:
            values = images.table[column]
            if values.map(lambda v: isinstance(v, str)).all() and named <= set(values):
                return column
    return next((column for column in _CONCEPTS if column in images.table), None)


def _answers(
    data: TaskData, examples: pd.DataFrame, home: np.ndarray, n: int, label: str
) -> tuple[np.ndarray, np.ndarray, str]:
    from clipbias.tasks.metrics.vqa import normalize_answer

    asked = examples["question"].to_numpy(dtype=object)
    answers = examples["target"].map(normalize_answer).to_numpy(dtype=object)
    question = label or _question(data, examples)
    mine = asked == question
    if not mine.any():
        raise DataError(
            f"nobody asks {question!r} in {data.name!r}." + nearest(question, set(asked.tolist()))
        )
    said = np.full(n, NONE, dtype=object)
    said[home[mine]] = answers[mine]
    return said, mine, f"answers to {question!r}"


def _question(data: TaskData, examples: pd.DataFrame) -> str:
    from clipbias.tasks.metrics.vqa import normalize_answer

    table = pd.DataFrame(
        {"question": examples["question"].astype(str), "answer": examples["target"].map(normalize_answer)}
    )
    concept = _concept(data.images)
    if concept is not None:
        truth = data.images.table[concept].astype(str).to_numpy()[data.image_rows(examples)]
        table["right"] = table["answer"].to_numpy() == np.array([normalize_answer(t) for t in truth], object)
        seen = table.groupby("question").agg(
            right=("right", "mean"), n=("right", "size"), kinds=("answer", "nunique")
        )
        seen = seen[(seen["right"] > 0.9) & (seen["kinds"] > 1)]
        if len(seen):
            return str(seen["n"].idxmax())
    kinds = table.groupby("question")["answer"].agg(["size", "nunique"])
    kinds = kinds[kinds["nunique"] > 1]
    if kinds.empty:
        raise DataError(
            f"every question of {data.name!r} has one answer only, so no group can be made of answers; name a question (label=)."
        )
    return str(kinds["size"].idxmax())


def _words(
    data: TaskData, examples: pd.DataFrame, home: np.ndarray, n: int, label: str
) -> tuple[np.ndarray, np.ndarray, str]:
    from clipbias.tasks.outcomes import named

    concept = _concept(data.images)
    if label:
        words = [word.strip() for word in label.split("|") if word.strip()]
    elif concept is not None:
        words = sorted(set(data.images.table[concept].astype(str)) - {"", UNKNOWN})
    else:
        raise DataError(
            f"the captions of {data.name!r} name nothing that is known as a role or object; say which words make the groups "
            "(label=word|word)."
        )
    texts = [""] * n
    for place, caption in zip(home, examples["target"].astype(str), strict=True):
        texts[place] += caption + ". "
    said = named(texts, words)
    if (said == NONE).all():
        raise DataError(f"no caption of {data.name!r} names any of: {', '.join(words[:10])}.")
    return (
        said,
        np.ones(len(examples), bool),
        "words " + ", ".join(words[:4]) + (", ..." if len(words) > 4 else ""),
    )
