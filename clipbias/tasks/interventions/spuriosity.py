"""Spuriosity rankings: order the images of a class by how strongly its spurious cues show, and tune on the lowest.

Moayeri, Wang, Singla and Feizi, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError

if TYPE_CHECKING:
    from clipbias.data.imageset import ImageSet

Spurious = Mapping[Any, Sequence[int]]


def spuriosity(features: np.ndarray, classes: np.ndarray, spurious: Spurious | None = None) -> np.ndarray:
    """Return how strongly the spurious cues of its class show in each image.

    Parameters
    ----------
    features : numpy.ndarray (n, F)
        Strength of each cue.
    classes : numpy.ndarray (n,)
    spurious : mapping of class to columns, optional
        Which cues are spurious for a class. Default: all, for every class.

    Returns
    -------
    numpy.ndarray (n,)
        Mean over the cues of the z-score within the class; higher shows more. NaN in classes without a cue. A positive affine
        change of a feature changes nothing.
    """
    features, classes = np.asarray(features, float), np.asarray(classes)
    if features.ndim != 2 or len(features) != len(classes):
        raise DataError(
            f"features are (n, F), one row per class label, not {features.shape} and {classes.shape}."
        )
    out = np.full(len(classes), np.nan)
    for name in np.unique(classes):
        mine = np.flatnonzero(classes == name)
        cues = (
            np.arange(features.shape[1]) if spurious is None else np.array(spurious.get(name, ()), np.int64)
        )
        x = features[np.ix_(mine, cues)]
        if x.shape[1]:
            spread = x.std(0)
            # A cue that is the same in the whole class orders nothing.
            out[mine] = np.divide(x - x.mean(0), spread, out=np.zeros_like(x), where=spread > 1e-12).mean(1)
    return out


def associated(features: np.ndarray, classes: np.ndarray, *, least: float = 0.0) -> dict[Any, list[int]]:
    """Return the cues that are stronger in a class than over all, at most strength first.

    Parameters
    ----------
    features : numpy.ndarray (n, F)
    classes : numpy.ndarray (n,)
    least : float
        In standard deviations of the cue over all images.
    """
    x = np.asarray(features, float)
    spread = x.std(0)
    z = np.divide(x - x.mean(0), spread, out=np.zeros_like(x), where=spread > 1e-12)
    found = {}
    for name in np.unique(classes):
        mean = z[np.asarray(classes) == name].mean(0)
        found[name] = [int(cue) for cue in np.argsort(-mean, kind="stable") if mean[cue] > least]
    return found


def important(
    activations: np.ndarray, weights: np.ndarray, right: np.ndarray, classes: np.ndarray, *, top: int = 5
) -> dict[int, list[int]]:
    """Return the features that matter most to each class: mean activation of its rightly classified images times head weight.

    Parameters
    ----------
    activations : numpy.ndarray (n, F)
    weights : numpy.ndarray (K, F)
        Of the head.
    right : numpy.ndarray of bool (n,)
    classes : numpy.ndarray, int (n,)
    top : int

    Returns
    -------
    dict
        Class to features; a person then says which of them are spurious.
    """
    found = {}
    for name in np.unique(classes):
        mine = (np.asarray(classes) == name) & np.asarray(right, bool)
        if mine.any():
            found[int(name)] = np.argsort(-activations[mine].mean(0) * weights[int(name)], kind="stable")[
                :top
            ].tolist()
    return found


@dataclass(frozen=True)
class Gap:
    """How much better a model is where the cues show.

    Attributes
    ----------
    value : float
        Mean over classes of accuracy on the highest k minus accuracy on the lowest k, in [-1, 1]; 0 is fair, negative where
        the cues mislead.
    by_class : dict
    high, low : float
        Mean accuracies.
    """

    value: float
    by_class: dict[Any, float]
    high: float
    low: float


def spurious_gap(right: np.ndarray, scores: np.ndarray, classes: np.ndarray, *, k: int = 10) -> Gap:
    """Return the gap in accuracy between the highest and lowest spuriosity.

    Parameters
    ----------
    right : array (n,)
        Rights and wrongs, or any quality.
    scores : array (n,)
        From `spuriosity`; images without a score take no part.
    classes : array (n,)
    k : int
        Images at each end; at most half of the class.

    Raises
    ------
    DataError
        No class has two images with a score.
    """
    high, low, by_class = [], [], {}
    for name, rows in _ranked(scores, classes).items():
        size = min(k, len(rows) // 2)
        if size:
            high.append(float(np.asarray(right, float)[rows[-size:]].mean()))
            low.append(float(np.asarray(right, float)[rows[:size]].mean()))
            by_class[name] = high[-1] - low[-1]
    if not by_class:
        raise DataError("no class has two images with a spuriosity, so there is no gap to measure.")
    return Gap(float(np.mean(high) - np.mean(low)), by_class, float(np.mean(high)), float(np.mean(low)))


def _ranked(scores: np.ndarray, classes: np.ndarray) -> dict[Any, np.ndarray]:
    """Return the positions of each class, lowest spuriosity first; ties in order."""
    scores, classes = np.asarray(scores, float), np.asarray(classes)
    found = {}
    for name in np.unique(classes):
        mine = np.flatnonzero((classes == name) & np.isfinite(scores))
        found[name] = mine[np.argsort(scores[mine], kind="stable")]
    return found


def lowest(scores: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Return the k images of lowest spuriosity of each class, at most half of it, ascending: int."""
    chosen = [
        rows[: max(1, min(k, len(rows) // 2))] for rows in _ranked(scores, classes).values() if len(rows)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def effective_robustness(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return each model's accuracy without cues above what a line through all models expects from that with cues.

    Parameters
    ----------
    high, low : array (m,)
        Accuracies of models on high and low spuriosity; three models or more.

    Returns
    -------
    numpy.ndarray (m,)
        Sum 0; higher is better.
    """
    high, low = np.asarray(high, float), np.asarray(low, float)
    if len(high) < 3:
        raise DataError("a line needs three models or more.")
    slope, intercept = np.polyfit(high, low, 1)
    return low - (slope * high + intercept)


def rank_by_spuriosity(
    images: ImageSet,
    concept: str,
    encoder: Any,
    *,
    cues: Sequence[str] = (),
    attribute: str = "",
    spurious: Spurious | None = None,
    least: float = 0.0,
    cache: Any = None,
) -> pd.DataFrame:
    """Rank the images of each class by the strength of its spurious cues.

    Parameters
    ----------
    images : ImageSet
    concept : str
        Column with the classes.
    encoder : Clip, callable or array
        A CLIP embeds images and cue texts; a callable gives the embeddings (n, d) of image positions, an array holds them, or
        (with ``attribute`` and ``cues`` empty) the strengths of annotated features.
    cues : sequence of str
        Texts of cues (``"a photo of a man"``, ``"a kitchen"``): their strength is the similarity. Needs a CLIP.
    attribute : str
        Instead: cues are the directions between the levels of this column in the embeddings.
    spurious : mapping of class to positions of cues, optional
        Default: the cues that are stronger in the class than over all images (`associated`).
    least : float
        How much stronger, in standard deviations.
    cache : EmbeddingCache, optional

    Returns
    -------
    pandas.DataFrame
        ``image_id, concept, spuriosity, rank`` (0 is the lowest of its class) and ``cues``, their names. Images whose concept
        is unknown, or has no cue, have no spuriosity.

    Raises
    ------
    DataError
        No such column, or cue texts without a CLIP.
    """
    classes = np.asarray(images.column(concept), dtype=object).astype(str)
    features, names = _strengths(images, encoder, cues, attribute, cache)
    use = classes != UNKNOWN
    found = spurious if spurious is not None else associated(features[use], classes[use], least=least)
    scores = np.full(len(images), np.nan)
    scores[use] = spuriosity(features[use], classes[use], found)
    rank = np.full(len(images), -1)
    for rows in _ranked(scores, classes).values():
        rank[rows] = np.arange(len(rows))
    used = {name: "; ".join(names[cue] for cue in found.get(name, ())) for name in np.unique(classes)}
    return pd.DataFrame(
        {
            "image_id": images.ids,
            "concept": classes,
            "spuriosity": scores,
            "rank": pd.Series(rank, dtype="Int64").mask(rank < 0),
            "cues": [used[name] for name in classes],
        }
    )


def _strengths(
    images: ImageSet, encoder: Any, cues: Sequence[str], attribute: str, cache: Any
) -> tuple[np.ndarray, list[str]]:
    if hasattr(encoder, "encode_images"):
        from clipbias.embedding import embed_images, embed_texts

        embeddings = np.asarray(embed_images(encoder, images, cache=cache, bad="raise").values)
        if cues:
            return embeddings @ np.asarray(embed_texts(encoder, list(cues), cache=cache)).T, list(cues)
    elif cues:
        raise DataError("cue texts need a CLIP as the encoder: embeddings alone have no texts.")
    else:
        embeddings = np.asarray(encoder(np.arange(len(images))) if callable(encoder) else encoder, float)
        if len(embeddings) != len(images):
            raise DataError(f"{len(embeddings)} embeddings came with {len(images)} images.")
        if not attribute:
            return embeddings, [f"feature {number}" for number in range(embeddings.shape[1])]
    if not attribute:
        raise DataError(
            "say what the cues are: texts (cues=), or a column whose levels they are (attribute=)."
        )
    levels = np.asarray(images.column(attribute), dtype=object).astype(str)
    known = [
        str(level)
        for level in images.column(attribute).categories
        if level != UNKNOWN and level in set(levels)
    ]
    return directions(embeddings, levels, known), known


def directions(
    embeddings: np.ndarray, levels: np.ndarray, known: Sequence[str], fit: np.ndarray | None = None
) -> np.ndarray:
    """Return how far each image lies towards each level: a linear probe of the level on the embeddings, float (n, levels).

    Parameters
    ----------
    embeddings : numpy.ndarray (n, d)
    levels : numpy.ndarray (n,)
    known : sequence of str
    fit : numpy.ndarray of bool (n,), optional
        Images that the probe is fitted on, of those with a known level.
    """
    from clipbias.tasks.interventions.probe import fit_probe

    rows = np.isin(levels, list(known)) & (np.ones(len(levels), bool) if fit is None else fit)
    if len(np.unique(levels[rows])) < 2:
        raise DataError("cues between levels need images of two levels or more.")
    probe = fit_probe(embeddings[rows], levels[rows], strength=0.1, l1=False)
    scores = probe.scores(embeddings)
    return np.column_stack([scores[:, list(probe.classes).index(level)] for level in known])
