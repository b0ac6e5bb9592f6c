"""What a metric counts in each draw: images among the first k by group, hits by group.

The order of the images under a probe never changes between draws. Counting the first k of a permuted
labelling is therefore a matrix product of a fixed (fractional, tie-aware) indicator with one-hot labels,
and a bootstrap draw is a running sum of weights along the fixed order. No loop runs over images.

Axes: D draws, P probes, G groups, n images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from clipbias.errors import DataError, nearest
from clipbias.metrics.checks import resolve_k
from clipbias.metrics.draws import Draws
from clipbias.metrics.prefix import prefix_divergence


class Order:
    """The fixed order of n images under P probes, highest score first, and its ties.

    Attributes
    ----------
    scores : ndarray (P, n)
    order : ndarray (P, n)
        Images from first to last.
    block : list
        Per probe, the tie block of each *position*, or None where no two scores are equal.
    whole : bool
        ``ties="all"``: a block that begins among the first k is counted whole in the first k; prefixes follow the
        order of the input.
    """

    def __init__(self, scores: np.ndarray, ties: str = "expected") -> None:
        if ties not in ("expected", "order", "all"):
            raise DataError(f"ties={ties!r} is unknown." + nearest(ties, ("expected", "order", "all")))
        self.whole = ties == "all"
        self.scores = scores
        self.order = np.argsort(-scores, axis=1, kind="stable")
        self.block: list[np.ndarray | None] = []
        ranked = np.take_along_axis(scores, self.order, axis=1)
        new = ranked[:, 1:] != ranked[:, :-1]
        for p in range(len(scores)):
            tied = ties != "order" and not new[p].all()
            self.block.append(np.concatenate([[0], np.cumsum(new[p])]) if tied else None)

    def indicator(self, k: int) -> np.ndarray:
        """Return (P, n): the chance that an image is among the first k under random tie-breaking."""
        out = np.zeros(self.scores.shape)
        for p, block in enumerate(self.block):
            if block is None:
                out[p, self.order[p, :k]] = 1.0
            else:
                size = np.bincount(block)
                before = np.cumsum(size) - size
                part = np.clip((k - before) / size, 0, 1)
                out[p, self.order[p]] = (np.ceil(part) if self.whole else part)[block]
        return out


class RankingTally:
    """Counts of ranked images in D draws, handed to the kernels of ranking metrics.

    Attributes
    ----------
    totals : ndarray (D, G)
        Images per group.
    k : ndarray (D,)
        Length of the list.
    topk : ndarray (D, P, G)
        (Expected) images of each group among the first k.
    share : ndarray (D, P, G)
        ``topk / k``.
    reference : ndarray (D, G)
        Shares of a fair list.
    zero : str
        What an absent group counts as.
    world : ndarray (P, G) or None
        Shares of the groups in the real world, per probe; NaN where not known.
    bias : str
        Whether Bias@K is ``"corrected"`` by the reference or ``"raw"``.
    """

    world: np.ndarray | None = None

    def __init__(
        self,
        order: Order,
        draws: Draws,
        levels: Sequence[Any],
        *,
        k: float = 1.0,
        reference: str | Mapping[Any, float] = "base_rate",
        zero: str = "exclude",
        bias: str = "corrected",
    ) -> None:
        if zero not in ("exclude", "peer"):
            raise DataError(f"zero={zero!r} is unknown." + nearest(zero, ("exclude", "peer")))
        self.order, self.draws, self.levels, self.zero, self.bias = order, draws, levels, zero, bias
        self.totals = draws.totals
        self.n = self.totals.sum(1)
        sizes, which = np.unique(self.n, return_inverse=True)
        self.k = np.array([resolve_k(k, int(n)) for n in sizes], dtype=np.float64)[which]
        self.reference = shares(reference, self.totals, levels)
        self.base_rate = isinstance(reference, str) and reference == "base_rate"
        self.factor = draws.small_sample_factor

    @cached_property
    def topk(self) -> np.ndarray:
        """(Expected) images of each group among the first k, (D, P, G)."""
        draws, order = self.draws, self.order
        if draws.weights is None:
            first = order.indicator(int(self.k[0])).T
            return np.stack([m @ first for m in draws.masses()], axis=-1)
        one_hot = np.eye(draws.n_groups, dtype=np.float32)[draws.codes]
        out = np.empty((draws.size, len(order.order), draws.n_groups))
        weights = draws.weights.astype(np.float32)
        k = self.k[:, None].astype(np.float32)
        # Behind the place where a draw is full nothing counts: look no further than a guess, and than its double if need be.
        guess = int(1.5 * (self.k / (self.n / weights.shape[1])).max()) + 32
        for p, whole in enumerate(order.order):
            block = order.block[p]
            images, ranked = whole[:0], weights[:, :0]
            while not len(images) or (len(images) < len(whole) and (ranked.sum(1) < k[:, 0]).any()):
                reach = 2 * len(images) or guess
                if block is not None and reach < len(whole):  # never through the middle of a tied block
                    reach = int(np.searchsorted(block, block[reach - 1], side="right"))
                images = whole[:reach]
                ranked = weights.take(images, axis=1)
            if block is not None:
                inside = block[: len(images)]
                starts = np.flatnonzero(np.diff(inside, prepend=-1))
                ranked = ranked.astype(np.float64)  # fractions; whole numbers are exact in float32
                size = np.add.reduceat(ranked, starts, axis=1)
                before = np.cumsum(size, axis=1) - size
                part = np.clip(k - before, 0, size) / np.maximum(size, 1)
                if order.whole:
                    part = np.ceil(part)
                ranked *= part[:, inside]
            else:
                room = k - np.cumsum(ranked, axis=1) + ranked
                ranked = np.clip(room, 0, ranked, out=room)
            out[:, p] = ranked @ one_hot[images]
        return out

    @property
    def share(self) -> np.ndarray:
        """Share of each group among the first k, (D, P, G)."""
        return self.topk / self.k[:, None, None]

    @cached_property
    def skew(self) -> np.ndarray:
        """Natural log of share over reference, (D, P, G); NaN for a group without images or reference."""
        share, reference = self.share, self.reference[:, None, :]
        if self.zero == "peer":
            share = np.where(share == 0, 1 / self.k[:, None, None], share)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.log(share / reference)
        return np.where((self.totals[:, None, :] > 0) & (reference > 0), out, np.nan)

    @cached_property
    def association(self) -> np.ndarray:
        """Mean score of a group minus that of the others, over the standard deviation, (D, P, G)."""
        scores = self.order.scores - self.order.scores.mean(1, keepdims=True)
        sums = np.stack([m @ scores.T for m in self.draws.masses()], axis=-1)
        total = sums.sum(-1)
        if self.draws.weights is None:
            square = (scores**2).sum(1)[None]
        else:
            square = self.draws.weights.astype(np.float64) @ (scores**2).T
        n = self.n[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = (square - total**2 / n) / (n - 1)
            # Rounding leaves a speck of variance in constant scores.
            variance = np.where(variance > 1e-12 * (self.order.scores**2).max(1), variance, np.nan)
            mine = self.totals[:, None, :]
            gap = sums / mine - (total[..., None] - sums) / (n[..., None] - mine)
            out = gap / np.sqrt(variance)[..., None]
        return np.where((mine > 0) & (mine < n[..., None]), out, np.nan)

    def divergence(self, depth: np.ndarray | None = None) -> np.ndarray:
        """Discounted mean KL divergence of all prefixes (up to ``depth``) from the reference, (D, P)."""
        depth = self.n if depth is None else depth
        return prefix_divergence(self.order, self.draws, self.reference, depth.astype(int))

    def positional(self, weight: np.ndarray) -> np.ndarray:
        """Mean over the images of a group of ``weight[position]``, (D, P, G); tied images share theirs."""
        out = np.empty((self.draws.size, len(self.order.order), self.draws.n_groups))
        masses = list(self.draws.masses())
        running = np.concatenate([[0.0], np.cumsum(weight)])
        for p, images in enumerate(self.order.order):
            block = self.order.block[p]
            block = np.arange(images.size) if block is None else block
            if self.draws.weights is None:
                size = np.bincount(block)[None]
            else:
                starts = np.flatnonzero(np.diff(block, prepend=-1))
                size = np.add.reduceat(self.draws.weights[:, images], starts, axis=1, dtype=np.int64)
            end = np.cumsum(size, axis=1)
            mean = (running[end] - running[end - size]) / np.maximum(size, 1)
            each = mean[:, block]
            for g, mass in enumerate(masses):
                out[:, p, g] = (mass[:, images] * each).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return out / self.totals[:, None, :]


def shares(reference: str | Mapping[Any, float], totals: np.ndarray, levels: Sequence[Any]) -> np.ndarray:
    """Return the reference shares (D, G) for group sizes (D, G)."""
    if isinstance(reference, str):
        if reference == "base_rate":
            return totals / totals.sum(1, keepdims=True)
        if reference == "uniform":
            return np.full(totals.shape, 1 / totals.shape[1])
        raise DataError(
            f"reference={reference!r} is unknown; give 'base_rate', 'uniform' or a share for each level."
            + nearest(reference, ("base_rate", "uniform"))
        )
    # Rows of a study name levels as strings, whatever type the column has.
    given = {str(level): float(share) for level, share in reference.items()}
    missing = [level for level in levels if str(level) not in given]
    extra = set(given) - {str(level) for level in levels}
    if missing or extra:
        raise DataError(
            f"the reference must give a share for each of the levels {list(levels)}: "
            f"missing {missing}, not a level {sorted(extra)}."
        )
    q = np.array([given[str(level)] for level in levels])
    if (q < 0).any() or abs(q.sum() - 1) > 1e-6:
        raise DataError(f"the reference shares must be 0 or more and add up to 1; they are {given}.")
    if ((q == 0) & (totals > 0).any(0)).any():
        level = levels[int(np.argmax((q == 0) & (totals > 0).any(0)))]
        raise DataError(
            f"the reference share of {level!r} is 0 but it has images: its skew would be infinite."
        )
    return np.broadcast_to(q, totals.shape)


class RateTally:
    """Hits by probe and group in D draws, handed to the kernels of classification and retrieval metrics.

    Attributes
    ----------
    facts : mapping of str to ndarray (P, n)
        What is known of each item for each probe (``hit``, ``among``, ...), see the inputs.
    totals : ndarray (D, G)
        Items per group.
    """

    def __init__(self, facts: Mapping[str, np.ndarray], draws: Draws) -> None:
        self.facts, self.draws = facts, draws
        self.totals = draws.totals
        self.factor = draws.small_sample_factor

    def count(self, what: np.ndarray) -> np.ndarray:
        """Sum a (P, n) quantity over the items of each group, (D, P, G)."""
        what = what.astype(np.float32).T
        return np.stack([m @ what for m in self.draws.masses()], axis=-1).astype(np.float64)

    def rate(self, hit: str, among: str | None = None) -> np.ndarray:
        """Share of hits among the items of each group, (D, P, G); NaN where a group has none."""
        if among is None:
            number, of = self.count(self.facts[hit]), self.totals[:, None, :]
        else:
            number, of = self.count(self.facts[hit] * self.facts[among]), self.count(self.facts[among])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(of > 0, number / of, np.nan)

    def pooled(self, hit: str, among: str | None = None) -> np.ndarray:
        """Share of hits among the items of all groups, (D, P, 1): what each group's rate is under permuted labels."""
        number = self.count(self.facts[hit] if among is None else self.facts[hit] * self.facts[among])
        of = self.totals[:, None, :] if among is None else self.count(self.facts[among])
        with np.errstate(divide="ignore", invalid="ignore"):
            return number.sum(-1, keepdims=True) / of.sum(-1, keepdims=True)

    @cached_property
    def recall(self) -> np.ndarray:
        """Hits among the items that belong to the probe, (D, P, G)."""
        return self.rate("hit", "among")
