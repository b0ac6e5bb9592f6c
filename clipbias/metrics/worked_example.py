"""A small made-up example on which every choice of a protocol can be seen at work.

3,000 images of three groups of unequal size and 12 prompts (4 concepts in 3 wordings) in 16 dimensions. The
rarest group (4 images) is never among the first. Drawn from a fixed seed; it says nothing about any model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from clipbias.metrics import inference
from clipbias.metrics.inputs import Ranking
from clipbias.metrics.protocol import Protocol, balanced
from clipbias.metrics.resolution import resolution_bias

GROUPS = {"majority": 2096, "minority": 900, "rare": 4}
CONCEPTS, WORDINGS, DIMENSIONS = 4, 3, 16
DEFAULT_METRIC = "max_skew"
# Choices that leave MaxSkew alone, and the number that shows them; no number where none of them changes.
SHOWN_BY = {"bias_at_k": "bias_at_k", "decimals": "resolution gap", "min_group": "", "balance_seed": ""}


@dataclass(frozen=True, eq=False)
class Example:
    """Image embeddings that keep their lengths, unit prompts, groups and concepts."""

    images: np.ndarray
    prompts: np.ndarray
    groups: pd.Categorical


@lru_cache(maxsize=1)
def example() -> Example:
    """Return the example."""
    rng = np.random.default_rng(2022)
    labels = np.repeat(list(GROUPS), list(GROUPS.values()))
    images = rng.normal(size=(len(labels), DIMENSIONS))
    images[:, 0] += np.select([labels == "minority", labels == "rare"], [0.9, -9.0], 0.0)
    images *= np.where(labels == "minority", 1.25, 1.0)[:, None]  # the longer embeddings
    concepts = rng.normal(size=(CONCEPTS, 1, DIMENSIONS))
    prompts = concepts + 0.8 * rng.normal(size=(CONCEPTS, WORDINGS, DIMENSIONS))
    prompts[..., 0] = np.abs(prompts[..., 0]) + 0.5
    prompts /= np.linalg.norm(prompts, axis=-1, keepdims=True)
    return Example(images, prompts, pd.Categorical(labels, list(GROUPS)))


def rankings(protocol: Protocol) -> Ranking:
    """Return the rankings of the example under a protocol. Scores have two decimals, so that many tie."""
    e = example()
    rows = np.arange(len(e.groups))
    if protocol.balance:  # of two levels: the majority, and all others
        labels = np.where(np.asarray(e.groups) == "majority", "majority", "others")
        two = pd.Categorical(labels.astype(object))
        rows = balanced(two, [f"{row:04d}" for row in rows], seed=protocol.balance_seed)
    images = e.images[rows]
    if protocol.normalise == "both":
        images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = e.prompts.reshape(-1, DIMENSIONS)
    if protocol.prompts == "ensemble":
        texts = e.prompts.mean(1)
        texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    scores = np.round(texts @ images.T, 2)
    return Ranking(scores, [f"probe {i}" for i in range(len(texts))], e.groups[rows])


def value(metric: str, protocol: Protocol) -> float:
    """Return one number of the example under a protocol: the mean over probes.

    Parameters
    ----------
    metric : str
        A ranking metric, or ``"resolution gap"``: 83 of 120 and 70 of 120 pronouns right.
    protocol : Protocol

    Returns
    -------
    float
        Of a metric by group, the value of the minority.
    """
    if metric == "resolution gap":
        right = np.repeat([True, False, True, False], [83, 37, 70, 50])
        truth = np.repeat(["masculine", "feminine"], 120)
        return resolution_bias(np.where(right, truth, "neutral"), truth, decimals=protocol.decimals).gap
    bare = protocol.model_copy(update={"n_boot": 0, "n_perm": 0, "min_group": 1})
    given = rankings(bare)
    k = min(bare.k, given.n) if isinstance(bare.k, int) else bare.k
    rows = inference.evaluate(metric, given, protocol=bare.model_copy(update={"k": k}))
    groups = {str(row["group"]) for row in rows}
    group = "minority" if "minority" in groups and metric in ("skew", "bias_at_k") else None
    means = [r["value"] for r in rows if r["probe"] == "" and (group is None or r["group"] == group)]
    return float(means[0])


def effect(choice: str, study: object, base: Protocol) -> tuple[str, float, float] | None:
    """Return a metric and its value under the base protocol, and with one choice of a study instead.

    None for a choice that changes which rows there are, or which images, and no number by itself.
    """
    metric = SHOWN_BY.get(choice, DEFAULT_METRIC)
    if not metric:
        return None
    changed = base.model_copy(update={choice: study})
    return metric, value(metric, base), value(metric, changed)


__all__ = ["Example", "effect", "example", "rankings", "value"]
