"""Who is among the first k, and who is closer: skew, NDKL, Bias@K, entropy, C-ASC.

Images are ranked by their similarity to a probe. Shares of groups among the first k are compared with a
reference: the base rate of the images looked at, equal shares, or given ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from clipbias.errors import DataError, StatusError, nearest
from clipbias.metrics.checks import as_groups, as_scores, no_empty_group, resolve_k, two_groups
from clipbias.metrics.draws import observed
from clipbias.metrics.record import metric
from clipbias.metrics.tally import Order, RankingTally

Reference = str | Mapping[Any, float]
_GEYIK = "arXiv:1905.01989"


def _first_k(t: RankingTally) -> float:
    return float(t.k[0])


@metric(
    "skew", needs="ranking", of_first_k=True, per_group=True, range=(-np.inf, np.inf), ideal=0.0, unit="nats",
    sign="positive: over-represented among the first k", direction="closer to 0 is fairer", worse="both",
    interval="log share", trials=_first_k, reference=_GEYIK,
    undefined=("undefined", "the group has no image here or no share in the reference."),
)  # fmt: skip
def _skew(t: RankingTally) -> np.ndarray:
    """Log ratio of a group's share among the first k to its reference share."""
    return t.skew


@metric(
    "max_skew", needs="ranking", of_first_k=True, extreme_of=("skew", "max"), range=(0.0, np.inf), ideal=0.0, unit="nats",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess", reference=_GEYIK,
)  # fmt: skip
def _max_skew(t: RankingTally) -> np.ndarray:
    """Skew of the most over-represented group."""
    return np.maximum(np.nanmax(t.skew, axis=-1), 0.0)  # rounding may leave -1e-16


@metric(
    "min_skew", needs="ranking", of_first_k=True, extreme_of=("skew", "min"), range=(-np.inf, 0.0), ideal=0.0, unit="nats",
    sign="never positive", direction="higher is fairer", worse="low", interval="excess", reference=_GEYIK,
)  # fmt: skip
def _min_skew(t: RankingTally) -> np.ndarray:
    """Skew of the most under-represented group; −inf where one is absent."""
    return np.minimum(np.nanmin(t.skew, axis=-1), 0.0)


# The first few places weigh most, and resampling repeats the same images there: the bootstrap variance of NDKL
# is 12 to 20 % below the true one in simulation (n = 100 and 1,000), and without this factor intervals cover 85 to 97 %.
# With two groups and a strong effect it needs more than that: 1.35 covers 91.5 %, 1.6 covers 93.
@metric(
    "ndkl", spread=1.6, needs="ranking", extreme_of=("exposure", "max"), range=(0.0, np.inf), ideal=0.0, unit="nats", sign="never negative",
    direction="lower is fairer", worse="high", interval="excess", reference=_GEYIK,
)  # fmt: skip
def _ndkl(t: RankingTally) -> np.ndarray:
    """Divergence of every prefix from the reference, discounted by depth; above 0 for any finite list."""
    return t.divergence()


@metric(
    "bias_at_k", needs="ranking", of_first_k=True, per_group=True, range=(-2.0, 2.0), ideal=0.0, unit="difference of shares",
    sign="positive: the group has more of the first k than its reference", direction="closer to 0 is fairer",
    worse="both", interval="twice share", trials=_first_k, reference="arXiv:2109.05433",
)  # fmt: skip
def _bias_at_k(t: RankingTally) -> np.ndarray:
    """Bias@K of a group against all others, less what the reference shares would give."""
    return _bias(t)


def _bias(t: RankingTally) -> np.ndarray:
    # (T_g - T_rest)/k = 2 share - 1. With two groups and a uniform reference this is Bias@K itself.
    return 2 * (t.share - (0.5 if t.bias == "raw" else t.reference[:, None, :]))


@metric(
    "max_bias_at_k", needs="ranking", of_first_k=True, extreme_of=("bias_at_k", "max"), range=(0.0, 2.0), ideal=0.0,
    unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="arXiv:2109.05433",
)  # fmt: skip
def _max_bias_at_k(t: RankingTally) -> np.ndarray:
    """Largest Bias@K of a group without its sign, so that probes with opposite signs do not cancel."""
    return np.abs(_bias(t)).max(-1)


@metric(
    "mad_at_k", needs="ranking", of_first_k=True, extreme_of=("bias_at_k", "max"), range=(0.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="never negative", direction="lower is fairer", worse="high", interval="excess",
    reference="arXiv:2202.04053",
)  # fmt: skip
def _mad_at_k(t: RankingTally) -> np.ndarray:
    """Mean absolute deviation of the groups' shares among the first k from the reference shares."""
    return np.abs(t.share - t.reference[:, None, :]).mean(-1)


@metric(
    "world_gap", needs="ranking", per_group=True, range=(-1.0, 1.0), ideal=0.0, unit="difference of shares",
    sign="positive: the group has more of the first k than of the occupation", direction="closer to 0 follows the table",
    worse="both", interval="t", reference="arXiv:2306.12424",
    undefined=("no table", "there is no labour share of this probe."),
)  # fmt: skip
def _world_gap(t: RankingTally) -> np.ndarray:
    """Share of a group among the first k minus its share of the occupation in the real world."""
    return t.share - t.world if t.world is not None else np.full(t.share.shape, np.nan)


@metric(
    "world_distance", needs="ranking", extreme_of=("world_gap", "max"), range=(0.0, 1.0), ideal=0.0,
    unit="difference of shares", sign="never negative", direction="closer to 0 follows the table", worse="high",
    interval="excess", reference="arXiv:2306.12424", undefined=("no table", "there is no labour share of this probe."),
)  # fmt: skip
def _world_distance(t: RankingTally) -> np.ndarray:
    """Largest difference between a group's share of the first k and its share of the occupation."""
    return np.abs(_world_gap(t)).max(-1)


@metric(
    "normalized_entropy", needs="ranking", extreme_of=("bias_at_k", "max"), range=(0.0, 1.0), ideal=1.0, unit="share of ln(groups)",
    sign="never negative", direction="higher is fairer", worse="low", interval="excess",
    reference="doi:10.1609/aies.v7i1.31657",
)  # fmt: skip
def _normalized_entropy(t: RankingTally) -> np.ndarray:
    """Entropy of the groups among the first k; 1 where all declared groups are equally frequent."""
    share = t.share
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, share * np.log(share), 0.0)
    return np.clip(-terms.sum(-1) / np.log(share.shape[-1]), 0.0, 1.0)


@metric(
    "c_asc", needs="ranking", per_group=True, range=(-np.inf, np.inf), ideal=0.0, unit="standard deviations",
    sign="positive: closer to the probe than the other groups", direction="closer to 0 is fairer", worse="both",
    interval="t", reference="doi:10.1609/aies.v7i1.31657",
    undefined=("undefined", "all scores are equal, or one side of the comparison has no image."),
)  # fmt: skip
def _c_asc(t: RankingTally) -> np.ndarray:
    """Standardised difference between a group's mean similarity and that of all others."""
    return t.association


@metric(
    "max_c_asc", needs="ranking", extreme_of=("c_asc", "max"), range=(0.0, np.inf), ideal=0.0, unit="standard deviations",
    sign="never negative", direction="lower is fairer", worse="high", interval="excess", reference="doi:10.1609/aies.v7i1.31657",
    undefined=("undefined", "all scores are equal, or one side of the comparison has no image."),
)  # fmt: skip
def _max_c_asc(t: RankingTally) -> np.ndarray:
    """Largest association of a group with the probe, without its sign."""
    each = np.abs(t.association)
    have = np.isfinite(each)
    return np.where(have.any(-1), np.where(have, each, 0.0).max(-1), np.nan)


def tally_of_one(
    scores: Any,
    groups: Any,
    levels: Sequence[Hashable] | None,
    *,
    k: float = 1.0,
    reference: Reference = "base_rate",
    ties: str = "expected",
    zero: str = "exclude",
    whole: bool = True,
) -> RankingTally:
    """Return the tally of one ranking after all checks."""
    scores = as_scores(scores)
    codes, names = as_groups(groups, scores.size, levels)
    no_empty_group(codes, names)
    two_groups(names)
    tally = RankingTally(
        Order(scores[None], ties), observed(codes, len(names)), names, k=k, reference=reference, zero=zero
    )
    if not whole and tally.base_rate and tally.k[0] == scores.size:
        raise StatusError(
            "k equals n",
            f"k={int(tally.k[0])} takes all images: every share equals its base rate and every skew is 0 by "
            "construction; choose a smaller k or another reference.",
        )
    return tally


def skew(
    scores: Any,
    groups: Any,
    *,
    k: float,
    reference: Reference = "base_rate",
    ties: str = "expected",
    zero: str = "exclude",
    levels: Sequence[Hashable] | None = None,
) -> dict[Any, float]:
    """Log ratio of each group's share among the first k to its reference share.

    Parameters
    ----------
    scores : array (n,)
        Higher is ranked first.
    groups : array (n,)
        Perceived group of each image; the categories of a pandas Categorical are the declared levels.
    k : int or float
        Length of the list, or a fraction of n.
    reference : {"base_rate", "uniform"} or mapping of level to share
    ties : {"expected", "order"}
        Shares averaged over random tie-breaking, then the formula; or ties in the order of the input.
    zero : {"exclude", "peer"}
        An absent group has skew −inf; or it counts as ``1/k``, as earlier tools do.
    levels : sequence, optional

    Returns
    -------
    dict
        Level to skew in nats; 0 is fair, positive is over-represented.

    Raises
    ------
    DataError
        A score is not a number (its position is named), a label is missing, an option is unknown.
    StatusError
        k larger than n; k = n with the base rate; a declared level without images; a single group.

    Notes
    -----
    Geyik, Ambler, Kenthapadi (2019), arXiv:1905.01989.
    """
    t = tally_of_one(scores, groups, levels, k=k, reference=reference, ties=ties, zero=zero, whole=False)
    return {level: float(v) for level, v in zip(t.levels, t.skew[0, 0], strict=True)}


def max_skew(
    scores: Any,
    groups: Any,
    *,
    k: float,
    reference: Reference = "base_rate",
    ties: str = "expected",
    zero: str = "exclude",
    levels: Sequence[Hashable] | None = None,
) -> float:
    """Skew of the most over-represented group, in nats; 0 or more, lower is fairer.

    Parameters and errors as for `skew`. Absent groups do not enter (``zero="exclude"``): with ``"peer"`` an
    absent group can get a positive skew and then the maximum names the wrong group.
    """
    t = tally_of_one(scores, groups, levels, k=k, reference=reference, ties=ties, zero=zero, whole=False)
    return float(_max_skew(t)[0, 0])


def min_skew(
    scores: Any,
    groups: Any,
    *,
    k: float,
    reference: Reference = "base_rate",
    ties: str = "expected",
    zero: str = "exclude",
    levels: Sequence[Hashable] | None = None,
) -> float:
    """Skew of the most under-represented group, in nats; 0 or less, higher is fairer, −inf if one is absent.

    Parameters and errors as for `skew`.
    """
    t = tally_of_one(scores, groups, levels, k=k, reference=reference, ties=ties, zero=zero, whole=False)
    return float(_min_skew(t)[0, 0])


def ndkl(
    scores: Any,
    groups: Any,
    *,
    reference: Reference = "base_rate",
    k: float | None = None,
    ties: str = "expected",
    levels: Sequence[Hashable] | None = None,
) -> float:
    """Normalised discounted KL divergence of all prefixes of the ranking from the reference.

    ``sum_i KL(p_i || q) / log2(i + 1)``, divided by ``sum_i 1 / log2(i + 1)``, over prefixes i = 1..n (or k).

    Returns
    -------
    float
        In nats, 0 or more, lower is fairer. It is never 0: the first prefix holds one image and has
        divergence ``ln(1/q)``. Compare with the value of permuted labels, not with 0.

    Notes
    -----
    Parameters and errors as for `skew`. Geyik et al. (2019), arXiv:1905.01989.
    """
    t = tally_of_one(scores, groups, levels, k=1.0, reference=reference, ties=ties)
    depth = None if k is None else np.array([resolve_k(k, int(t.n[0]))])
    return float(t.divergence(depth)[0, 0])


def bias_at_k(
    scores: Any,
    groups: Any,
    *,
    k: float,
    positive: Hashable,
    negative: Hashable,
    ties: str = "expected",
    base_corrected: bool = False,
    levels: Sequence[Hashable] | None = None,
) -> float:
    """Signed share difference of two groups among the first k: (a − b) / (a + b).

    Parameters
    ----------
    scores, groups, k, ties, levels
        As for `skew`.
    positive, negative : label
        The groups a and b; others are left out of the ratio.
    base_corrected : bool
        Subtract the same ratio of all images: the raw value follows the base rates.

    Returns
    -------
    float
        In [−1, 1] (base corrected: [−2, 2]); 0 is fair; 0 also if neither group is among the first k.

    Notes
    -----
    Wang, Liu, Wang (2021), arXiv:2109.05433.
    """
    t = tally_of_one(scores, groups, levels, k=k, ties=ties)
    names = [positive, negative]
    for name in names:
        if name not in t.levels:
            raise DataError(f"there is no group {name!r}." + nearest(str(name), map(str, t.levels)))
    a, b = (t.topk[0, 0, t.levels.index(name)] for name in names)
    value = (a - b) / (a + b) if a + b > 0 else 0.0
    if base_corrected:
        a, b = (t.totals[0, t.levels.index(name)] for name in names)
        value -= (a - b) / (a + b)
    return float(value)


def normalized_entropy(
    scores: Any,
    groups: Any,
    *,
    k: float,
    ties: str = "expected",
    levels: Sequence[Hashable] | None = None,
) -> float:
    """Entropy of the groups among the first k over the logarithm of the number of declared groups.

    Returns
    -------
    float
        In [0, 1], higher is fairer; 1 where all groups are equally frequent. It does not know base rates.

    Notes
    -----
    Parameters and errors as for `skew`. Hamidieh et al. (2024), doi:10.1609/aies.v7i1.31657.
    """
    return float(_normalized_entropy(tally_of_one(scores, groups, levels, k=k, ties=ties))[0, 0])


def c_asc(scores: Any, groups: Any, *, levels: Sequence[Hashable] | None = None) -> dict[Any, float]:
    """Association of a probe with each group: difference of mean scores over their standard deviation.

    ``(mean over the group − mean over all others) / sd over all (ddof=1)``.

    Returns
    -------
    dict
        Level to value; 0 is fair, positive is closer to the probe than the others.

    Raises
    ------
    StatusError
        All scores are equal; a declared level without images; a single group.

    Notes
    -----
    Hamidieh et al. (2024), doi:10.1609/aies.v7i1.31657. The same as SC-WEAT of a group against the rest.
    """
    t = tally_of_one(scores, groups, levels)
    value = t.association[0, 0]
    if np.isnan(value).any():
        raise StatusError("undefined", "all scores are equal: there is no standard deviation to divide by.")
    return {level: float(v) for level, v in zip(t.levels, value, strict=True)}
