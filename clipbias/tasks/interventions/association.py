"""Overwriting: change the association of label and group in the training set, and nothing else.

Wang and Russakovsky, ICCV 2023. The sample size and both marginals stay the same while the association goes from +1 to -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipbias.errors import DataError
from clipbias.tasks.interventions.measures import effective_size, phi_coefficient

LEVELS = tuple(round(1 - 0.2 * step, 1) for step in range(11))
"""The eleven levels of the published sweep, +1 to -1."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A multiset with weights.

    Attributes
    ----------
    index : numpy.ndarray, int (k,)
        Positions, ascending.
    weights : numpy.ndarray, float (k,)
        Mean one.
    phi : float
        Association that was reached, in [-1, 1]: of being tied to the first level with having it.
    effective : float
        Effective sample size.
    """

    index: np.ndarray
    weights: np.ndarray
    phi: float
    effective: float


def tied_sides(labels: np.ndarray, first: np.ndarray, ties: Mapping[str, bool] | None = None) -> np.ndarray:
    """Return for each item whether its label is tied to the first group, bool (n,).

    Parameters
    ----------
    labels : array (n,)
    first : array of bool (n,)
        In the first of two groups.
    ties : mapping of label to bool, optional
        Default: a label is tied to the group that is more frequent in it than among all; of two labels the other is tied to
        the other group.
    """
    labels, first = np.asarray(labels), np.asarray(first, bool)
    names, place = np.unique(labels, return_inverse=True)
    if ties is not None:
        missing = [str(name) for name in names if name not in ties]
        if missing:
            raise DataError(f"it is not said which group {missing[0]!r} is tied to.")
        return np.array([ties[name] for name in names])[place]
    share = np.bincount(place, first) / np.bincount(place)
    if len(names) == 2:
        return np.array([share[0] >= share[1], share[0] < share[1]])[place]
    return (share >= np.median(share))[place] if len(set(share)) == 1 else (share > first.mean())[place]


def rebalance_rows(
    labels: np.ndarray,
    first: np.ndarray,
    *,
    phi: float = 0.0,
    mode: Literal["same_n", "subselect", "weights"] = "same_n",
    ties: Mapping[str, bool] | None = None,
    n: int = 0,
    seed: int = 0,
) -> Selection:
    """Return the items, or weights, with which label and group have a given association.

    Parameters
    ----------
    labels : array (n,)
        Two labels or more. With more, each is tied to one of the groups, and its own share of that group moves.
    first : array of bool (n,)
        In the first of two groups.
    phi : float
        In [-1, 1]; 0 is independence, +1 that each label has only the group that it is tied to.
    mode : {"same_n", "subselect", "weights"}
        ``same_n``: as many items, as many of each label and half of them of each group, whatever phi; levels are nested
        draws from one order. ``subselect``: as many items as can be kept by leaving out alone; labels keep their shares.
        ``weights``: all items, weighted; the shares of labels and groups stay as they are.
    ties : mapping of label to bool, optional
        See `tied_sides`.
    n : int
        At most so many items (``same_n`` and ``subselect``); 0: all there are.
    seed : int

    Raises
    ------
    DataError
        A label and group that never occur together but should, labels that are all tied to one group, or an association that
        weights cannot reach.
    """
    labels, first = np.asarray(labels), np.asarray(first, bool)
    if not -1 <= phi <= 1:
        raise DataError(f"phi is {phi}; an association lies between -1 and 1.")
    side = tied_sides(labels, first, ties)
    names, place = np.unique(labels, return_inverse=True)
    sides = np.array([side[place == code][0] for code in range(len(names))])
    if sides.all() or not sides.any():
        raise DataError(
            "all labels are tied to the same group; an association needs labels tied to either of them."
        )
    counts = np.zeros((len(names), 2), int)  # tied group first
    np.add.at(counts, (place, (side != first).astype(int)), 1)
    if mode == "weights":
        return _weighted(labels, first, side, place, counts, sides, phi)
    _whole(counts, names, phi, mode)
    drawn = (_same_n if mode == "same_n" else _subselect)(counts, sides, phi, n)
    rng = np.random.default_rng([seed, 11])
    kept = []
    for code in range(len(names)):
        for tied in (0, 1):
            members = rng.permutation(np.flatnonzero((place == code) & ((side != first) == bool(tied))))
            kept.append(members[: drawn[code, tied]])
    index = np.sort(np.concatenate(kept))
    return Selection(
        index, np.ones(len(index)), phi_coefficient(side[index], first[index]), float(len(index))
    )


def _whole(counts: np.ndarray, names: np.ndarray, phi: float, mode: str) -> None:
    """Check that every cell that is drawn from has items; same_n draws from all, so that all levels have one size."""
    needed = np.array([phi > -1 or mode == "same_n", phi < 1 or mode == "same_n"])
    empty = (counts == 0) & needed
    if empty.any():
        code, tied = np.argwhere(empty)[0]
        raise DataError(
            f"no image has label {names[code]!s} and the group that it is {'tied to' if tied == 0 else 'not tied to'}: this cell "
            "is missing. Leave the label out, or use more data."
        )


def apportion(total: int, sizes: np.ndarray) -> np.ndarray:
    """Return whole numbers in proportion to sizes, with a given sum: largest remainders, the first wins ties."""
    sizes = np.asarray(sizes, float)
    exact = sizes * total / sizes.sum() if sizes.sum() else np.zeros(len(sizes))
    whole = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole


def _same_n(counts: np.ndarray, sides: np.ndarray, phi: float, n: int) -> np.ndarray:
    budget = counts.min(1)
    half = min(int(budget[sides].sum()), int(budget[~sides].sum()))
    half = min(half, n // 2) if n else half
    tied = round(half * (1 + phi) / 2)
    out = np.zeros_like(counts)
    for one in (True, False):
        mine = sides == one
        size = apportion(half, budget[mine])
        out[mine, 0] = apportion(tied, size)
        out[mine, 1] = size - out[mine, 0]
    return out


def _subselect(counts: np.ndarray, sides: np.ndarray, phi: float, n: int) -> np.ndarray:
    share = np.array([(1 + phi) / 2, (1 - phi) / 2])
    totals = counts.sum(1)
    # Both sides weigh the same, as groups do; inside a side labels keep their shares.
    weight = np.where(sides, 1 / totals[sides].sum(), 1 / totals[~sides].sum()) * totals / 2
    possible = [counts[:, k] / (share[k] * weight) for k in (0, 1) if share[k] > 0]
    most = int(np.floor(np.min(possible) + 1e-9))
    most = min(most, n) if n else most
    exact = most * weight[:, None] * share
    return np.minimum(np.rint(exact).astype(int), counts)


def _weighted(
    labels: np.ndarray, first: np.ndarray, side: np.ndarray, place: np.ndarray, counts: np.ndarray, sides: np.ndarray, phi: float
) -> Selection:  # fmt: skip
    n = len(labels)
    p_label, p_first, p_side = counts.sum(1) / n, float(first.mean()), float(side.mean())
    if not 0 < p_first < 1:
        raise DataError("there is one group only; weights cannot make an association.")
    scale = np.sqrt(p_side * (1 - p_side) * p_first * (1 - p_first))
    # Every label moves by as much of its side's share as it has, so that labels' and groups' shares stay.
    move = np.where(sides, p_label / p_side, p_label / (1 - p_side)) * scale
    p_tied = np.where(sides, p_first, 1 - p_first)
    target = np.column_stack([p_label * p_tied + phi * move, p_label * (1 - p_tied) - phi * move])
    if (target < -1e-12).any():
        reach = np.min(np.column_stack([p_label * p_tied, p_label * (1 - p_tied)]) / move[:, None], axis=0)
        raise DataError(
            f"phi {phi:g} is out of reach of weights: with these shares it lies between {-reach[0]:.3f} and {reach[1]:.3f}."
        )
    target = np.clip(target, 0, None)
    if ((counts == 0) & (target > 1e-12)).any():
        code = int(np.argwhere((counts == 0) & (target > 1e-12))[0][0])
        raise DataError(
            f"label {labels[place == code][0]!s} never occurs with one of the groups: weights cannot make up a missing cell. "
            "Leave the label out, or use more data."
        )
    each = np.divide(target * n, counts, out=np.zeros_like(target), where=counts > 0)
    weights = each[place, (side != first).astype(int)]
    return Selection(np.arange(n), weights, phi_coefficient(side, first, weights), effective_size(weights))


def share_rows(positive: np.ndarray, first: np.ndarray, *, share: float, seed: int = 0) -> Selection:
    """Return the items among whose positives a subgroup has a given share; how many positives there are does not change.

    Parameters
    ----------
    positive, first : array of bool (n,)
        Positives; members of the subgroup.
    share : float
        In [0, 1]. Negatives stay as they are.

    Returns
    -------
    Selection
        ``phi`` is the association of positive and subgroup that results.

    Raises
    ------
    DataError
        One of the subgroups has no positives.
    """
    positive, first = np.asarray(positive, bool), np.asarray(first, bool)
    if not 0 <= share <= 1:
        raise DataError(f"the share is {share}; it lies between 0 and 1.")
    rng = np.random.default_rng([seed, 12])
    mine, other = (rng.permutation(np.flatnonzero(positive & (first == one))) for one in (True, False))
    budget = min(len(mine), len(other))
    if not budget:
        raise DataError("one of the subgroups has no positives: this cell is missing.")
    take = round(share * budget)
    index = np.sort(np.concatenate([mine[:take], other[: budget - take], np.flatnonzero(~positive)]))
    whole = positive[index].any() and not positive[index].all() and 0 < first[index].mean() < 1
    phi = phi_coefficient(positive[index], first[index]) if whole else float("nan")
    return Selection(index, np.ones(len(index)), phi, float(len(index)))
