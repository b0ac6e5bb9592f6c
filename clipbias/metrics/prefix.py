"""The discounted divergence of every prefix of a ranking (the sum inside NDKL), for many draws at once.

The sum runs over all n prefixes and all groups, but a group's count changes only where one of its images
stands. Summed by parts it is one term per *image*: with ``f(c) = c ln c`` and discounts ``a_i``,

    sum_i a_i KL(c(i)/i || q) = sum_images (f(j) - f(j-1) - ln q_g) * sum_{i >= t} a_i / i  -  sum_i a_i ln i

for an image at position t that is the j-th of its group g. That costs n instead of n x G logarithms per
draw, and the logarithms are the same for all draws.

Prefixes that end inside a block of tied images have the expected counts, which grow linearly through the block.
They are left out of the sum by parts (weight 0 in its tails) and added one by one: usually they are few.
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
    live: np.ndarray | None = None
    if counts is not None:
        used = np.asarray(counts.any(0))
        live = None if used.all() else used  # images that no draw has need not be walked over
        if counts.max() <= 1:
            counts = counts.astype(bool)
    for p, images in enumerate(order.order):
        block = None if order.whole else order.block[p]
        if live is not None:
            stay = live[images]
            images = images[stay]
            block = None if block is None else block[stay]
        if block is not None and (np.diff(block) > 0).all():
            block = None  # the tied images are not among those that are drawn
        step = max(1, _CHUNK // images.size)
        for start in range(0, draws.size, step):
            rows = slice(start, min(start + step, draws.size))
            codes = known[rows].take(images, axis=1) if known.ndim == 2 else known[images]
            codes = np.broadcast_to(codes, (rows.stop - start, images.size))
            weights = None if counts is None else counts[rows].take(images, axis=1)
            out[rows, p] = _divergence(codes, weights, block, reference[rows], depth[rows])
    return np.maximum(out, 0.0)  # rounding may leave -1e-17 for a list that equals its reference


def _divergence(
    codes: np.ndarray, weights: np.ndarray | None, block: np.ndarray | None, q: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Return the mean divergence of draws; codes and weights (D, n) in ranked order, block (n,) where images are tied."""
    draws, n_groups = q.shape
    if weights is None:
        sequence = codes
        lengths = np.full(draws, codes.shape[1])
    else:
        sequence = codes[weights] if weights.dtype == bool else np.repeat(codes.ravel(), weights.ravel())
        lengths = weights.sum(1, dtype=np.int64)
    longest = int(lengths.max())
    position = np.arange(1, longest + 1)
    a = discounts(longest)
    norm, entropy = np.cumsum(a), np.cumsum(a * np.log(position))
    step = np.diff(position * np.log(position), prepend=0.0)
    with np.errstate(divide="ignore"):
        log_q = np.log(q)
    inside = None if block is None else _Inside(codes, weights, block, n_groups, depth)
    tail = _tails(a / position, lengths, depth, inside)
    sequence = sequence.ravel()
    ends = np.cumsum(lengths)
    total = np.zeros(draws)
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
    if inside is not None:
        total += inside.sums(a, log_q)
    return (total - entropy[depth - 1]) / norm[depth - 1]


def _tails(density: np.ndarray, lengths: np.ndarray, depth: np.ndarray, inside: _Inside | None) -> np.ndarray:
    """Return sum_{t <= i <= depth} a_i / i for every position t of every draw, one draw after the other."""
    draws, longest = len(lengths), density.size
    if inside is None and (lengths == lengths[0]).all() and (depth == depth[0]).all():
        inner = np.concatenate([[0.0], np.cumsum(density)])
        return np.tile(np.maximum(inner[depth[0]] - inner[:-1], 0), draws)
    each = np.where(np.arange(longest) < depth[:, None], density, 0.0)
    if inside is not None:
        each[inside.draw, inside.prefix - 1] = 0.0
    tails = np.cumsum(each[:, ::-1], axis=1)[:, ::-1]
    return tails[np.arange(longest) < lengths[:, None]]


class _Inside:
    """The prefixes that end inside a block of ties, in all draws: whose they are, how long, what they hold."""

    def __init__(
        self,
        codes: np.ndarray,
        weights: np.ndarray | None,
        block: np.ndarray,
        n_groups: int,
        depth: np.ndarray,
    ) -> None:
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        ends = np.append(starts[1:], block.size)
        tied = ends - starts > 1
        starts, ends = starts[tied], ends[tied]
        # Images of each group before a block and in it, (G, D, blocks).
        self.before = np.empty((n_groups, len(codes), starts.size), np.int32)
        self.held = np.empty_like(self.before)
        ones = np.ones(codes.shape, bool) if weights is None else weights
        for g in range(n_groups):
            running = np.cumsum(ones * (codes == g), axis=1, dtype=np.int32)
            self.before[g] = np.where(starts > 0, running[:, starts - 1], 0)
            self.held[g] = running[:, ends - 1] - self.before[g]
        sizes = self.held.sum(0).ravel()
        many = np.maximum(sizes - 1, 0).astype(np.int64)
        where = np.repeat(np.arange(many.size), many)
        nth = np.arange(where.size) - np.repeat(np.cumsum(many) - many, many) + 1
        draw = where // max(1, starts.size)
        prefix = self.before.sum(0).ravel()[where] + nth
        keep = prefix <= depth[draw]
        self.draw, self.prefix, self.where = draw[keep], prefix[keep], where[keep]
        self.part = nth[keep] / sizes[self.where]

    def sums(self, a: np.ndarray, log_q: np.ndarray) -> np.ndarray:
        """Return their part of each draw's sum, without the entropy of the position, (D,)."""
        total = np.zeros(self.where.size)
        for g, (before, held) in enumerate(zip(self.before, self.held, strict=True)):
            count = before.ravel()[self.where] + held.ravel()[self.where] * self.part
            with np.errstate(divide="ignore", invalid="ignore"):
                total += np.where(count > 0, count * (np.log(count) - log_q[self.draw, g]), 0.0)
        return np.bincount(self.draw, total * a[self.prefix - 1] / self.prefix, minlength=len(log_q))
