"""The discounted divergence of every prefix of a ranking (the sum inside NDKL), for many draws at once.

The sum runs over all n prefixes and all groups, but a group's count changes only where one of its images
stands. Summed by parts it is one term per *image*: with ``f(c) = c ln c`` and discounts ``a_i``,

    sum_i a_i KL(c(i)/i || q) = sum_images (f(j) - f(j-1) - ln q_g) * sum_{i >= t} a_i / i  -  sum_i a_i ln i

for an image at position t that is the j-th of its group g. That costs n instead of n x G logarithms per
draw, and the logarithms are the same for all draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clipbias.metrics.draws import Draws
    from clipbias.metrics.tally import Order

_CHUNK = 2_000_000  # elements of a temporary array


def discounts(n: int) -> np.ndarray:
    """Return 1/log2(i+1) for positions i = 1..n."""
    return 1 / np.log2(np.arange(2, n + 2))


def prefix_divergence(order: Order, draws: Draws, reference: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return sum_{i<=depth} a_i KL(p^(i) || q) / sum_{i<=depth} a_i for each draw and probe, (D, P).

    Parameters
    ----------
    order : Order
    draws : Draws
    reference : ndarray (D, G)
    depth : ndarray of int (D,)
    """
    out = np.empty((draws.size, len(order.order)))
    small = np.uint8 if draws.n_groups < 256 else np.int16
    known = draws.codes.astype(small)
    counts = draws.weights
    if counts is not None and counts.max() <= 1:
        counts = counts.astype(bool)
    step = max(1, _CHUNK // order.order.shape[1])
    for p, images in enumerate(order.order):
        block = None if order.whole else order.block[p]
        for start in range(0, draws.size, step):
            rows = slice(start, min(start + step, draws.size))
            codes = known[rows].take(images, axis=1) if known.ndim == 2 else known[images]
            codes = np.broadcast_to(codes, (rows.stop - start, images.size))
            weights = None if counts is None else counts[rows].take(images, axis=1)
            q, d = reference[rows], depth[rows]
            if block is None:
                out[rows, p] = _by_image(codes, weights, q, d)
            else:
                out[rows, p] = _by_prefix(codes, weights, block, q, d)
    return np.maximum(out, 0.0)  # rounding may leave -1e-17 for a list that equals its reference


def _by_image(codes: np.ndarray, weights: np.ndarray | None, q: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Sum by parts; codes (D, n) in ranked order, no ties between different images."""
    draws, n_groups = q.shape
    if weights is None:
        sequence = codes
        lengths = np.full(draws, codes.shape[1])
    else:
        sequence = codes[weights] if weights.dtype == bool else np.repeat(codes.ravel(), weights.ravel())
        lengths = weights.sum(1, dtype=np.int64)
    longest = int(lengths.max())
    a = discounts(longest)
    position = np.arange(1, longest + 1)
    inner = np.concatenate([[0.0], np.cumsum(a / position)])
    norm, entropy = np.cumsum(a), np.cumsum(a * np.log(position))
    logs = position * np.log(position)
    step = np.diff(logs, prepend=0.0)
    same = bool((lengths == lengths[0]).all() and (depth == depth[0]).all())
    sequence = sequence.ravel()
    if same:
        tail = np.tile(np.maximum(inner[depth[0]] - inner[:-1], 0), draws)
    else:
        start = np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.arange(sequence.size) - start
        tail = np.maximum(np.repeat(inner[depth], lengths) - inner[at], 0)
    ends = np.cumsum(lengths)
    total = np.zeros(draws)
    with np.errstate(divide="ignore"):
        log_q = np.log(q)
    for g in range(n_groups):
        places = np.flatnonzero(sequence == g)
        if not places.size:
            continue
        counts = np.diff(np.searchsorted(places, ends), prepend=0)
        worth = tail[places]
        if (counts == counts[0]).all():
            worth = worth.reshape(draws, counts[0])
            total += worth @ step[: counts[0]] - log_q[:, g] * worth.sum(1)
        else:
            first = np.cumsum(counts) - counts
            row = np.repeat(np.arange(draws), counts)
            rank = np.arange(places.size) - first[row]
            total += np.bincount(row, worth * (step[rank] - log_q[row, g]), minlength=draws)
    return (total - entropy[depth - 1]) / norm[depth - 1]


def _by_prefix(
    codes: np.ndarray, weights: np.ndarray | None, block: np.ndarray, q: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Prefix by prefix, for rankings with ties: inside a tied block the expected count grows linearly."""
    out = np.empty(len(codes))
    n_groups, n_blocks = q.shape[1], int(block[-1]) + 1
    for d in range(len(codes)):
        weight = np.ones(block.size) if weights is None else weights[d].astype(float)
        cell = np.bincount(block * n_groups + codes[d], weight, minlength=n_blocks * n_groups)
        counts = np.concatenate(
            [np.zeros((1, n_groups)), np.cumsum(cell.reshape(n_blocks, n_groups), axis=0)]
        )
        i = np.arange(1, depth[d] + 1)
        ends = counts.sum(1)
        shares = np.stack([np.interp(i, ends, counts[:, g]) for g in range(n_groups)], axis=1) / i[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(shares > 0, shares * np.log(shares / q[d]), 0.0)
        a = discounts(depth[d])
        out[d] = (terms.sum(1) @ a) / a.sum()
    return out
