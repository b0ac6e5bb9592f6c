"""What a slice of images is made of: needed to read any bias number measured on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.display import Shown
from clipbias.errors import DataError
from clipbias.metrics.checks import as_groups
from clipbias.metrics.record import metric
from clipbias.metrics.tally import RateTally


@metric(
    "effective_groups", needs="labels", range=(1.0, np.inf), ideal=np.nan, unit="groups", sign="never negative",
    direction="the number of levels where all are equally frequent", worse="low", interval="t", reference="doi:10.2307/1934352",
)  # fmt: skip
def _effective_groups(t: RateTally) -> np.ndarray:
    """Number of equally frequent groups that would be as diverse: exp of the entropy of the groups' shares."""
    share = t.totals / t.totals.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, share * np.log(share), 0.0)
    return np.exp(-terms.sum(1))[:, None]


@metric(
    "cramers_v", needs="labels", range=(0.0, 1.0), ideal=0.0, unit="association", sign="never negative",
    direction="0: the group is independent of the other label", worse="high", interval="excess",
    reference="https://doi.org/10.1515/9781400883868", undefined=("undefined", "one of the labels has one level only."),
)  # fmt: skip
def _cramers_v(t: RateTally) -> np.ndarray:
    """How far the groups go together with another label of the images, over all levels."""
    joint = _joint(t)
    p, q = joint.sum(2, keepdims=True), joint.sum(1, keepdims=True)
    free = np.minimum((p > 0).sum(1), (q > 0).sum(2))[:, 0] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where(p * q > 0, (joint - p * q) ** 2 / (p * q), 0.0).sum((1, 2))
        return np.where(free > 0, np.sqrt(chi2 / free), np.nan)[:, None]


@metric(
    "npmi", needs="labels", per_group=True, range=(-1.0, 1.0), ideal=0.0, unit="association",
    sign="positive: the group is there more often than by chance", direction="0: independent", worse="both", interval="t",
    reference="https://svn.spraakdata.gu.se/repos/gerlof/pub/www/Docs/npmi-pfd.pdf",
    undefined=("undefined", "the group or the level has no image here."),
)  # fmt: skip
def _npmi(t: RateTally) -> np.ndarray:
    """Normalised pointwise mutual information of a group and a level of another label."""
    joint = _joint(t)
    alone = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(joint / alone) / -np.log(joint)
    value = np.where(joint == 1, 0.0, np.where(joint > 0, value, -1.0))
    return np.where(alone > 0, value, np.nan)


def _joint(t: RateTally) -> np.ndarray:
    """Shares of level and group, (D, P, G)."""
    counts = t.count(t.facts["among"])
    return counts / counts.sum((1, 2), keepdims=True)


@dataclass(frozen=True, eq=False)
class Composition(Shown):
    """Make-up of images by one attribute.

    Attributes
    ----------
    counts, shares : dict
        By level; declared levels without images are there with 0.
    entropy : float
        In nats.
    effective : float
        exp(entropy): the number of equally frequent groups that would be as diverse.
    evenness : float
        entropy over ln(levels), in [0, 1]; 1 is equal shares.
    imbalance : float
        Largest over smallest count; infinite if a level is empty.
    """

    counts: dict[Any, int]
    shares: dict[Any, float]
    entropy: float
    effective: float
    evenness: float
    imbalance: float


@dataclass(frozen=True, eq=False)
class Dependence(Shown):
    """How far two attributes of the same images go together.

    Attributes
    ----------
    counts : pandas.DataFrame
        Images by level of the first (rows) and of the second (columns).
    cramers_v : float
        In [0, 1]; 0 is independent. NaN where an attribute has one level only.
    npmi : pandas.DataFrame
        Normalised pointwise mutual information, in [−1, 1]; 0 is independent, −1 never together.
    ducher_z : pandas.DataFrame
        Deviation from independence over the largest that the margins allow, in [−1, 1].
    """

    counts: pd.DataFrame
    cramers_v: float
    npmi: pd.DataFrame
    ducher_z: pd.DataFrame


def composition(groups: Any, *, levels: Sequence[Hashable] | None = None) -> Composition:
    """Count the groups of a slice and say how even they are.

    Raises
    ------
    DataError
        No images, or a label is missing.
    """
    codes, names = as_groups(groups, None, levels)
    if codes.size == 0:
        raise DataError("there are no images to describe.")
    counts = np.bincount(codes, minlength=len(names))
    shares = counts / counts.sum()
    present = shares[shares > 0]
    entropy = max(0.0, float(-(present * np.log(present)).sum()))
    return Composition(
        counts=dict(zip(names, counts.tolist(), strict=True)),
        shares=dict(zip(names, shares.tolist(), strict=True)),
        entropy=entropy,
        effective=float(np.exp(entropy)),
        evenness=entropy / float(np.log(len(names))) if len(names) > 1 else 1.0,
        imbalance=float(counts.max() / counts.min()) if counts.min() else float("inf"),
    )


def dependence(first: Any, second: Any) -> Dependence:
    """Measure how far two attributes of the same images go together, over all and cell by cell.

    Raises
    ------
    DataError
        Lengths differ or a label is missing.
    """
    a, rows = as_groups(first)
    b, columns = as_groups(second, a.size)
    counts = np.zeros((len(rows), len(columns)))
    np.add.at(counts, (a, b), 1)
    joint = counts / counts.sum()
    p, q = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    alone = p * q
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where(alone > 0, (joint - alone) ** 2 / alone, 0).sum()
        free = min((p > 0).sum(), (q > 0).sum()) - 1
        v = float(np.sqrt(chi2 / free)) if free > 0 else float("nan")
        npmi = np.log(joint / alone) / -np.log(joint)
        npmi = np.where(joint == 1, 0.0, np.where(joint > 0, npmi, np.where(alone > 0, -1.0, np.nan)))
        room = np.where(joint >= alone, np.minimum(p, q) - alone, alone - np.maximum(0, p + q - 1))
        z = np.where(room > 1e-15, (joint - alone) / room, 0.0)
    index, header = pd.Index(list(rows), dtype=object), pd.Index(list(columns), dtype=object)
    return Dependence(
        counts=pd.DataFrame(counts.astype(int), index=index, columns=header),
        cramers_v=v,
        npmi=pd.DataFrame(npmi, index=index, columns=header),
        ducher_z=pd.DataFrame(z, index=index, columns=header),
    )
