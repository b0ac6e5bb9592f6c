"""How well each CLIP ranks images by the cue that was planted: the table ``spuriosity_rank``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.tasks.data import TaskData
from clipbias.tasks.interventions.proof.ground import GROUPS, PAIR, Embeddings
from clipbias.tasks.interventions.spuriosity import rank_by_spuriosity
from clipbias.tasks.interventions.tables import table

TIES = dict(zip(PAIR, GROUPS, strict=True))


def ranking(data: TaskData, embeddings: Embeddings, *, draws: int = 500, seed: int = 0) -> pd.DataFrame:
    """Rank the test images of both roles by the gender directions of a CLIP, and set it against what the pictures show.

    The directions are fitted on the training images; the test images are crossed, so that half of each class shows the cue.

    Parameters
    ----------
    data : TaskData
    embeddings : Embeddings
    draws : int
        Bootstrap draws for the interval of the correlation, over scenes: twins stay together.
    seed : int
    """
    from clipbias.tasks.interventions.spuriosity import directions

    values, images = embeddings.of(data.images), data.images
    test = np.unique(data.image_rows(data.split("test")))
    levels = np.asarray(images.column("gender"), dtype=object).astype(str)
    fit = np.zeros(len(images), bool)
    fit[np.unique(data.image_rows(data.split("train")))] = True
    strength = directions(values, levels, list(GROUPS), fit)[test]
    part = images.take(test)
    # The cue that a role was tied to is its spurious one.
    found = rank_by_spuriosity(
        part, "role", strength, spurious={role: [place] for place, role in enumerate(PAIR)}
    )
    size = found.groupby("concept")["rank"].transform("size")
    place = (found["rank"].astype(float) + 1) / size
    planted = (part.table["gender"].astype(str) == part.table["role"].astype(str).map(TIES)).astype(float)
    value, low, high = _spearman(
        place.to_numpy(), planted.to_numpy(), part.table["scene"].to_numpy(), draws, seed
    )
    rows: list[dict[str, Any]] = [
        {"model": embeddings.model, "cues": "attribute", "concept": concept, "image_id": image, "rank": rank, "spuriosity": score,
         "planted": shown, "spearman": value, "spearman_low": low, "spearman_high": high, "n": len(part)}
        for concept, image, rank, score, shown in zip(
            found["concept"], found["image_id"], place, found["spuriosity"], planted, strict=True)
    ]  # fmt: skip
    return table("spuriosity_rank", rows)


def _spearman(
    x: np.ndarray, y: np.ndarray, scenes: np.ndarray, draws: int, seed: int
) -> tuple[float, float, float]:
    names, home = np.unique(scenes.astype(str), return_inverse=True)
    members = [np.flatnonzero(home == k) for k in range(len(names))]
    rng = np.random.default_rng([seed, 91])
    drawn = []
    for _ in range(draws):
        rows = np.concatenate([members[k] for k in rng.integers(0, len(names), len(names))])
        drawn.append(stats.spearmanr(x[rows], y[rows]).statistic)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(stats.spearmanr(x, y).statistic), float(low), float(high)
