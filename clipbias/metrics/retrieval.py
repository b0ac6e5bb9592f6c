"""Retrieval by group: recall among the first k, and how unequal it is.

What is known of the protocol of Ramos et al. (arXiv:2508.17750): the metric is called "KL-divergence of R@k";
the observed distribution is ``p_a = r_a / sum_a' r_a'`` of the recalls of the demographics and the ideal one is
``q_a = 1/|A|``. Not known from the parts that could be read: which k, which direction of the divergence, which
side is the query, whether the gallery is restricted to the group, and what happens when all recalls are 0.
Here: k is a parameter; both directions are given; the gallery is shared by all groups (restricting it would
change a recall with the size of the group); all-zero recall is undefined, with a status.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError
from clipbias.metrics.checks import as_groups, no_empty_group
from clipbias.metrics.classification import against_rest, spread
from clipbias.metrics.inputs import hits
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RateTally

_RAMOS = "arXiv:2508.17750"
_ZERO = (
    "undefined",
    "all recalls are 0 (or fewer than two groups have queries): no distribution to compare.",
)


@metric(
    "recall_at_k", needs="retrieval", per_group=True, within_class=True, range=(0.0, 1.0), ideal=1.0,
    unit="share", sign="never negative", direction="equal between groups is fair", worse="both",
    interval="share", reference=_RAMOS, null_center=lambda t: t.pooled("hit", "among"),
    undefined=("empty group", "the group has no query of this probe."),
)  # fmt: skip
def _recall_at_k(t: RateTally) -> np.ndarray:
    """Share of a group's queries whose wanted item is among the first k."""
    return t.recall


@metric(
    "recall_gap", needs="retrieval", per_group=True, within_class=True, range=(-1.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="positive: the group's queries find their item more often than the others'",
    direction="closer to 0 is fairer", worse="both", interval="t", reference=_RAMOS,
    undefined=("empty group", "one side of the comparison has no query of this probe."),
)  # fmt: skip
def _recall_gap(t: RateTally) -> np.ndarray:
    """Recall of a group's queries minus that of all other groups' queries."""
    return against_rest(t, "hit", "among")


@metric(
    "recall_disparity", spread=1.25, needs="retrieval", extreme_of=("recall_at_k", "min"), within_class=True, range=(0.0, 1.0),
    ideal=0.0, unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high",
    interval="excess", reference=_RAMOS, undefined=("empty group", "fewer than two groups have a query of this probe."),
)  # fmt: skip
def _recall_disparity(t: RateTally) -> np.ndarray:
    """Largest minus smallest recall of a group."""
    return spread(t.recall)


@metric(
    "kl_recall", needs="retrieval", extreme_of=("recall_at_k", "min"), within_class=True, range=(0.0, np.inf), ideal=0.0, unit="nats",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess", reference=_RAMOS,
    undefined=_ZERO,
)  # fmt: skip
def _kl_recall(t: RateTally) -> np.ndarray:
    """KL divergence of the groups' shares of recall from equal shares."""
    return _divergence(t.recall)[0]


@metric(
    "kl_recall_reverse", needs="retrieval", extreme_of=("recall_at_k", "min"), within_class=True, range=(0.0, np.inf), ideal=0.0, unit="nats",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess", reference=_RAMOS,
    undefined=(_ZERO[0], "a recall is 0: the divergence of equal shares from the recall shares is infinite."),
)  # fmt: skip
def _kl_recall_reverse(t: RateTally) -> np.ndarray:
    """KL divergence of equal shares from the groups' shares of recall."""
    reverse = _divergence(t.recall)[1]
    return np.where(np.isinf(reverse), np.nan, reverse)


def _divergence(recall: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return KL(p||u) and KL(u||p) over the last axis; groups without a recall (NaN) are left out."""
    have = np.isfinite(recall)
    number = have.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(have, recall, 0.0)
        p = p / p.sum(-1, keepdims=True)
        forward = np.where(p > 0, p * np.log(p * number[..., None]), 0.0).sum(-1)
        backward = np.where(have, -np.log(p * number[..., None]), 0.0).sum(-1) / number
    fine = (number > 1) & (np.where(have, recall, 0.0).sum(-1) > 0)
    return np.where(fine, np.maximum(forward, 0), np.nan), np.where(fine, np.maximum(backward, 0), np.nan)


@dataclass(frozen=True)
class RecallDivergence(Shown):
    """Divergence between shares of recall and equal shares, in both directions.

    Attributes
    ----------
    forward : float
        KL(p || uniform) = ln|A| − H(p), in [0, ln|A|]; the value that is reported.
    reverse : float
        KL(uniform || p); infinite if a recall is 0.
    shares : dict
        p by group.
    worst : label
        The group with the lowest recall.
    """

    forward: float
    reverse: float
    shares: dict[Any, float]
    worst: Any

    def __float__(self) -> float:
        return self.forward


def recall_at_k(
    similarity: Any,
    groups: Any,
    *,
    k: float,
    target: Any = None,
    gallery: Any = None,
    levels: Sequence[Hashable] | None = None,
) -> dict[Any, float]:
    """Share of each group's queries whose wanted item is among the first k of the gallery.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
    groups : array (n_queries,)
        Group that each query is about.
    k : int or float
        Number of gallery items, or a fraction of them.
    target : array of int (n_queries,), optional
        Gallery position of the wanted item; by default query i wants item i.
    gallery : array (n_gallery,), optional
        Group of each gallery item: a query then looks among the items of its own group only. A recall so measured
        depends on the size of the group (a smaller gallery is easier), so recalls of groups are then comparable only
        where groups are equally large. Default: all groups share the whole gallery.
    levels : sequence, optional

    Returns
    -------
    dict
        Level to recall in [0, 1]. Items that tie with the wanted one give the chance of a hit.

    Raises
    ------
    DataError
        A similarity is not a number, a target is outside the gallery.
    StatusError
        k larger than the gallery; a declared level without queries.
    """
    similarity = np.asarray(similarity)
    codes, names = as_groups(groups, len(similarity), levels)
    no_empty_group(codes, names)
    within = None if gallery is None else (np.asarray(groups), np.asarray(gallery))
    hit = hits(similarity, np.arange(len(similarity)) if target is None else target, k, within=within)
    mean = np.bincount(codes, hit, len(names)) / np.bincount(codes, minlength=len(names))
    return {g: float(r) for g, r in zip(names, mean, strict=True)}


def kl_recall(recalls: Mapping[Any, float]) -> RecallDivergence:
    """KL divergence between the groups' shares of recall and equal shares.

    Parameters
    ----------
    recalls : mapping of group to recall
        Each in [0, 1].

    Returns
    -------
    RecallDivergence
        ``float(result)`` is the forward direction, in nats, in [0, ln|A|], lower is fairer.

    Raises
    ------
    StatusError
        All recalls are 0 (status ``"undefined"``), or there is one group.
    DataError
        A recall is not a number in [0, 1].

    Notes
    -----
    Ramos et al. (2025), arXiv:2508.17750: the shares ``p_a = r_a / sum r`` and the ideal ``1/|A|`` are theirs.
    Their k, the direction of the divergence and their rule for all-zero recall could not be confirmed.
    """
    if len(recalls) < 2:
        raise StatusError("single group", "recalls of at least two groups are needed.")
    values = np.array([float(r) for r in recalls.values()])
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise DataError(f"the recall of {list(recalls)[int(np.argmax(wrong))]!r} is not a number in [0, 1].")
    if values.sum() == 0:
        raise StatusError("undefined", "all recalls are 0: their shares are 0/0; choose a larger k.")
    forward, reverse = _divergence(values)
    shares = dict(zip(recalls, (values / values.sum()).tolist(), strict=True))
    return RecallDivergence(float(forward), float(reverse), shares, list(recalls)[int(values.argmin())])
