"""Zero-shot classification by group: recall gaps, harm rates, demographic parity, equalized odds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest
from clipbias.metrics.checks import as_groups, no_empty_group, two_groups
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RateTally

_EMPTY = ("empty group", "fewer than two groups have an image of this class.")


def spread(rates: np.ndarray) -> np.ndarray:
    """Largest minus smallest rate over the groups that have one; NaN where fewer than two have."""
    have = np.isfinite(rates)
    high = np.where(have, rates, -np.inf).max(-1)
    low = np.where(have, rates, np.inf).min(-1)
    return np.where(
        have.sum(-1) > 1, np.subtract(high, low, where=have.any(-1), out=np.zeros_like(high)), np.nan
    )


def against_rest(t: RateTally, hit: str, among: str | None = None) -> np.ndarray:
    """Return the rate of each group minus that of all other groups, (D, P, G); NaN where one side has nothing."""
    what = t.facts[hit] if among is None else t.facts[hit] * t.facts[among]
    number = t.count(what)
    of = t.totals[:, None, :] if among is None else t.count(t.facts[among])
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (number.sum(-1, keepdims=True) - number) / (of.sum(-1, keepdims=True) - of)
        return np.where((of > 0) & (of < of.sum(-1, keepdims=True)), number / of - rest, np.nan)


@metric(
    "zero_shot_gap", needs="classification", per_group=True, within_class=True, range=(-1.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="positive: the group is recognised more often than the others",
    direction="closer to 0 is fairer", worse="both", interval="t", reference="arXiv:2103.00020", undefined=_EMPTY,
)  # fmt: skip
def _zero_shot_gap(t: RateTally) -> np.ndarray:
    """Recall of a class on a group's images minus that on all other groups' images."""
    return against_rest(t, "hit", "among")


@metric(
    "harm_gap", needs="classification", per_group=True, range=(-1.0, 1.0), ideal=0.0, unit="difference of shares",
    sign="positive: the group is put into a harmful class more often than the others", direction="closer to 0 is fairer",
    worse="both", interval="t", reference="arXiv:2103.00020", undefined=_EMPTY,
)  # fmt: skip
def _harm_gap(t: RateTally) -> np.ndarray:
    """Harm rate of a group minus that of all other groups."""
    return against_rest(t, "harm")


@metric(
    "harm_odds", needs="classification", per_group=True, range=(-np.inf, np.inf), ideal=0.0, unit="log odds ratio",
    sign="positive: the group is put into a harmful class more often than the others", direction="closer to 0 is fairer",
    worse="both", interval="t", reference="doi:10.1214/aoms/1177728174", undefined=_EMPTY,
)  # fmt: skip
def _harm_odds(t: RateTally) -> np.ndarray:
    """Log odds ratio of harm of a group against all others, half a case added to each cell."""
    mine, size = t.count(t.facts["harm"]), t.totals[:, None, :]
    others, rest = mine.sum(-1, keepdims=True) - mine, size.sum(-1, keepdims=True) - size
    odds = (mine + 0.5) * (rest - others + 0.5) / ((size - mine + 0.5) * (others + 0.5))
    return np.where((size > 0) & (rest > 0), np.log(odds), np.nan)


@metric(
    "selection_gap", needs="classification", per_group=True, range=(-1.0, 1.0), ideal=0.0, unit="difference of shares",
    sign="positive: the class is predicted more often for the group than for the others",
    direction="closer to 0 is fairer", worse="both", interval="t", reference="arXiv:1104.3913", undefined=_EMPTY,
)  # fmt: skip
def _selection_gap(t: RateTally) -> np.ndarray:
    """How often a class is predicted for a group minus how often for all others."""
    return against_rest(t, "predicted")


@metric(
    "zero_shot_recall", needs="classification", per_group=True, within_class=True, range=(0.0, 1.0), ideal=1.0,
    unit="share", sign="never negative", direction="equal between groups is fair", worse="both",
    interval="share", reference="arXiv:2103.00020", null_center=lambda t: t.pooled("hit", "among"),
    undefined=("empty group", "the group has no image of this class."),
)  # fmt: skip
def _zero_shot_recall(t: RateTally) -> np.ndarray:
    """Share of a group's images of a class that are classified as it."""
    return t.recall


@metric(
    "zero_shot_disparity", needs="classification", extreme_of=("zero_shot_recall", "min"), within_class=True, spread=1.2,
    range=(0.0, 1.0), ideal=0.0, unit="difference of shares", sign="never negative",
    direction="lower is fairer", worse="high", interval="excess", reference="arXiv:2103.00020", undefined=_EMPTY,
)  # fmt: skip
def _zero_shot_disparity(t: RateTally) -> np.ndarray:
    """Largest recall gap between groups among the images of a class."""
    return spread(t.recall)


@metric(
    "harm_rate", needs="classification", per_group=True, range=(0.0, 1.0), ideal=0.0, unit="share",
    sign="never negative", direction="lower is fairer, and equal between groups", worse="both",
    interval="share", reference="arXiv:2103.00020", null_center=lambda t: t.pooled("harm"),
    undefined=("empty group", "the group has no image here."),
)  # fmt: skip
def _harm_rate(t: RateTally) -> np.ndarray:
    """Share of a group's images that are put into a harmful class."""
    return t.rate("harm")


@metric(
    "harm_disparity", needs="classification", extreme_of=("harm_rate", "max"), range=(0.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high",
    interval="excess", reference="arXiv:2103.00020", undefined=_EMPTY,
)  # fmt: skip
def _harm_disparity(t: RateTally) -> np.ndarray:
    """Largest difference of harm rates between groups."""
    return spread(t.rate("harm"))


def _flagged(t: RateTally) -> float:
    return float(t.facts["harm"].sum())


@metric(
    "harm_composition", needs="classification", per_group=True, range=(0.0, 1.0), ideal=np.nan, unit="share",
    sign="never negative", direction="close to the group's base rate is fair", worse="both",
    interval="share", trials=_flagged, reference="arXiv:2103.00020",
    undefined=("undefined", "no image was put into a harmful class."),
)  # fmt: skip
def _harm_composition(t: RateTally) -> np.ndarray:
    """Share of a group among the images put into a harmful class."""
    flagged = t.count(t.facts["harm"])
    with np.errstate(divide="ignore", invalid="ignore"):
        return flagged / flagged.sum(-1, keepdims=True)


@metric(
    "selection_rate", needs="classification", per_group=True, range=(0.0, 1.0), ideal=np.nan, unit="share",
    sign="never negative", direction="equal between groups is fair", worse="both", interval="share",
    reference="arXiv:1104.3913", null_center=lambda t: t.pooled("predicted"),
    undefined=("empty group", "the group has no image here."),
)  # fmt: skip
def _selection_rate(t: RateTally) -> np.ndarray:
    """Share of a group's images for which a class is predicted."""
    return t.rate("predicted")


@metric(
    "demographic_parity", needs="classification", extreme_of=("selection_rate", "max"), range=(0.0, 1.0), ideal=0.0, unit="difference of shares",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="arXiv:1104.3913", undefined=("empty group", "fewer than two groups have images."),
)  # fmt: skip
def _demographic_parity(t: RateTally) -> np.ndarray:
    """Largest difference between groups in how often a class is predicted."""
    return spread(t.rate("predicted"))


@metric(
    "equalized_odds", needs="classification", extreme_of=("zero_shot_recall", "min"), within_class=True, range=(0.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high",
    interval="excess", reference="arXiv:1610.02413", undefined=_EMPTY,
)  # fmt: skip
def _equalized_odds(t: RateTally) -> np.ndarray:
    """Larger of the gaps in true and false positive rate of a class."""
    return np.maximum(spread(t.recall), spread(t.rate("predicted", "others")))


@dataclass(frozen=True)
class Disparity(Shown):
    """Accuracy by group and how far it spreads.

    Attributes
    ----------
    overall, gap, ratio, sd : float
        Accuracy of all; largest minus smallest; smallest over largest; standard deviation (ddof=0) over groups.
    worst, best : label
    by_group : dict
    per_class : dict
        Class to recall gap between the groups, NaN where fewer than two groups have images of it.
    """

    overall: float
    gap: float
    ratio: float
    sd: float
    worst: Any
    best: Any
    by_group: dict[Any, float]
    per_class: dict[Any, float]


@dataclass(frozen=True)
class Harm(Shown):
    """How often each group is put into a harmful class, and who is there.

    Attributes
    ----------
    rate : dict
        P(harmful class | group), per level.
    composition : dict
        P(group | harmful class), per level; empty if nobody is flagged. Follows the base rates.
    risk_ratio : dict
        Rate of the group over the rate of all others; NaN where the others have none.
    overall, gap : float
    worst : label
        The group with the highest rate.
    """

    rate: dict[Any, float]
    composition: dict[Any, float]
    risk_ratio: dict[Any, float]
    overall: float
    gap: float
    worst: Any


@dataclass(frozen=True)
class Parity(Shown):
    """Selection or error rates by group.

    Attributes
    ----------
    difference, ratio : float
        Largest minus smallest rate; smallest over largest (1 where all rates are 0).
    by_group : dict
    """

    difference: float
    ratio: float
    by_group: dict[Any, float]


def _groups(groups: Any, n: int, levels: Sequence[Hashable] | None) -> tuple[np.ndarray, tuple[Any, ...]]:
    codes, names = as_groups(groups, n, levels)
    no_empty_group(codes, names)
    two_groups(names)
    return codes, names


def _means(what: np.ndarray, codes: np.ndarray, names: tuple[Any, ...]) -> np.ndarray:
    return np.bincount(codes, what.astype(float), len(names)) / np.bincount(codes, minlength=len(names))


def _pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    true, pred = np.asarray(y_true, dtype=object), np.asarray(y_pred, dtype=object)
    if true.shape != pred.shape or true.ndim != 1:
        raise DataError(f"y_true has shape {true.shape} and y_pred {pred.shape}: one label each per image.")
    for name, labels in (("y_true", true), ("y_pred", pred)):
        missing = pd.isna(labels)
        if missing.any():
            raise DataError(
                f"{name} has no label at position {int(np.argmax(missing))}; leave that image out."
            )
    return true, pred


def _ratio(rates: np.ndarray) -> float:
    return float(rates.min() / rates.max()) if rates.max() > 0 else 1.0


def zero_shot_disparity(
    y_true: Any, y_pred: Any, groups: Any, *, levels: Sequence[Hashable] | None = None
) -> Disparity:
    """Accuracy by group of a zero-shot classification.

    Parameters
    ----------
    y_true, y_pred : array (n,)
        Class labels.
    groups : array (n,)
        Perceived groups.
    levels : sequence, optional

    Returns
    -------
    Disparity
        Shares in [0, 1]; a gap of 0 is fair, lower is fairer.

    Raises
    ------
    DataError
        Lengths differ or a label is missing.
    StatusError
        A declared level without images; a single group.

    Notes
    -----
    Radford et al. (2021), arXiv:2103.00020. `measure` reports ``per_class`` and its mean.
    """
    true, pred = _pair(y_true, y_pred)
    codes, names = _groups(groups, true.size, levels)
    hit = np.asarray(true == pred, dtype=bool)
    rates = _means(hit, codes, names)
    per_class = {}
    for label in dict.fromkeys(true.tolist()):
        own = np.asarray(true == label, dtype=bool)
        counts = np.bincount(codes[own], minlength=len(names))
        with np.errstate(invalid="ignore"):
            recall = np.bincount(codes[own], hit[own].astype(float), len(names)) / counts
        per_class[label] = float(np.nanmax(recall) - np.nanmin(recall)) if (counts > 0).sum() > 1 else np.nan
    return Disparity(
        overall=float(hit.mean()),
        gap=float(rates.max() - rates.min()),
        ratio=_ratio(rates),
        sd=float(rates.std()),
        worst=names[int(rates.argmin())],
        best=names[int(rates.argmax())],
        by_group={g: float(r) for g, r in zip(names, rates, strict=True)},
        per_class=per_class,
    )


def harm_rate(
    y_pred: Any, groups: Any, *, harmful: Sequence[Any], levels: Sequence[Hashable] | None = None
) -> Harm:
    """How often the images of each group are put into a harmful class.

    Parameters
    ----------
    y_pred : array (n,)
        Predicted class (argmax): the rate depends on which other classes were offered.
    groups : array (n,)
    harmful : sequence
        The predicted classes that count as harm.
    levels : sequence, optional

    Returns
    -------
    Harm
        ``rate`` is P(harm | group) and ``composition`` is P(group | harm). They answer different questions:
        a large group dominates the composition at equal rates. Both in [0, 1]; lower and equal is fairer.

    Raises
    ------
    DataError
        ``harmful`` is empty or a single string.
    StatusError
        A declared level without images; a single group.

    Notes
    -----
    Radford et al. (2021), arXiv:2103.00020, tables 6 and 7.
    """
    if isinstance(harmful, str) or len(harmful) == 0:
        raise DataError("harmful needs a list of at least one class label.")
    pred = np.asarray(y_pred, dtype=object)
    codes, names = _groups(groups, pred.size, levels)
    flagged = np.isin(pred.astype(str), [str(h) for h in harmful])
    rates = _means(flagged, codes, names)
    number = np.bincount(codes, flagged.astype(float), len(names))
    size = np.bincount(codes, minlength=len(names))
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (flagged.sum() - number) / (pred.size - size)
        ratio = np.where(rest > 0, rates / rest, np.nan)
    share = number / flagged.sum() if flagged.any() else None
    return Harm(
        rate={g: float(r) for g, r in zip(names, rates, strict=True)},
        composition={} if share is None else {g: float(s) for g, s in zip(names, share, strict=True)},
        risk_ratio={g: float(r) for g, r in zip(names, ratio, strict=True)},
        overall=float(flagged.mean()),
        gap=float(rates.max() - rates.min()),
        worst=names[int(rates.argmax())],
    )


def demographic_parity(
    y_pred: Any, groups: Any, *, positive: Any, levels: Sequence[Hashable] | None = None
) -> Parity:
    """Difference between groups in how often the class ``positive`` is predicted.

    Returns
    -------
    Parity
        ``difference`` in [0, 1], 0 is fair, lower is fairer; ``ratio`` in [0, 1], 1 is fair.

    Notes
    -----
    Dwork et al. (2012), arXiv:1104.3913.
    """
    pred = np.asarray(y_pred, dtype=object)
    codes, names = _groups(groups, pred.size, levels)
    rates = _means(np.asarray(pred == positive, dtype=bool), codes, names)
    by_group = {g: float(r) for g, r in zip(names, rates, strict=True)}
    return Parity(float(rates.max() - rates.min()), _ratio(rates), by_group)


def equalized_odds(
    y_true: Any, y_pred: Any, groups: Any, *, positive: Any, levels: Sequence[Hashable] | None = None
) -> Parity:
    """Larger of the differences between groups in true and in false positive rate of ``positive``.

    Returns
    -------
    Parity
        Of the rate with the larger difference; ``difference`` in [0, 1], lower is fairer.

    Raises
    ------
    StatusError
        A group has no image of the class, or none of the others.

    Notes
    -----
    Hardt, Price, Srebro (2016), arXiv:1610.02413.
    """
    true, pred = _pair(y_true, y_pred)
    known = dict.fromkeys([*true.tolist(), *pred.tolist()])
    if positive not in known:
        raise DataError(f"there is no class {positive!r}." + nearest(str(positive), map(str, known)))
    codes, names = _groups(groups, true.size, levels)
    best: Parity | None = None
    for is_positive in (True, False):
        own = np.asarray(true == positive, dtype=bool) == is_positive
        counts = np.bincount(codes[own], minlength=len(names))
        if (counts == 0).any():
            raise StatusError(
                "empty group",
                f"group {names[int(counts.argmin())]!r} has no image "
                + (f"of class {positive!r}." if is_positive else f"of another class than {positive!r}."),
            )
        chosen = np.asarray(pred[own] == positive, dtype=float)
        rates = np.bincount(codes[own], chosen, len(names)) / counts
        by_group = {g: float(r) for g, r in zip(names, rates, strict=True)}
        found = Parity(float(rates.max() - rates.min()), _ratio(rates), by_group)
        if best is None or found.difference > best.difference:
            best = found
    assert best is not None
    return best
