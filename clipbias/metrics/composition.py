"""What a slice of images is made of: needed to read any bias number measured on it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError
from clipbias.metrics.checks import as_groups


@dataclass(frozen=True, eq=False)
class Composition:
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
class Dependence:
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
    frame = {"index": list(rows), "columns": list(columns)}
    return Dependence(
        counts=pd.DataFrame(counts.astype(int), **frame),
        cramers_v=v,
        npmi=pd.DataFrame(npmi, **frame),
        ducher_z=pd.DataFrame(z, **frame),
    )
