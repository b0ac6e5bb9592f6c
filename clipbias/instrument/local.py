"""Local against global, per model: how far a view's bias is from that of all images, and whether views differ at all.

The bootstrap is paired: one draw of the images gives the global value and that of every view, so what they share
cancels in the difference. Draws are stratified by view and group, so that no group vanishes from a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipbias.analysis import heterogeneity
from clipbias.errors import StatusError
from clipbias.metrics import draws as make
from clipbias.metrics.inference import Inputs, subset_values
from clipbias.metrics.protocol import Protocol
from clipbias.views import View

DEVIATIONS = [
    "grouping", "view", "attribute", "metric", "n", "value", "global", "delta", "ci_low", "ci_high",
    "half_1", "half_2", "global_1", "global_2", "status", "reason",
]  # fmt: skip
DIFFERENCES = [
    "grouping",
    "attribute",
    "metric",
    "views",
    "q",
    "p",
    "i2",
    "tau2",
    "mean",
    "p_labels",
    "status",
    "reason",
]


def grouping_of(view: View) -> str:
    """Return the rule that made a view: ``context`` for ``context=park``, ``kmeans:4`` for ``kmeans:4/2``."""
    return view.name.rpartition("/")[0] if view.kind == "kmeans" else view.name.partition("=")[0]


def compare(
    names: Sequence[str],
    given: Inputs,
    found: Sequence[View],
    *,
    protocol: Protocol,
    attribute: str,
    relabelled: int = 0,
) -> tuple[list[dict], list[dict]]:
    """Compare the views made by one rule with all images, and with each other.

    Parameters
    ----------
    names : sequence of str
        Metrics with one value over all groups that read the same input; all are taken of the same draws.
    given : Inputs
        Of all images.
    found : sequence of View
        Of one rule; those that overlap are compared with the global value only.
    protocol : Protocol
        ``n_boot`` draws, ``level``, ``seed``.
    attribute : str
    relabelled : int
        Permutations of the view labels over the images of each group (over whole clusters where images are drawn in
        clusters); 0 leaves that test out.

    Returns
    -------
    deviations, differences : lists of dict
        One row per view and metric, with the values on the even and the odd probes as halves: value less global value with
        its interval. One row for the rule and metric: Cochran's Q over the views with I2 and a p that allows for their
        shared images, and ``p_labels`` from permuted view labels.
    """
    masks = np.stack([np.ones(given.n, bool), *(view.mask for view in found)])
    seen = subset_values(names, given, masks, protocol=protocol)
    drawn = _bootstrap(names, given, masks, protocol)
    apart = len(found) > 1 and masks[1:].sum(0).max() <= 1
    labels = _relabelled(names, given, masks[1:], protocol, relabelled) if apart and relabelled else {}
    deviations, differences = [], []
    for name in names:
        key = {"grouping": grouping_of(found[0]), "attribute": attribute, "metric": name}
        own = _means(seen[name])
        rows, errors = _deviations(key, found, seen[name], drawn[name], protocol.level)
        deviations += rows
        if apart:
            row = {**key, "views": len(found), **_difference(own[1:], errors, drawn[name][:, 1:])}
            if labels:
                row["p_labels"] = _reached(labels[name], own[1:], masks[1:].sum(1))
            differences.append(row)
    return deviations, differences


def _deviations(
    key: dict, found: Sequence[View], each: np.ndarray, drawn: np.ndarray, level: float
) -> tuple[list[dict], np.ndarray]:
    """Return each view's row (value less global value, with its interval) and the error of its value."""
    own = _means(each)
    halves = [_means(each[:, i::2]) if each.shape[1] > 1 else np.full(len(each), np.nan) for i in (0, 1)]
    delta = drawn[:, 1:] - drawn[:, :1]
    errors = np.full(len(found), np.nan)
    tail = 100 * (1 - level) / 2
    rows = []
    for i, view in enumerate(found):
        row = {
            **key,
            "view": view.name,
            "n": view.size,
            "value": own[1 + i],
            "global": own[0],
            "delta": own[1 + i] - own[0],
        }
        row |= {
            f"{name}_{j + 1}": halves[j][at] for name, at in (("half", 1 + i), ("global", 0)) for j in (0, 1)
        }
        finite = delta[np.isfinite(delta[:, i]), i]
        if not np.isfinite(row["delta"]) or len(finite) < 2:
            reason = "the metric has no value in this view or in too few draws."
            rows.append({**row, "status": "undefined", "reason": reason})
            continue
        # Reflected percentiles of the draws' own deviations, recentred: both values carry the same finite-sample floor twice.
        low, high = np.percentile(finite - finite.mean(), [tail, 100 - tail]) + row["delta"]
        errors[i] = drawn[np.isfinite(drawn[:, 1 + i]), 1 + i].std(ddof=1)
        rows.append({**row, "ci_low": low, "ci_high": high, "status": "ok", "reason": ""})
    return rows, errors


def _difference(own: np.ndarray, errors: np.ndarray, drawn: np.ndarray) -> dict:
    """Return Cochran's Q over the views and what follows from it, or the reason why it cannot be had."""
    # A view whose value no draw moves has an error of rounding only; it would outweigh all others.
    with np.errstate(invalid="ignore"):
        errors = np.where(errors > 1e-4 * np.nanmax(errors, initial=0.0), errors, np.nan)
    try:
        h = heterogeneity(own, errors, draws=drawn - np.nanmean(drawn, axis=0) + own)
    except StatusError as problem:
        return {"status": problem.status, "reason": problem.reason}
    return {
        "q": h.q,
        "p": h.p_value,
        "i2": h.i2,
        "tau2": h.tau2,
        "mean": h.mean,
        "status": "ok",
        "reason": "",
    }


def _means(values: np.ndarray) -> np.ndarray:
    """Mean over probes of (m, P) values, over the defined ones."""
    have = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(have, values, 0).sum(1) / np.where(have.any(1), have.sum(1), np.nan)


def _blocks(given: Inputs) -> np.ndarray | None:
    """Return the number of each image's cluster, or None where images are drawn one by one."""
    named: Any = getattr(given, "blocks", None)
    return None if named is None else np.unique(np.asarray(named), return_inverse=True)[1]


def _bootstrap(
    names: Sequence[str], given: Inputs, masks: np.ndarray, protocol: Protocol
) -> dict[str, np.ndarray]:
    """Return each metric's mean over probes in each draw, globally and in each view, (B, 1 + views)."""
    codes, levels = given.coded
    part = np.unique(masks[1:].T.astype(np.int8), axis=0, return_inverse=True)[1].ravel()
    cells = part.astype(np.int64) * len(levels) + codes
    blocks = _blocks(given)
    weights = make.bootstrap(
        codes, len(levels), size=protocol.n_boot, seed=protocol.seed, cells=cells, blocks=blocks
    ).weights
    assert weights is not None
    found = [subset_values(names, given, weights * mask, protocol=protocol) for mask in masks]
    return {name: np.stack([_means(each[name]) for each in found], axis=1) for name in names}


def _relabelled(
    names: Sequence[str], given: Inputs, masks: np.ndarray, protocol: Protocol, times: int
) -> dict[str, np.ndarray]:
    """Return each metric's mean over probes in the views of permuted view labels, (times, views)."""
    codes, _ = given.coded
    labels = np.where(masks.any(0), masks.argmax(0), -1)
    rng = np.random.default_rng([protocol.seed, 5])
    blocks = _blocks(given)
    if blocks is not None:
        first = np.unique(blocks, return_index=True)[1]
    if blocks is not None and (labels[first][blocks] == labels).all():
        drawn = rng.permuted(np.tile(labels[first], (times, 1)), axis=1)[:, blocks]
    else:
        drawn = np.tile(labels, (times, 1))
        for g in np.unique(codes):
            at = np.flatnonzero(codes == g)
            drawn[:, at] = rng.permuted(drawn[:, at], axis=1)
    many = np.concatenate([drawn == v for v in range(len(masks))])
    values = subset_values(names, given, many, protocol=protocol)
    return {name: _means(values[name]).reshape(len(masks), times).T for name in names}


def _reached(values: np.ndarray, own: np.ndarray, sizes: np.ndarray) -> float:
    """Return the share of permuted view labels under which the views spread at least as far."""

    def spread(x: np.ndarray) -> np.ndarray:
        centre = (x * sizes).sum(-1, keepdims=True) / sizes.sum()
        return (sizes * (x - centre) ** 2).sum(-1)

    if not np.isfinite(own).all():
        return float("nan")
    return float((1 + (spread(values) >= spread(own) - 1e-12).sum()) / (1 + len(values)))
