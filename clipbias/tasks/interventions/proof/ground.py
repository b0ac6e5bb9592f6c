"""Task data with a planted tie between two roles and gender, and the embeddings of their pictures.

Two roles, so that the rates of the published studies (one label against another, in two groups) apply as they are. In half of
the pictures nothing shows the role: there, all that a head can go by is the tie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipbias.data.combine import combine
from clipbias.data.imageset import ImageSet
from clipbias.embedding import EmbeddingCache, embed_images
from clipbias.models import load_model
from clipbias.probes import world as planted
from clipbias.tasks.data import TaskData
from clipbias.tasks.examples import caption_examples, question_examples

PAIR = ("artist", "construction worker")
"""The first role of the world that is tied to either gender; chosen by their place in the list, before anything was trained."""
GROUPS = ("woman", "man")
"""The gender that either of them is tied to."""
QUESTION = "what is the person's job?"
CAPTIONS = ("neutral1", "gendered1")
PLAIN = 0.5
_SEED = 50_000  # seeds of samples that other parts draw are smaller


@dataclass(frozen=True)
class Sizes:
    """Numbers of images: ``train``, ``val``, and ``test`` scenes per cell of role x context x style (ten images each)."""

    train: int = 2000
    val: int = 600
    test: int = 8


@lru_cache(maxsize=32)
def drawn(n: int, seed: int, rho: float | None, crossed: int = 0) -> ImageSet:
    """Return pictures of the two roles; the same arguments give the same object, so that pictures are drawn once.

    Parameters
    ----------
    n : int
        Images; ignored when crossed.
    seed : int
    rho : float or None
        Probability of the tied gender.
    crossed : int
        As in `clipbias.probes.world.World`.
    """
    # Roles are drawn evenly: enough scenes that n of them have one of the two with certainty for all practical purposes.
    roles = len(planted.definition()["roles"])
    scenes = n if crossed else int(n * roles / len(PAIR) * 1.2) + 200
    whole = planted.image_set(planted.World(n=scenes, seed=seed, rho=rho, plain=PLAIN, crossed=crossed))
    mine = np.flatnonzero(whole.table["role"].astype(str).isin(PAIR))
    if not crossed:
        mine = mine[:n]
    part = whole.take(mine)
    assert part.questions is not None
    asked = part.questions[part.questions["question"] == QUESTION]
    table = part.table.assign(
        role=part.table["role"].astype(str).astype(pd.CategoricalDtype(list(PAIR))),
        scene=[f"{seed}-{scene}" for scene in part.table["scene"]],
        captions=pd.Series(_captions(part.table), part.table.index),
    )
    facts = {"ties": dict(zip(PAIR, GROUPS, strict=True)), "world": whole.facts["world"]}
    return replace(
        part, table=table, questions=asked.assign(question_id=asked["image_id"] + "-q"), facts=facts
    )


def _captions(table: pd.DataFrame) -> list[list[str]]:
    texts = planted.captions(table)
    return texts[list(CAPTIONS)].to_numpy().tolist()


def task_of(task: str, parts: Mapping[str, ImageSet]) -> TaskData:
    """Return task data of one image set per split; answers stand ten times, as one true answer does in the world's files."""
    splits = {image: split for split, part in parts.items() for image in part.ids}
    asked = pd.concat(
        [part.questions for part in parts.values() if part.questions is not None], ignore_index=True
    )
    asked = asked.assign(answers=pd.Series([[answer] * 10 for answer in asked["answer"]], asked.index))
    sets = [replace(part, questions=None) for part in parts.values()]
    images = replace(combine(sets, name="pair"), questions=asked)
    facts = {**images.facts, "generator": generator(task)}
    images = replace(images, facts=facts)
    make = question_examples if task == "vqa" else caption_examples
    return TaskData(task, images, make(images, splits), "pair", images.licence, images.source)


def ground(task: str, *, seed: int, rho: float | None = 0.95, sizes: Sizes | None = None) -> TaskData:
    """Return the data of one seed: training and validation images with a planted tie, test images fully crossed.

    The test images are the same for all seeds, so that differences between systems are paired.

    Parameters
    ----------
    task : {"vqa", "captioning"}
    seed : int
    rho : float or None
        Probability of the tied gender in training and validation.
    sizes : Sizes, optional
    """
    sizes = sizes or Sizes()
    return task_of(
        task,
        {
            "train": drawn(sizes.train, _SEED + 10 * seed, rho),
            "val": drawn(sizes.val, _SEED + 10 * seed + 1, rho),
            "test": drawn(1, _SEED - 1, None, sizes.test),
        },
    )


def generator(task: str) -> Callable[[int, int], TaskData]:
    """Return what draws balanced synthetic images of the pair: in the style of the real ones, so that the artefact is all.

    The same images for every seed.
    """

    def make(n: int, seed: int) -> TaskData:
        del seed
        parts = {"train": drawn(n, _SEED - 2, None), "val": drawn(8, _SEED - 3, None)}
        return task_of(task, {**parts, "test": drawn(8, _SEED - 4, None)})

    return make


class Embeddings:
    """Embeddings before adaptation of the images of sets; computed once and kept.

    Parameters
    ----------
    model : str
        Spec of a CLIP.
    folder : path, optional
        Where they are kept by sample, so that pictures need not even be drawn again. Default: only the user's cache.
    """

    def __init__(self, model: str, folder: Path | None = None) -> None:
        self.model, self.folder = model, folder
        self._clip: Any = None
        self._known: dict[int, tuple[ImageSet, np.ndarray]] = {}

    def of(self, images: ImageSet) -> np.ndarray:
        """Return the L2-normalised embeddings of a set, float32 (n, d)."""
        found = self._known.get(id(images))
        if found is None or found[0] is not images:
            # Samples have a seed, with which their image ids begin.
            samples = np.array([name.partition("-")[0] for name in images.ids])
            parts = {sample: np.flatnonzero(samples == sample) for sample in dict.fromkeys(samples.tolist())}
            values = {sample: self._sample(images.take(rows)) for sample, rows in parts.items()}
            out = np.zeros((len(images), next(iter(values.values())).shape[1]), np.float32)
            for sample, rows in parts.items():
                out[rows] = values[sample]
            self._known[id(images)] = (images, out)
        return self._known[id(images)][1]

    def _sample(self, images: ImageSet) -> np.ndarray:
        if self._clip is None:
            self._clip = load_model(self.model)
        path = None
        # Artefacts are not in the ids, so that synthetic images go by their pixels.
        if self.folder is not None and not images.ids[0].startswith("synthetic"):
            facts = f"{self._clip.image_key}|{images.facts['world']}|{PLAIN}|{'|'.join(images.ids)}"
            path = self.folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.npy"
            if path.exists():
                return np.load(path)
        values = np.asarray(
            embed_images(self._clip, images, cache=EmbeddingCache(), bad="raise").values, np.float32
        )
        values = values / np.linalg.norm(values, axis=1, keepdims=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part.npy")
            np.save(partial, values)
            partial.replace(path)
        return values

    def rows(self, data: TaskData) -> Callable[[np.ndarray], np.ndarray]:
        """Return the encoder that interventions are given: image positions to embeddings."""
        values = self.of(data.images)
        return lambda rows: values[np.asarray(rows)]


def subset(data: TaskData, rows: Sequence[int] | np.ndarray) -> TaskData:
    """Return the data with only some training images (positions among all images)."""
    kept = set(np.asarray(data.images.ids, object)[np.asarray(rows)])
    examples = data.examples
    mine = (examples["split"] != "train") | examples["image_id"].isin(kept)
    return replace(data, examples=examples[mine].reset_index(drop=True))
