"""RND, ECT, MAC, RIPA, direct bias and RNSB with their uncertainty; the functions are in `clipbias.metrics.word_tests`.

Rows are scaled to length 1 first, as embeddings of a CLIP are: measures that depend on lengths (RND, RIPA) are then
comparable between models that share a scale of cosines, and only then.
"""

from __future__ import annotations

import numpy as np

from clipbias.metrics.record import metric
from clipbias.metrics.targets import TargetTally
from clipbias.metrics.word_tests import negative_shares

_PAIRS = (
    "not paired",
    "the targets are no pairs (for example counterfactual twins): there are no differences to take.",
)
_FLAT = ("undefined", "the attributes do not differ in similarity: there is no rank correlation.")


@metric(
    "rnd", needs="targets", range=(-2.0, 2.0), ideal=0.0, unit="distance", sign="negative: A is closer to X than to Y",
    direction="closer to 0 is fairer", worse="both", interval="t", reference="doi:10.1073/pnas.1720347115",
)  # fmt: skip
def _rnd(t: TargetTally) -> np.ndarray:
    """Distance of the attributes A from the mean of X minus their distance from the mean of Y."""
    rows, x, y = t.targets()
    attributes, a, _ = t.attributes()
    gap = _distances(rows, x, attributes) - _distances(rows, y, attributes)
    return ((a * gap).sum(1) / a.sum(1))[:, None]


def _distances(rows: np.ndarray, weight: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Return the distance of each attribute from the weighted mean of rows, (D, M)."""
    mean = (weight @ rows) / weight.sum(1, keepdims=True)
    squared = (attributes**2).sum(1) - 2 * mean @ attributes.T + (mean**2).sum(1, keepdims=True)
    return np.sqrt(np.maximum(squared, 0.0))


@metric(
    "ect", needs="targets", range=(-1.0, 1.0), ideal=1.0, unit="rank correlation", sign="1: both groups order the attributes alike",
    direction="higher is fairer", worse="low", interval="excess", reference="arXiv:1901.07656", undefined=_FLAT,
)  # fmt: skip
def _ect(t: TargetTally) -> np.ndarray:
    """Rank correlation of the attributes' similarities to the mean of X and to the mean of Y."""
    rows, x, y = t.targets()
    attributes, a, b = t.attributes()
    weight = np.broadcast_to(a + b, (max(len(a), len(x)), len(attributes)))
    # The length of a mean does not change an order, so cosines need not be divided by it.
    first, second = (_midranks((w @ rows) @ attributes.T, weight) for w in (x, y))
    return _correlation(first, second, weight)[:, None]


def _midranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the mid-ranks (D, M) of values that count ``weight`` times each."""
    values = np.broadcast_to(values, weight.shape)
    order = np.argsort(values, axis=1, kind="stable")
    sorted_weight = np.take_along_axis(weight, order, axis=1)
    ranks = np.cumsum(sorted_weight, axis=1) - (sorted_weight - 1) / 2
    out = np.empty(weight.shape)
    np.put_along_axis(out, order, ranks, axis=1)
    return out


def _correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = weight.sum(1, keepdims=True)
    x, y = (v - (weight * v).sum(1, keepdims=True) / total for v in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weight * x * y).sum(1) / np.sqrt((weight * x * x).sum(1) * (weight * y * y).sum(1))


@metric(
    "mac", needs="targets", range=(0.0, 2.0), ideal=1.0, unit="cosine distance", sign="below 1: targets and attributes lie together",
    direction="1 is unrelated", worse="low", interval="t", reference="arXiv:1904.04047",
)  # fmt: skip
def _mac(t: TargetTally) -> np.ndarray:
    """Mean cosine distance of all targets to A and to B; it does not compare X with Y."""
    rows, targets, a, b = t.shuffled()
    target, first, second = ((w @ rows) / w.sum(1, keepdims=True) for w in (targets, a, b))
    return (1 - ((target * first).sum(1) + (target * second).sum(1)) / 2)[:, None]


@metric(
    "ripa", needs="targets", range=(-1.0, 1.0), ideal=0.0, unit="projection", sign="positive: A leans to X",
    direction="closer to 0 is fairer", worse="both", interval="t", reference="arXiv:1908.06361", undefined=_PAIRS,
)  # fmt: skip
def _ripa(t: TargetTally) -> np.ndarray:
    """Mean projection of the attributes A on the directions from Y to X of the pairs."""
    if not t.paired:
        return np.full((t.size, 1), np.nan)
    away, weight = t.differences(repair=False)
    attributes, a, _ = t.attributes()
    each = away[0] @ attributes.T
    mean_pair = (weight @ each) / np.abs(weight).sum(1, keepdims=True)
    return ((a * mean_pair).sum(1) / a.sum(1))[:, None]


@metric(
    "direct_bias", needs="targets", range=(0.0, 1.0), ideal=0.0, unit="cosine", sign="never negative", direction="lower is fairer",
    worse="high", interval="excess", reference="arXiv:1607.06520", undefined=_PAIRS,
)  # fmt: skip
def _direct_bias(t: TargetTally) -> np.ndarray:
    """Mean absolute cosine of all attributes with the main direction of the pairs' differences."""
    if not t.paired:
        return np.full((t.size, 1), np.nan)
    away, weight = t.differences(repair=True)
    attributes, a, b = t.attributes()
    both = a + b
    out = np.empty(max(len(away), len(weight)))
    for i in range(len(out)):
        own, w = away[min(i, len(away) - 1)], weight[min(i, len(weight) - 1)]
        direction = np.linalg.eigh((own.T * w) @ own)[1][:, -1]
        share = both[min(i, len(both) - 1)]
        out[i] = (share * np.abs(attributes @ direction)).sum() / share.sum()
    return out[:, None]


@metric(
    "rnsb", needs="targets", range=(0.0, np.inf), ideal=0.0, unit="nats", sign="never negative", direction="lower is fairer",
    worse="high", interval="excess", reference="doi:10.18653/v1/P19-1162",
)  # fmt: skip
def _rnsb(t: TargetTally) -> np.ndarray:
    """Divergence from equal shares of how likely a classifier of A and B calls the two groups of targets B."""
    rows, x, y = t.targets() if t.kind != "permuted" else (np.concatenate([t.x, t.y]), *_fixed(t))
    attributes, a, b = t.attributes()
    weight = a + b
    sides = t.sides()
    out = np.empty(max(len(sides), len(weight), len(x)))
    for i in range(len(out)):
        called = negative_shares(
            rows, attributes, sides[min(i, len(sides) - 1)], weight[min(i, len(weight) - 1)], seed=t.seed
        )
        u, v = x[min(i, len(x) - 1)], y[min(i, len(y) - 1)]
        p = np.array([(u * called).sum() / u.sum(), (v * called).sum() / v.sum()])
        p = p / p.sum()
        out[i] = max(0.0, float((p * np.log(2 * p)).sum()))
    return out[:, None]


def _fixed(t: TargetTally) -> tuple[np.ndarray, np.ndarray]:
    codes = np.repeat([0.0, 1.0], [len(t.x), len(t.y)])[None]
    return 1 - codes, codes
