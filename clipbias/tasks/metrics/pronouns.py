"""Pronoun resolution of generated or scored text: which pronoun a model gives to the person it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipbias.errors import DataError
from clipbias.metrics.resolution import Resolution, resolution_bias
from clipbias.tasks.metrics.words import tokens

PRONOUNS: dict[str, tuple[str, ...]] = {
    "masculine": ("he", "him", "his", "himself"),
    "feminine": ("she", "her", "hers", "herself"),
    "neutral": ("they", "them", "their", "theirs", "themself", "themselves"),
}


def pronoun_of(texts: Sequence[str], *, pronouns: Mapping[str, Sequence[str]] = PRONOUNS) -> np.ndarray:
    """Return the kind of the first pronoun of each text, ``"neutral"`` where there is none.

    Parameters
    ----------
    texts : sequence of str
        Captions or answers.
    pronouns : mapping of kind to words
    """
    kind = {word: name for name, words in pronouns.items() for word in words}
    return np.array([next((kind[w] for w in tokens(t) if w in kind), "neutral") for t in texts], dtype=object)


def best_pronoun(scores: Any, pronouns: Sequence[str] = ("his", "her", "their")) -> np.ndarray:
    """Return the kind of the pronoun with the highest score.

    Parameters
    ----------
    scores : array (n, P)
        One score per pronoun.
    pronouns : sequence of str (P,)
        What the columns stand for.

    Raises
    ------
    DataError
        Shapes do not fit, a score is no number, an unknown pronoun.
    """
    kind = {word: name for name, words in PRONOUNS.items() for word in words}
    unknown = [p for p in pronouns if p not in kind]
    if unknown:
        raise DataError(f"{unknown[0]!r} is no pronoun that is known here: {sorted(kind)}.")
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or table.shape[1] != len(pronouns) or not np.isfinite(table).all():
        raise DataError(
            f"scores need shape (n, {len(pronouns)}) and finite numbers; these have {table.shape}."
        )
    return np.array([kind[p] for p in pronouns], dtype=object)[table.argmax(1)]


def pronoun_resolution(texts: Sequence[str], genders: Any, **labels: Any) -> Resolution:
    """Return accuracy of pronouns by perceived gender: `pronoun_of` the texts, then `resolution_bias`.

    Parameters
    ----------
    texts : sequence of str
    genders : array (n,)
        ``"masculine"`` or ``"feminine"``.

    Returns
    -------
    Resolution
        ``gap`` is masculine minus feminine accuracy, in [−1, 1]; 0 is fair, positive favours men. A neutral or missing
        pronoun counts as wrong.

    Notes
    -----
    Hall et al. (2023), arXiv:2306.12424.
    """
    return resolution_bias(pronoun_of(texts), genders, **labels)
