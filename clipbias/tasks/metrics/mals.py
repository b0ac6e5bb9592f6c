"""Bias amplification after Men Also Like Shopping (Zhao et al. 2017): shares of attributes within labels.

Undirected: it cannot tell whether the attribute or the label was predicted with more bias. `amplification`
can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError
from clipbias.tasks.metrics.pairs import (
    Names,
    Train,
    as_weights,
    binary,
    columns_of,
    count_pairs,
    reference_data,
)


@dataclass(frozen=True, eq=False)
class MalsAmplification:
    """Bias amplification after Men Also Like Shopping.

    Attributes
    ----------
    value : float
        In [−1, 1]; 0 is as biased as the reference, positive amplifies.
    pairs : pandas.DataFrame
        ``attribute, label, reference, predicted`` (shares of the attribute within the label), ``counted``
        (the reference share is above 1/|A|), ``value``.
    violations : int
        Labels in which a share is off by more than ``margin``.
    margin : float
    never_predicted : list
        Labels without a prediction: they count as 0.
    """

    value: float
    pairs: pd.DataFrame
    violations: int
    margin: float
    never_predicted: list[Any] = field(default_factory=list)


def bias_amplification_mals(
    A: Any, T: Any, A_pred: Any, T_pred: Any, *, train: Train = None, margin: float = 0.05,
    names: Names = (None, None),
) -> MalsAmplification:  # fmt: skip
    """Return bias amplification after Men Also Like Shopping.

    b(t, a) is the share of attribute a among the (image, attribute) pairs of label t. Where the reference
    share is above 1/|A|, the predicted share minus it counts; summed over attributes, averaged over all
    labels.

    Parameters
    ----------
    A, T, A_pred, T_pred
        As for `directional_bias_amplification`; both predictions are needed.
    train : tuple (A, T), optional
        Where the reference shares come from. Default: the truth of this data.
    margin : float
        How far a share may be off before the label is a violation.

    Notes
    -----
    Zhao et al. (2017), arXiv:1707.09457. A reference share of exactly 1/|A| contributes 0, and so does a
    label that is never predicted; both stay in the average.
    """
    a = binary("A", A)
    t = binary("T", T, len(a))
    said_a, said_t = (
        binary("A_pred", A_pred, len(a), a.shape[1]),
        binary("T_pred", T_pred, len(a), t.shape[1]),
    )
    reference = count_pairs(*reference_data(train, a, t)).both[0].T
    predicted = count_pairs(said_a, said_t).both[0].T
    return mals_from_shares(
        _share(reference), _share(predicted), margin=margin,
        names=(columns_of(A, names[0]), columns_of(T, names[1])),
    )  # fmt: skip


def mals_draws(A: Any, T: Any, A_pred: Any, T_pred: Any, weights: Any, *, train: Train = None) -> np.ndarray:
    """Return BiasAmp (MALS) of every draw, (draws,); without ``train`` the reference is drawn too."""
    a, t = binary("A", A), binary("T", T)
    counts = as_weights(weights, len(a))
    said_a, said_t = (
        binary("A_pred", A_pred, len(a), a.shape[1]),
        binary("T_pred", T_pred, len(a), t.shape[1]),
    )
    reference = count_pairs(a, t, counts) if train is None else count_pairs(*reference_data(train, a, t))
    predicted = count_pairs(said_a, said_t, counts)
    return _mals(_share(reference.both.swapaxes(1, 2)), _share(predicted.both.swapaxes(1, 2)))[0]


def mals_from_shares(
    reference: Any, predicted: Any, *, margin: float = 0.05, names: Names = (None, None)
) -> MalsAmplification:
    """Return BiasAmp (MALS) of shares that are there already, as published tables have them.

    Parameters
    ----------
    reference, predicted : array (|T|, |A|)
        Share of each attribute within each label; rows sum to 1, or are NaN where a label never occurs.
    margin : float
    names : tuple, optional
        Names of the attributes and of the labels.
    """
    ours, theirs = np.asarray(reference, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if ours.ndim != 2 or ours.shape != theirs.shape:
        raise DataError(f"shares have shapes {ours.shape} and {theirs.shape}; needed: (labels, attributes).")
    attributes = list(names[0]) if names[0] is not None else list(range(ours.shape[1]))
    labels = list(names[1]) if names[1] is not None else list(range(ours.shape[0]))
    value, each = _mals(ours[None], theirs[None])
    off = np.abs(theirs - ours) > margin
    pairs = pd.DataFrame(
        {
            "attribute": attributes * len(labels),
            "label": [label for label in labels for _ in attributes],
            "reference": ours.ravel(), "predicted": theirs.ravel(),
            "counted": (ours > 1 / ours.shape[1]).ravel(), "value": each[0].ravel(),
        }
    )  # fmt: skip
    gone = np.asarray(np.isnan(theirs).all(axis=1))
    never = [label for i, label in enumerate(labels) if gone[i]]
    return MalsAmplification(float(value[0]), pairs, int(off.any(1).sum()), margin, never)


def _mals(reference: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (draws,) and what each pair adds, (draws, |T|, |A|)."""
    each = np.where(reference > 1 / reference.shape[2], predicted - reference, 0.0)
    return np.nansum(each, axis=(1, 2)) / reference.shape[1], each


def _share(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(-1, keepdims=True)
