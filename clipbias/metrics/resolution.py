"""Pronoun resolution: how often "her" and "his" go to the person they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError
from clipbias.metrics.classification import against_rest, spread
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RateTally

_HALL = "arXiv:2306.12424"
_EMPTY = ("empty group", "the group has no image of this occupation.")
_ONE = ("empty group", "fewer than two groups have an image of this occupation.")


@metric(
    "resolution_accuracy", needs="pronouns", per_group=True, within_class=True, range=(0.0, 1.0), ideal=1.0, unit="share",
    sign="never negative", direction="equal between groups is fair", worse="both", interval="share", reference=_HALL,
    null_center=lambda t: t.pooled("hit", "among"), undefined=_EMPTY,
)  # fmt: skip
def _resolution_accuracy(t: RateTally) -> np.ndarray:
    """Share of a group's images that are given the pronoun of their group."""
    return t.recall


@metric(
    "resolution_gap", needs="pronouns", per_group=True, within_class=True, range=(-1.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="positive: resolved right more often for the group than for the others",
    direction="closer to 0 is fairer", worse="both", interval="t", reference=_HALL, undefined=_ONE,
)  # fmt: skip
def _resolution_gap(t: RateTally) -> np.ndarray:
    """Accuracy of a group's pronouns minus that of all other groups'."""
    return against_rest(t, "hit", "among")


@metric(
    "resolution_disparity", spread=1.25, needs="pronouns", extreme_of=("resolution_accuracy", "min"), within_class=True, range=(0.0, 1.0),
    ideal=0.0, unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high",
    interval="excess", reference=_HALL, undefined=_ONE,
)  # fmt: skip
def _resolution_disparity(t: RateTally) -> np.ndarray:
    """Largest minus smallest accuracy of a group."""
    return spread(t.recall)


@metric(
    "resolution_neutral", needs="pronouns", per_group=True, within_class=True, range=(0.0, 1.0), ideal=0.0, unit="share",
    sign="never negative", direction="equal between groups is fair", worse="both", interval="share", reference=_HALL,
    null_center=lambda t: t.pooled("neutral", "among"), undefined=_EMPTY,
)  # fmt: skip
def _resolution_neutral(t: RateTally) -> np.ndarray:
    """Share of a group's images that are given the neutral pronoun, which counts as wrong."""
    return t.rate("neutral", "among")


@dataclass(frozen=True)
class Resolution(Shown):
    """Accuracy of pronoun resolution by perceived gender.

    Attributes
    ----------
    accuracy : float
        Mean of the two accuracies, in [0, 1]; says nothing about bias.
    gap : float
        Masculine minus feminine accuracy, in [−1, 1]; 0 is fair, **positive favours men**.
    masculine, feminine : float
    neutral : float
        Share of images that were given the neutral pronoun; these count as wrong.
    n : int
    """

    accuracy: float
    gap: float
    masculine: float
    feminine: float
    neutral: float
    n: int


def resolution_bias(
    predicted: Any,
    actual: Any,
    *,
    masculine: Any = "masculine",
    feminine: Any = "feminine",
    neutral: Any = "neutral",
    decimals: int | None = None,
) -> Resolution:
    """Accuracy gap of pronoun resolution.

    Parameters
    ----------
    predicted : array (n,)
        ``masculine``, ``feminine`` or ``neutral``, for example by the best of "his", "her" and "their".
    actual : array (n,)
        Perceived gender, ``masculine`` or ``feminine``.
    decimals : int, optional
        Round the two accuracies first, as the published code does (2); the gap is then off by up to one unit of
        the last decimal.

    Returns
    -------
    Resolution

    Raises
    ------
    DataError
        A label is not one of those named.
    StatusError
        No image of one gender.

    Notes
    -----
    Hall et al. (2023), arXiv:2306.12424.
    """
    guess, truth = np.asarray(predicted, dtype=object), np.asarray(actual, dtype=object)
    if guess.shape != truth.shape or guess.ndim != 1:
        raise DataError(
            f"predicted has shape {guess.shape} and actual {truth.shape}: one label each per image."
        )
    for name, labels, known in (
        ("predicted", guess, (masculine, feminine, neutral)), ("actual", truth, (masculine, feminine)),
    ):  # fmt: skip
        strange = [i for i, label in enumerate(labels.tolist()) if label not in known]
        if strange:
            raise DataError(
                f"{name} has {labels[strange[0]]!r} at position {strange[0]}; known are {list(known)}."
            )
    rates = []
    for gender in (masculine, feminine):
        own = truth == gender
        if not own.any():
            raise StatusError("empty group", f"no image is labelled {gender!r}; the gap needs both genders.")
        rate = float((guess[own] == gender).mean())
        rates.append(rate if decimals is None else round(rate, decimals))
    return Resolution(
        accuracy=sum(rates) / 2,
        gap=rates[0] - rates[1],
        masculine=rates[0],
        feminine=rates[1],
        neutral=float((guess == neutral).mean()),
        n=guess.size,
    )
