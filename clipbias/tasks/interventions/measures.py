"""What interventions are judged by, on arrays: association, effective sample size, rates at a matched threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipbias.errors import DataError, StatusError


def phi_coefficient(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the correlation of two binary variables.

    Parameters
    ----------
    first, second : array of bool (n,)
    weights : array of float (n,), optional

    Returns
    -------
    float
        In [-1, 1]; 0 is no association.

    Raises
    ------
    StatusError
        ``"constant"``: one of them has one value only.
    """
    x, y = np.asarray(first, bool).astype(float), np.asarray(second, bool).astype(float)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    mx, my = float(w @ x), float(w @ y)
    spread = mx * (1 - mx) * my * (1 - my)
    if spread <= 0:
        raise StatusError(
            "constant", "one of the two variables has one value only, so they have no association."
        )
    return float((w @ ((x - mx) * (y - my))) / math.sqrt(spread))


def effective_size(weights: np.ndarray) -> float:
    """Return Kish's effective sample size, ``(sum w)^2 / sum w^2``: n for equal weights, 1 if one has all."""
    w = np.asarray(weights, float)
    return float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0


def matched_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold at which as many are predicted positive (``score >= threshold``) as are positive.

    Raises
    ------
    StatusError
        ``"constant"``: no positives, or positives only.
    """
    scores, truth = np.asarray(scores, float), np.asarray(truth, bool)
    positive = int(truth.sum())
    if not 0 < positive < len(truth):
        raise StatusError("constant", "a threshold at the base rate needs positives and negatives.")
    return float(np.sort(scores)[::-1][positive - 1])


@dataclass(frozen=True)
class RateDifferences:
    """Differences of error rates between two groups at one threshold.

    Attributes
    ----------
    fpr, tpr : float
        First group minus second, in [-1, 1]; 0 is fair.
    auc : float
        Of all, in [0, 1]; higher is better.
    threshold : float
    """

    fpr: float
    tpr: float
    auc: float
    threshold: float


def rate_differences(
    scores: np.ndarray, truth: np.ndarray, first: np.ndarray, *, threshold: float | None = None
) -> RateDifferences:
    """Return how differently two groups are wrongly and rightly called positive.

    Parameters
    ----------
    scores : array of float (n,)
    truth : array of bool (n,)
    first : array of bool (n,)
        In the first group; the others are the second.
    threshold : float, optional
        Default: that of `matched_threshold` on these scores. Take it from validation data where there are some.

    Raises
    ------
    StatusError
        ``"empty group"``: a group has no positives or no negatives.
    """
    from sklearn.metrics import roc_auc_score

    scores, truth, first = np.asarray(scores, float), np.asarray(truth, bool), np.asarray(first, bool)
    cut = matched_threshold(scores, truth) if threshold is None else threshold
    rates = []
    for actual in (False, True):
        cells = [scores[(first == group) & (truth == actual)] for group in (True, False)]
        if any(len(cell) == 0 for cell in cells):
            raise StatusError(
                "empty group", "a group has no positives or no negatives, so it has no error rate."
            )
        rates.append(float((cells[0] >= cut).mean() - (cells[1] >= cut).mean()))
    return RateDifferences(rates[0], rates[1], float(roc_auc_score(truth, scores)), cut)


def worst_group(right: np.ndarray, cells: np.ndarray) -> float:
    """Return the lowest mean over the cells that occur, in [0, 1] for rights and wrongs; higher is better."""
    right, cells = np.asarray(right, float), np.asarray(cells)
    if len(right) == 0:
        raise StatusError("empty group", "there is nothing to average.")
    _, place = np.unique(cells, return_inverse=True)
    return float((np.bincount(place, right) / np.bincount(place)).min())


def check_apart(training: np.ndarray, selection: np.ndarray, what: str = "selection") -> None:
    """Check that no image is in both.

    Raises
    ------
    DataError
        Some are: what is chosen by data that were trained on is not chosen at all.
    """
    both = np.intersect1d(np.asarray(training), np.asarray(selection))
    if len(both):
        raise DataError(
            f"{len(both)} images of the {what} data are trained on too, the first: {both[0]!s}. Split by image, and keep "
            f"the {what} images out of training."
        )
