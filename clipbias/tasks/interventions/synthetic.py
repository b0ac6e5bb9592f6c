"""From fake to real: train on balanced synthetic images first, then on the real ones alone.

Qraitem, Saenko and Plummer, ECCV 2024. Two one-stage baselines use as many synthetic images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from clipbias.errors import DataError
from clipbias.tasks.interventions.association import apportion

if TYPE_CHECKING:
    from clipbias.data.imageset import ImageSet
    from clipbias.tasks.data import TaskData

How = Literal["two_stage", "uniform", "additive"]


def synthetic_counts(real: Sequence[int] | np.ndarray, how: str = "two_stage") -> np.ndarray:
    """Return how many synthetic images each group gets; all three ways use as many together.

    Parameters
    ----------
    real : array of int (G,)
        Real images per group.
    how : {"two_stage", "uniform", "additive"}
        ``uniform``: what each group lacks to be as large as the largest. ``additive`` and ``two_stage``: the same total,
        spread evenly.
    """
    counts = np.asarray(real, int)
    if how not in ("two_stage", "uniform", "additive"):
        raise DataError(f"synthetic images are used 'two_stage', 'uniform' or 'additive', not {how!r}.")
    lacking = counts.max() - counts
    return lacking if how == "uniform" else apportion(int(lacking.sum()), np.ones(len(counts)))


def doubled_groups(cells: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return one code per (cell, real or synthetic): the groups of one-stage training, int (n,)."""
    return np.asarray(cells, np.int64) * 2 + np.asarray(synthetic, bool)


def draw_counts(cells: np.ndarray, counts: dict[int, int], *, seed: int = 0) -> np.ndarray:
    """Return positions with so many items of each cell; where there are too few they repeat, as evenly as can be.

    Raises
    ------
    DataError
        A cell that is asked for has no items.
    """
    rng = np.random.default_rng([seed, 81])
    chosen = [np.zeros(0, np.int64)]
    for cell, size in sorted(counts.items()):
        if not size:
            continue
        members = rng.permutation(np.flatnonzero(cells == cell))
        if len(members) == 0:
            raise DataError("there is no synthetic image of one of the groups: this cell is missing.")
        repeats, rest = divmod(size, len(members))
        chosen += [np.repeat(members, repeats), members[:rest]]
    return np.concatenate(chosen)


def real_fake_accuracy(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> float:
    """Return how well a linear probe tells synthetic from real embeddings, balanced accuracy by 5-fold cross-validation.

    In [0, 1]; 0.5 is not at all. One-stage training suffers where it is high and the groups have different shares of both.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.vstack([real, fake])
    y = np.repeat([0, 1], [len(real), len(fake)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(model, x, y, cv=folds, scoring="balanced_accuracy").mean())


def with_artefact(images: ImageSet, strength: float, *, seed: int = 0) -> ImageSet:
    """Return the images with one fixed pattern laid over all of them, as a generator leaves its mark.

    Parameters
    ----------
    images : ImageSet
    strength : float
        Standard deviation of the pattern in grey levels of 255; 0 leaves the images as they are.
    seed : int
        Of the pattern; it is scaled to each image.
    """
    if strength == 0:
        return images
    coarse = np.random.default_rng([seed, 82]).standard_normal((16, 16, 3))
    read = images.read
    return replace(images, read=lambda rows: [_marked(data, coarse, strength) for data in read(rows)])


def _marked(data: bytes, coarse: np.ndarray, strength: float) -> bytes:
    shown = Image.open(io.BytesIO(data)).convert("RGB")
    channels = [
        np.asarray(
            Image.fromarray(coarse[..., c].astype(np.float32)).resize(shown.size, Image.Resampling.NEAREST)
        )
        for c in range(3)
    ]
    pixels = np.asarray(shown, float) + strength * np.stack(channels, -1)
    file = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def synthetic_data(
    data: TaskData, *, folder: str = "", n: int = 2000, artefact: float = 0.0, seed: int = 0
) -> TaskData:
    """Return synthetic training data for a task.

    Parameters
    ----------
    data : TaskData
        The real data.
    folder : path
        Generated images: ``images`` (a folder), ``labels.csv`` (``image_id`` and the attributes) and ``captions.json`` (COCO)
        or ``questions.json`` and ``annotations.json`` (VQAv2). Empty: drawn from the generator of the embedded world, in a
        style that the real data do not have, with nothing planted; real data must then be the world's, or bring a function
        ``generator(n, seed) -> TaskData`` in the facts of their images.
    n : int
        Scenes that are drawn; a folder is taken whole.
    artefact : float
        See `with_artefact`.
    seed : int

    Raises
    ------
    DataError
        The real data are not the world's and no folder is given, or a file is missing.
    """
    made = _from_folder(data, Path(folder), seed) if folder else _from_world(data, n, seed)
    images = made.images
    table = images.table.assign(image_id="synthetic-" + images.table["image_id"].astype(str))
    for column in ("scene", "twin"):
        if column in table:
            text = table[column].astype(str)
            table[column] = np.where(text == "", "", "synthetic-" + text)
    images = with_artefact(replace(images, table=table, questions=None), artefact, seed=seed)
    examples = made.examples.assign(
        image_id="synthetic-" + made.examples["image_id"].astype(str),
        example_id="synthetic-" + made.examples["example_id"].astype(str),
    )
    return replace(made, images=images, examples=examples, name=f"synthetic for {data.name}")


def _from_folder(data: TaskData, folder: Path, seed: int) -> TaskData:
    from clipbias.tasks.files import from_files

    names = ("captions",) if data.task == "captioning" else ("questions", "annotations")
    files = {name: folder / f"{name}.json" for name in names}
    for path in [*files.values(), folder / "images", folder / "labels.csv"]:
        if not path.exists():
            raise DataError(f"synthetic images need {path}, which is not there.")
    # from_files keeps a part for validation and test; they stay small, as only training examples are used.
    return from_files(
        data.task, **{name: str(path) for name, path in files.items()}, images=folder / "images",  # type: ignore[arg-type]
        labels=folder / "labels.csv", val_share=0.02, test_share=0.02, seed=seed,
    )  # fmt: skip


def _from_world(data: TaskData, n: int, seed: int) -> TaskData:
    from clipbias.probes import art
    from clipbias.tasks.world import world_data

    generator: Any = data.images.facts.get("generator")
    if generator is not None:
        return generator(n, seed)
    world: Any = data.images.facts.get("world")
    if not isinstance(world, dict) or "train" not in world:
        raise DataError(
            f"{data.name!r} is not drawn from the embedded world, so there is no generator for it: name a folder of generated "
            "images (folder=PATH)."
        )
    train = world["train"]
    kinds: Any = data.images.facts.get("caption_kinds", ("neutral", "gendered"))
    others = [style for style in art.STYLES if style not in train["styles"]]
    return world_data(
        data.task, n_train=n, n_val=8, crossed=1, seed=500_000 + seed, styles=others[:1], caption_kinds=kinds,
        size=train["size"], attribute=train["attribute"], target=train["target"],
    )  # fmt: skip


def combined(real: TaskData, synthetic: TaskData) -> TaskData:
    """Return real data with synthetic training examples after the real ones."""
    from clipbias.data import combine

    images = combine([replace(real.images, questions=None), synthetic.images], name=real.images.name)
    examples = pd.concat([real.examples, synthetic.split("train")], ignore_index=True)
    return replace(real, images=replace(images, facts=real.images.facts), examples=examples)
