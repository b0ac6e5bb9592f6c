"""Differences between groups: quality gap, worst group, answer divergence, parity, odds, error rates."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError, nearest
from clipbias.metrics.checks import as_groups, as_scores, no_empty_group, two_groups

Levels = Sequence[Hashable] | None


@dataclass(frozen=True)
class GroupGap:
    """A quality by group, and how far the groups are apart.

    Attributes
    ----------
    value : float
        Mean of ``first`` minus mean of ``second`` where two groups are compared, 0 is fair; largest minus smallest mean where
        there are more, never negative.
    first, second : label
        What was subtracted from what (with more than two groups: the best and the worst).
    by_group, n : dict
        Mean and number of items per group.
    """

    value: float
    first: Any
    second: Any
    by_group: dict[Any, float]
    n: dict[Any, int]


@dataclass(frozen=True)
class WorstGroup:
    """The group with the lowest mean.

    Attributes
    ----------
    group : label
    value : float
        Its mean.
    shortfall : float
        Mean of all items minus ``value``, never negative; 0 is fair.
    by_group, n : dict
    """

    group: Any
    value: float
    shortfall: float
    by_group: dict[Any, float]
    n: dict[Any, int]


@dataclass(frozen=True)
class Divergence:
    """How differently groups are answered.

    Attributes
    ----------
    value : float
        Jensen-Shannon divergence, base 2, in [0, 1]; 0 is fair. Over strata: their mean, weighted by their items.
    per_stratum : dict
    n : dict
        Items per stratum that was used.
    left_out : dict
        Stratum to reason.
    """

    value: float
    per_stratum: dict[Any, float]
    n: dict[Any, int]
    left_out: dict[Any, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RateGap:
    """Rates by group and how far they are apart.

    Attributes
    ----------
    difference : float
        Largest minus smallest, in [0, 1]; 0 is fair. NaN with a status where a group has no rate.
    ratio : float
        Smallest over largest, in [0, 1]; 1 is fair (and 1 where all rates are 0).
    by_group : dict
        Rate per group; for equalized odds ``(true positive rate, false positive rate)``.
    status, reason : str
    """

    difference: float
    ratio: float
    by_group: dict[Any, Any]
    status: str = "ok"
    reason: str = ""


def _groups(groups: Any, n: int, levels: Levels) -> tuple[np.ndarray, tuple[Any, ...]]:
    codes, names = as_groups(groups, n, levels)
    no_empty_group(codes, names)
    two_groups(names)
    return codes, names


def _means(values: np.ndarray, codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(codes, minlength=size)
    return np.bincount(codes, values, size) / counts, counts


def group_gap(
    values: Any, groups: Any, *, first: Any = None, second: Any = None, levels: Levels = None
) -> GroupGap:
    """Return the gap in a quality between groups.

    Parameters
    ----------
    values : array (n,)
        One score per item: accuracy of an answer, ``cider(...).per_image`` of the whole set, ...
    groups : array (n,)
        Perceived groups.
    first, second : label, optional
        Which two groups to compare. Default: the two levels in their order; with more levels, the best and the worst.
    levels : sequence, optional

    Returns
    -------
    GroupGap

    Raises
    ------
    DataError
        A value is not a number, lengths differ, ``first`` or ``second`` is no group.
    StatusError
        A group without items; a single group.

    Notes
    -----
    Zhao, Wang, Russakovsky (2021), arXiv:2106.08503, for captions: scores of single images, weighed by the whole set.
    """
    scores = as_scores(values)
    codes, names = _groups(groups, scores.size, levels)
    for asked in (first, second):
        if asked is not None and asked not in names:
            raise DataError(f"there is no group {asked!r}." + nearest(str(asked), map(str, names)))
    if (first is None) != (second is None):
        raise DataError("give both groups to compare, or neither.")
    means, counts = _means(scores, codes, len(names))
    if first is None:
        pair = (0, 1) if len(names) == 2 else (int(means.argmax()), int(means.argmin()))
    else:
        pair = (names.index(first), names.index(second))
    return GroupGap(
        float(means[pair[0]] - means[pair[1]]), names[pair[0]], names[pair[1]],
        dict(zip(names, means.tolist(), strict=True)), dict(zip(names, counts.tolist(), strict=True)),
    )  # fmt: skip


def worst_group(values: Any, groups: Any, *, levels: Levels = None) -> WorstGroup:
    """Return the group with the lowest mean score; arguments and errors as `group_gap`.

    Notes
    -----
    Sagawa et al. (2020), arXiv:1911.08731.
    """
    scores = as_scores(values)
    codes, names = _groups(groups, scores.size, levels)
    means, counts = _means(scores, codes, len(names))
    worst = int(means.argmin())
    return WorstGroup(
        names[worst], float(means[worst]), float(scores.mean() - means[worst]),
        dict(zip(names, means.tolist(), strict=True)), dict(zip(names, counts.tolist(), strict=True)),
    )  # fmt: skip


def js_divergence(counts: Any) -> np.ndarray:
    """Return the Jensen-Shannon divergence between groups, base 2, scaled to [0, 1].

    Parameters
    ----------
    counts : array (..., G, V)
        How often each of V outcomes occurs in each of G groups.

    Returns
    -------
    ndarray (...)
        0 where all groups have the same shares; 1 where no two groups share an outcome. NaN where a group is empty. Groups
        count alike, whatever their size; with G groups the divergence is divided by log2 G. Cells of zero are no problem.
    """
    c = np.asarray(counts, dtype=np.float64)
    total = c.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = c / total
        middle = p.mean(-2, keepdims=True)
        each = np.where(p > 0, p * (np.log2(p) - np.log2(middle)), 0.0).sum(-1)
    value = each.mean(-1) / math.log2(max(2, c.shape[-2]))
    # Rounding leaves specks below zero.
    return np.where((total[..., 0] > 0).all(-1), np.clip(value, 0.0, 1.0), np.nan)


def answer_divergence(answers: Any, groups: Any, *, strata: Any = None, levels: Levels = None) -> Divergence:
    """Return how differently questions about the groups are answered.

    Parameters
    ----------
    answers : array (n,)
        Predicted answers, normalised the way they should be compared.
    groups : array (n,)
        Perceived group of the image that was asked about.
    strata : array (n,), optional
        Question type (or the question): groups are compared inside each, since different questions have different answers.
    levels : sequence, optional

    Returns
    -------
    Divergence
        Strata in which a group has no question are in ``left_out``. At finite n the value has a floor above 0: hold it
        against permuted groups.

    Raises
    ------
    StatusError
        No stratum has questions about all groups; a single group.

    Notes
    -----
    Hirota et al. (2022), DOI 10.1145/3531146.3533184, compare the distributions; the divergence is that of Lin (1991),
    DOI 10.1109/18.61115.
    """
    said = np.asarray(answers, dtype=object)
    codes, names = _groups(groups, said.size, levels)
    kinds = np.full(said.size, "", dtype=object) if strata is None else np.asarray(strata, dtype=object)
    if kinds.size != said.size:
        raise DataError(f"{said.size} answers but {kinds.size} strata: one each is needed.")
    values, sizes, left = {}, {}, {}
    for kind in dict.fromkeys(kinds.tolist()):
        own = kinds == kind
        column, vocabulary = pd.factorize(said[own])
        counts = np.zeros((len(names), len(vocabulary)))
        np.add.at(counts, (codes[own], column), 1)
        value = float(js_divergence(counts))
        if math.isnan(value):
            left[kind] = f"no question about {names[int(counts.sum(1).argmin())]!r}"
        else:
            values[kind], sizes[kind] = value, int(own.sum())
    if not values:
        raise StatusError("empty group", "no kind of question is asked about all groups.")
    mean = sum(values[k] * sizes[k] for k in values) / sum(sizes.values())
    return Divergence(mean, values, sizes, left)


def demographic_parity(y_pred: Any, groups: Any, *, positive: Any = "yes", levels: Levels = None) -> RateGap:
    """Return the difference between groups in how often ``positive`` is predicted (fairlearn).

    Parameters
    ----------
    y_pred, groups : array (n,)
    positive : label
    levels : sequence, optional

    Returns
    -------
    RateGap

    Notes
    -----
    Dwork et al. (2012), arXiv:1104.3913. A rate of predictions exists in every group, so fairlearn's definition is right here.
    """
    from fairlearn.metrics import MetricFrame, selection_rate

    chosen = _is(y_pred, positive)
    codes, names = _groups(groups, chosen.size, levels)
    frame = MetricFrame(metrics=selection_rate, y_true=chosen, y_pred=chosen, sensitive_features=codes)
    return _gap({name: float(frame.by_group[code]) for code, name in enumerate(names)})


def equalized_odds(
    y_true: Any,
    y_pred: Any,
    groups: Any,
    *,
    positive: Any = "yes",
    agg: Literal["worst_case", "mean"] = "worst_case",
    levels: Levels = None,
) -> RateGap:
    """Return the differences between groups in true and in false positive rate, the larger or their mean (fairlearn).

    Parameters
    ----------
    y_true, y_pred, groups : array (n,)
    positive : label
    agg : {"worst_case", "mean"}
    levels : sequence, optional

    Returns
    -------
    RateGap
        NaN with status ``"empty group"`` where a group has no true positive or no true negative: fairlearn takes the rate of
        nothing as 0, which makes a gap out of missing data.

    Notes
    -----
    Hardt, Price, Srebro (2016), arXiv:1610.02413.
    """
    if agg not in ("worst_case", "mean"):
        raise DataError(f"agg={agg!r} is unknown." + nearest(str(agg), ("worst_case", "mean")))
    from fairlearn.metrics import MetricFrame, false_positive_rate, true_positive_rate

    true, chosen = _is(y_true, positive), _is(y_pred, positive)
    if true.size != chosen.size:
        raise DataError(f"{true.size} true labels but {chosen.size} predictions.")
    codes, names = _groups(groups, true.size, levels)
    rates = {"tpr": true_positive_rate, "fpr": false_positive_rate}
    frame = MetricFrame(metrics=rates, y_true=true, y_pred=chosen, sensitive_features=codes).by_group
    have = np.array([[(true[codes == g] == label).any() for label in (1, 0)] for g in range(len(names))])
    table = np.where(have, frame[["tpr", "fpr"]].to_numpy(float), np.nan)
    by_group = {name: (float(t), float(f)) for name, (t, f) in zip(names, table, strict=True)}
    if not have.all():
        g, kind = (int(i) for i in np.argwhere(~have)[0])
        what = "no question whose true answer is" if kind == 0 else "only questions whose true answer is"
        return RateGap(
            math.nan, math.nan, by_group, "empty group", f"group {names[g]!r} has {what} {positive!r}."
        )
    gaps = [_gap(dict(zip(names, column, strict=True))) for column in table.T.tolist()]
    if agg == "mean":
        return RateGap(sum(g.difference for g in gaps) / 2, sum(g.ratio for g in gaps) / 2, by_group)
    return RateGap(max(g.difference for g in gaps), min(g.ratio for g in gaps), by_group)


def error_rate_ratio(correct: Any, groups: Any, *, levels: Levels = None) -> RateGap:
    """Return the error rates of the groups, and the smallest over the largest.

    Parameters
    ----------
    correct : array (n,)
        Whether each item is right, or its accuracy in [0, 1]; the error is 1 minus it.
    groups : array (n,)
    levels : sequence, optional

    Returns
    -------
    RateGap
        ``ratio`` is smallest error rate over largest, 1 where no group has an error.
    """
    right = as_scores(np.asarray(correct, dtype=float))
    if ((right < 0) | (right > 1)).any():
        raise DataError("correct needs values in [0, 1].")
    codes, names = _groups(groups, right.size, levels)
    return _gap(dict(zip(names, _means(1 - right, codes, len(names))[0].tolist(), strict=True)))


def _is(labels: Any, positive: Any) -> np.ndarray:
    column = np.asarray(labels, dtype=object)
    missing = pd.isna(column)
    if missing.any():
        raise DataError(f"the label at position {int(np.argmax(missing))} is missing; leave that item out.")
    return np.array([label == positive for label in column.tolist()], dtype=int)


def _gap(rates: dict[Any, float]) -> RateGap:
    low, high = min(rates.values()), max(rates.values())
    return RateGap(high - low, low / high if high > 0 else 1.0, rates)
