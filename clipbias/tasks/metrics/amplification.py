"""Bias amplification: whether an attribute is tied to labels more strongly in predictions than in the truth.

Directional amplification (Wang and Russakovsky 2021) keeps apart what the attribute does to the label (A→T)
and the label to the attribute (T→A). Multi-attribute amplification (Zhao, Andrews, Xiang 2023) does that for
sets of labels and lets no + cancel a −. The older, undirected definition is in `mals`.

Attributes A are (n, |A|), labels T are (n, |T|), zeros and ones; `indicators` makes them. An image may have
none or several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError, nearest
from clipbias.tasks.metrics.pairs import (
    Names,
    Pairs,
    Train,
    as_weights,
    binary,
    columns_of,
    count_pairs,
    reference_data,
)

Direction = Literal["A->T", "T->A"]


@dataclass(frozen=True, eq=False)
class DirectionalAmplification:
    """Directional bias amplification.

    Attributes
    ----------
    value : float
        Mean over pairs, in [−1, 1]; 0 is as biased as the truth, positive amplifies, lower is fairer.
    pairs : pandas.DataFrame
        One row per pair: ``attribute, label, sign`` (of their association in the reference data), ``n``
        (images that the condition holds for), ``truth``, ``predicted`` (the two shares), ``delta`` and
        ``value`` (sign × delta). NaN where the condition never holds; such pairs are left out of the mean.
    direction : str
    n_pairs : int
        Pairs in the mean.
    """

    value: float
    pairs: pd.DataFrame
    direction: Direction
    n_pairs: int


@dataclass(frozen=True, eq=False)
class MultiAmplification:
    """Multi-attribute bias amplification.

    Attributes
    ----------
    value : float
        Mean |Δ| over pairs, in [0, 1]; 0 is ideal.
    variance : float
        Variance of Δ over pairs.
    signed : float
        Mean of sign × Δ, as in the directional version; + and − cancel.
    pairs : pandas.DataFrame
        As for `DirectionalAmplification`; ``label`` is a tuple of labels.
    direction : str
    n_sets : int
    """

    value: float
    variance: float
    signed: float
    pairs: pd.DataFrame
    direction: Direction
    n_sets: int


def directional_bias_amplification(
    A: Any, T: Any, A_pred: Any, T_pred: Any, *, direction: Direction = "A->T", train: Train = None,
    names: Names = (None, None),
) -> DirectionalAmplification:  # fmt: skip
    """Return directional bias amplification: mean of sign × (predicted − true conditional share).

    A→T: P(t̂ | a) − P(t | a), how the attribute changes the predicted label. T→A: P(â | t) − P(a | t).

    Parameters
    ----------
    A, T : array (n, |A|), (n, |T|)
        True attributes and labels, zeros and ones, or a table whose columns are named.
    A_pred, T_pred : array, same shapes
        Predictions; the one that the direction does not use may be None.
    direction : {"A->T", "T->A"}
    train : tuple (A, T), optional
        Where the signs come from. Default: the truth of this very data.
    names : tuple, optional
        Names of the columns of A and of T.

    Raises
    ------
    DataError
        Shapes do not fit, or an entry is not 0 or 1.
    StatusError
        No image has the condition of any pair.

    Notes
    -----
    Wang and Russakovsky (2021), arXiv:2102.12594, as in their code: a pair that is independent in the
    reference data (sign 0) counts as 0 in the mean (the paper's indicator would make it −Δ); images with no
    attribute and no label are dropped before the signs are taken; conditionals divide by the number of images
    with the condition.
    """
    a, t, predicted = _read(A, T, A_pred, T_pred, direction)
    reference = count_pairs(*reference_data(train, a, t))
    truth, said, n = (x[0] for x in _conditionals(a, t, predicted, direction, None))
    pairs = _table(reference, truth, said, n, columns_of(A, names[0]), columns_of(T, names[1]))
    used = pairs["value"].notna()
    if not used.any():
        raise StatusError(
            "undefined", f"no image fulfils the condition of any pair ({direction}), so there is no share."
        )
    return DirectionalAmplification(float(pairs["value"].mean()), pairs, direction, int(used.sum()))


def directional_draws(
    A: Any, T: Any, A_pred: Any, T_pred: Any, weights: Any, *, direction: Direction = "A->T",
    train: Train = None,
) -> np.ndarray:  # fmt: skip
    """Return directional bias amplification of every bootstrap draw, (draws,).

    ``weights`` (draws, n) says how often each image counts. Without ``train`` the signs are taken in each
    draw anew, as the statistic is. NaN where a draw has no image with the condition of any pair.
    """
    a, t, predicted = _read(A, T, A_pred, T_pred, direction)
    counts = as_weights(weights, len(a))
    truth, said, _ = _conditionals(a, t, predicted, direction, counts)
    sign = count_pairs(a, t, counts).sign if train is None else count_pairs(*reference_data(train, a, t)).sign
    return _mean(sign * (said - truth))


def multi_attribute_bias_amplification(
    A: Any, T: Any, A_pred: Any, T_pred: Any, *, direction: Direction = "A->T", train: Train = None,
    more_than: int = 0, size: int = 1, names: Names = (None, None),
) -> MultiAmplification:  # fmt: skip
    """Return bias amplification over sets of labels that occur together.

    Parameters
    ----------
    A, T, A_pred, T_pred, direction, train, names
        As for `directional_bias_amplification`.
    more_than : int
        A set must be the full set of labels of more than this many training images, and part of the labels of
        more than this many images here.
    size : int
        Smallest number of labels in a set.

    Raises
    ------
    DataError
        As for `directional_bias_amplification`.
    StatusError
        No set of labels is frequent enough.

    Notes
    -----
    Zhao, Andrews, Xiang (2023), arXiv:2210.11924; there the direction is Multi G→M or M→G.
    """
    a, t, predicted = _read(A, T, A_pred, T_pred, direction)
    train_a, train_t = reference_data(train, a, t)
    sets = label_sets(train_t, t, more_than=more_than, size=size)
    if len(sets) == 0:
        raise StatusError(
            "undefined",
            f"no set of {size} or more labels occurs more than {more_than} times; lower more_than or size.",
        )
    held, train_held = holds(t, sets), holds(train_t, sets)
    target = holds(predicted, sets) if direction == "A->T" else predicted
    label_names = columns_of(T, names[1])
    named = [tuple(label_names[i] for i in np.flatnonzero(s)) for s in sets]
    truth, said, n = (x[0] for x in _conditionals(a, held, target, direction, None))
    reference = count_pairs(train_a, train_held)
    # Images without any label still count in P(a) P(m): the set columns know nothing of them.
    reference = Pairs(reference.both, reference.a, reference.t, count_pairs(train_a, train_t).n)
    pairs = _table(reference, truth, said, n, columns_of(A, names[0]), named)
    if not pairs["delta"].notna().any():
        raise StatusError("undefined", f"no image fulfils the condition of any pair ({direction}).")
    return MultiAmplification(
        value=float(pairs["delta"].abs().mean()),
        variance=float(pairs["delta"].var(ddof=0)),
        signed=float(pairs["value"].mean()),
        pairs=pairs,
        direction=direction,
        n_sets=len(sets),
    )


def multi_attribute_draws(
    A: Any, T: Any, A_pred: Any, T_pred: Any, weights: Any, *, direction: Direction = "A->T",
    train: Train = None, more_than: int = 0, size: int = 1,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return ``value``, ``variance`` and ``signed`` of every bootstrap draw, each (draws,).

    The sets of labels are those of the data, the same in every draw.
    """
    a, t, predicted = _read(A, T, A_pred, T_pred, direction)
    counts = as_weights(weights, len(a))
    train_a, train_t = reference_data(train, a, t)
    sets = label_sets(train_t, t, more_than=more_than, size=size)
    if len(sets) == 0:
        return {name: np.full(len(counts), np.nan) for name in ("value", "variance", "signed")}
    held = holds(t, sets)
    target = holds(predicted, sets) if direction == "A->T" else predicted
    truth, said, _ = _conditionals(a, held, target, direction, counts)
    if train is None:
        found, n = count_pairs(a, held, counts), count_pairs(a, t, counts).n
    else:
        found, n = count_pairs(train_a, holds(train_t, sets)), count_pairs(train_a, train_t).n
    delta = said - truth
    sign = Pairs(found.both, found.a, found.t, n).sign
    mean = _mean(delta)[:, None, None]
    return {
        "value": _mean(np.abs(delta)), "variance": _mean((delta - mean) ** 2), "signed": _mean(sign * delta)
    }  # fmt: skip


def label_sets(train_T: np.ndarray, T: np.ndarray, *, more_than: int = 0, size: int = 1) -> np.ndarray:
    """Return the sets of labels to look at, a boolean array (sets, |T|), sorted.

    A set is the full set of labels of more than ``more_than`` training images, has at least ``size`` labels,
    and is held by more than ``more_than`` images of ``T`` (which may have other labels as well).
    """
    found, times = np.unique(train_T.astype(bool), axis=0, return_counts=True)
    found = found[(times > more_than) & (found.sum(1) >= max(size, 1))]
    return found[holds(T, found).sum(0) > more_than]


def holds(T: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Return which images have all labels of which set, floats (n, sets)."""
    return (T @ sets.T.astype(float) == sets.sum(1)[None]).astype(float)


def _read(
    A: Any, T: Any, A_pred: Any, T_pred: Any, direction: Direction
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if direction not in ("A->T", "T->A"):
        raise DataError(f"direction={direction!r} is unknown." + nearest(str(direction), ("A->T", "T->A")))
    a = binary("A", A)
    t = binary("T", T, len(a))
    if direction == "A->T":
        return a, t, binary("T_pred", T_pred, len(a), t.shape[1])
    return a, t, binary("A_pred", A_pred, len(a), a.shape[1])


def _conditionals(
    a: np.ndarray, t: np.ndarray, predicted: np.ndarray, direction: Direction, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true and predicted shares and the size of the condition, each (draws, |A|, |T|)."""
    truth = count_pairs(a, t, weights)
    said = count_pairs(a, predicted, weights) if direction == "A->T" else count_pairs(predicted, t, weights)
    size = truth.a[:, :, None] if direction == "A->T" else truth.t[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return truth.both / size, said.both / size, np.broadcast_to(size, truth.both.shape)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over finite pairs of each draw; NaN where there is none."""
    have = np.isfinite(values)
    count = have.sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.where(have, values, 0.0).sum((1, 2)) / np.where(count > 0, count, np.nan)


def _table(
    reference: Pairs, truth: np.ndarray, said: np.ndarray, n: np.ndarray, attributes: list, labels: list
) -> pd.DataFrame:
    sign = reference.sign[0]
    delta = said - truth
    return pd.DataFrame(
        {
            "attribute": [a for a in attributes for _ in labels],
            "label": pd.Series(labels * len(attributes), dtype=object),
            "sign": sign.ravel().astype(int), "n": n.ravel(), "truth": truth.ravel(),
            "predicted": said.ravel(), "delta": delta.ravel(), "value": (sign * delta).ravel(),
        }
    )  # fmt: skip
