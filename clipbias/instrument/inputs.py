"""Inputs that only some measurements have: what a view is made of, pronouns, and groups of images as targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN
from clipbias.metrics.inference import Inputs
from clipbias.metrics.inputs import Association, Classification, Labels, Pronouns
from clipbias.metrics.record import get
from clipbias.metrics.targets import Targets


def composition(shared: dict[str, Any], truth: np.ndarray | None) -> dict[str, Labels]:
    """Return the groups against what the images show; a view in which both go together has another reading."""
    return {} if truth is None else {"labels": Labels(truth, **shared)}


def pronouns(
    shared: dict[str, Any], truth: np.ndarray | None, names: list[str], similarity: np.ndarray
) -> dict[str, Pronouns]:
    """Return which level's text is closest to each image, if there is a text for every level of the attribute.

    Parameters
    ----------
    shared : dict
        ``groups`` (a Categorical) and what else inputs share.
    truth : ndarray (n,) or None
        Role of each image.
    names : list of str
        What each row of ``similarity`` (T, n) says: a level, or something neutral.
    """
    levels = [str(level) for level in shared["groups"].categories if str(level) != UNKNOWN]
    if not levels or not set(levels) <= set(names):
        return {}
    return {"pronouns": Pronouns(np.array(names)[similarity.argmax(0)], occupations=truth, **shared)}


def group_targets(
    values: np.ndarray,
    labels: pd.Series,
    blocks: np.ndarray | None,
    tied: tuple[np.ndarray, np.ndarray],
    levels: tuple[str, str],
) -> dict[str, Targets]:
    """Return the images of two groups as targets and the texts tied to each as attributes.

    Where every cluster holds as many images of one group as of the other they are pairs: twins that differ in the
    attribute (and where more than one pair is in a cluster, in what they have in this order).

    Parameters
    ----------
    values : ndarray (n, d)
    labels : Series (n,)
    blocks : ndarray (n,) or None
        Cluster of each image.
    tied : tuple of ndarray
        Text embeddings tied to the first and to the second level.
    levels : tuple of str
    """
    text = labels.astype(str).to_numpy()
    rows = [np.flatnonzero(text == level) for level in levels]
    if min(map(len, rows)) < 2 or min(map(len, tied)) < 2:
        return {}
    paired = False
    if blocks is not None:
        rows = [own[np.argsort(blocks[own], kind="stable")] for own in rows]
        first, second = (blocks[own] for own in rows)
        paired = len(first) == len(second) and bool((first == second).all())
    x, y = (values[own] for own in rows)
    probe = f"{levels[0]} / {levels[1]}"
    return {"targets": Targets(A=tied[0], B=tied[1], X=x, Y=y, probe=probe, paired=paired)}


def single_targets(
    values: np.ndarray, labels: pd.Series, texts: np.ndarray, words: list[str]
) -> dict[str, Association]:
    """Return every text as a single target, with the images of two groups as attributes.

    Absent unless the attribute has exactly two known levels here, each with two images or more; A is the first level in
    the order of the alphabet.
    """
    text = labels.astype(str).to_numpy()
    levels = sorted(set(text) - {UNKNOWN})
    if len(levels) != 2:
        return {}
    first, second = (values[text == level] for level in levels)
    if min(len(first), len(second)) < 2:
        return {}
    return {"words": Association(A=first, B=second, W=texts, words=words)}


def input_of(metric: str) -> str:
    """Return which input a metric reads: the kind it needs, with harm (more classes) and single targets apart."""
    if metric == "sc_weat":
        return "words"
    return "harm" if metric.startswith("harm") else get(metric).needs


def usable(metric: str, given: Inputs | None) -> Inputs | None:
    """Return the input if the metric can be taken of it: recalls and odds need the true class."""
    needs_truth = isinstance(given, Classification) and get(metric).within_class
    return None if needs_truth and given.y_true is None else given  # type: ignore[union-attr]
