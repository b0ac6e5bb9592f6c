"""Inner products of all pairs of Gram matrices: the matrix product that CKA of many models is.

Contents: the planner · symmetric tiles · row strips (with second moments per image) · feature form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from clipbias.analysis.kernels import LinearKernel
from clipbias.errors import DataError

_TILE_BYTES = 64 << 20
_FEATURE_LIMIT = 0.7  # total width over images below which float64 feature products are cheaper


@dataclass(frozen=True)
class Plan:
    """How a set of matrices will be compared, and what that needs.

    Attributes
    ----------
    form : {"features", "tiles", "strips"}
        Products of features, tiles of the Gram matrices, or whole rows of them (needed for standard errors).
    tile : int
        Images on a side of a tile, images in a strip, or matrix columns in a block of feature products.
    memory : int
        Bytes needed beyond the input.
    flop : float
        Floating-point operations, without centring.
    """

    form: str
    tile: int
    memory: int
    flop: float

    def __str__(self) -> str:
        return f"{self.form}, block {self.tile}, {self.memory / 1e6:.0f} MB beyond the input, {self.flop / 1e9:.3g} GFLOP"


def plan(
    n: int,
    widths: Sequence[int],
    *,
    errors: bool = False,
    kernel: str = "linear",
    dtype: str = "float32",
    memory: int = _TILE_BYTES,
) -> Plan:
    """Choose how to compare matrices, before anything is read.

    Parameters
    ----------
    n : int
        Images.
    widths : sequence of int
        Features of each matrix.
    errors : bool
        Whether jackknife standard errors are wanted.
    kernel : {"linear", "rbf"}
    dtype : {"float32", "float64"}
    memory : int
        Bytes that the largest buffer may take.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        Not even one row of all matrices fits.
    """
    count, total, size = len(widths), sum(widths), 8 if dtype == "float64" else 4
    pairs = float(count * count * n * n)
    if errors:
        rows = min(n, memory // (count * n * size))
        if rows < 1:
            raise DataError(
                f"{count} matrices of {n} images need {count * n * size / 1e6:.0f} MB for one row, {memory / 1e6:.0f} MB "
                "are allowed: use fewer images, fewer matrices, or memory=."
            )
        need = count * n * rows * size + count * count * (rows * size + 32) + 3 * n * max(widths) * size
        return Plan("strips", rows, int(need), 2.0 * n * n * total + 2 * pairs)
    if kernel == "linear" and total < _FEATURE_LIMIT * n:
        width = total + 2 * max(widths)  # all blocks side by side, and one of them on its way there
        step = max(1, min(n, memory // (8 * width)))
        return Plan("features", step, int(8 * (step * width + 2 * total * total)), 2.0 * n * total * total)
    side = min(n, max(1, int((memory / (count * size)) ** 0.5)))
    blocks = -(-n // side)
    side = -(-n // blocks)  # equal tiles
    need = count * side * side * size + 2 * side * max(widths) * size + count * count * 16
    return Plan("tiles", side, int(need), n * n * total + 0.75 * pairs)


@dataclass(frozen=True)
class GramSums:
    """All-pairs sums over images; every tensor is float64.

    Attributes
    ----------
    n : int
    inner : Tensor, shape (N, N)
        ``<A, B>`` of the U-centred Gram matrices: n(n-3) times the unbiased HSIC.
    biased : Tensor, shape (N, N)
        ``<HKH, HLH>``.
    moments : tuple of Tensor or None
        Over images i, with q_i the i-th row's part of ``inner``: the sum of q_i(a,b)^2, of q_i(a,b) q_i(a,a)
        and of q_i(a,a) q_i(b,b), each (N, N).
    """

    n: int
    inner: torch.Tensor
    biased: torch.Tensor
    moments: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None


class _exact_products:
    """Full float32 matrix products on a GPU, whatever the process has set."""

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.before


class Watcher(Protocol):
    """Sees the tiles of one kernel while the sums are made."""

    def see(self, i: slice, j: slice, tile: torch.Tensor, *, mirror: bool) -> None:
        """Take in the tile at rows i and columns j, for the mirrored place too where that is not made."""


def gram_sums(
    kernels: Sequence[LinearKernel], chosen: Plan, *, watchers: Sequence[Watcher | None] | None = None
) -> GramSums:
    """Return the sums of every pair of kernels under a plan; the form "features" makes no tiles to watch."""
    watchers = watchers or [None] * len(kernels)
    n = kernels[0].n
    with torch.no_grad(), _exact_products():
        if chosen.form == "features":
            biased, diagonal = _by_features(kernels, chosen.tile)
            return GramSums(n, biased - _lift(diagonal), biased)
        lift = _lift(torch.stack([k.diagonal for k in kernels]))
        if chosen.form == "tiles":
            inner = _by_tiles(kernels, chosen.tile, watchers)
            return GramSums(n, inner, inner + lift)
        inner, moments = _by_strips(kernels, chosen.tile, watchers)
        return GramSums(n, inner, inner + lift, moments)


def _lift(diagonal: torch.Tensor) -> torch.Tensor:
    """Return what the biased sum has more than the U-centred one, from the diagonals (N, n)."""
    n, trace = diagonal.shape[1], diagonal.sum(1)
    return diagonal @ diagonal.T * (n / (n - 2)) - torch.outer(trace, trace) / ((n - 1) * (n - 2))


def _by_tiles(kernels: Sequence[LinearKernel], side: int, watchers: Sequence[Watcher | None]) -> torch.Tensor:
    """Sum over square tiles on and above the diagonal; the Gram matrices are symmetric."""
    n, count, like = kernels[0].n, len(kernels), kernels[0].features
    buffer = torch.empty(count * side * side, dtype=like.dtype, device=like.device)
    total = torch.zeros((count, count), dtype=torch.float64, device=like.device)
    starts = range(0, n, side)
    for top in starts:
        i = slice(top, min(top + side, n))
        for left in range(top, n, side):
            j = slice(left, min(left + side, n))
            shape = (count, i.stop - i.start, j.stop - j.start)
            tiles = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
            for kernel, out, watcher in zip(kernels, tiles, watchers, strict=True):
                kernel.tile(i, j, out)
                if watcher is not None:
                    watcher.see(i, j, out, mirror=left != top)
            _add_products(tiles.view(count, -1), total, weight=1 if left == top else 2)
    upper = total.triu()
    return upper + total.triu(1).T


def _add_products(flat: torch.Tensor, total: torch.Tensor, *, weight: int, block: int = 64) -> None:
    """Add ``weight * flat @ flat.T`` to the upper triangle of ``total``."""
    for start in range(0, len(flat), block):
        rows = flat[start : start + block]
        total[start : start + block, start:] += (rows @ flat[start:].T).double() * weight


def _by_strips(
    kernels: Sequence[LinearKernel], rows: int, watchers: Sequence[Watcher | None]
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Sum over whole rows of all Gram matrices and keep the second moments over images."""
    n, count, like = kernels[0].n, len(kernels), kernels[0].features
    buffer = torch.empty((count, rows, n), dtype=like.dtype, device=like.device)
    total, own_cross, squares = (
        torch.zeros((count, count), dtype=torch.float64, device=like.device) for _ in range(3)
    )
    own = torch.empty((n, count), dtype=torch.float64, device=like.device)
    for start in range(0, n, rows):
        i = slice(start, min(start + rows, n))
        strip = buffer[:, : i.stop - i.start]
        for kernel, out, watcher in zip(kernels, strip, watchers, strict=True):
            kernel.tile(i, slice(0, n), out)
            if watcher is not None:
                watcher.see(i, slice(0, n), out, mirror=False)
        for k in range(i.stop - i.start):
            row = strip[:, k]
            q = (row @ row.T).double()
            diagonal = q.diagonal()
            own[start + k] = diagonal
            total += q
            squares.addcmul_(q, q)
            own_cross.addcmul_(q, diagonal[:, None])
    return total, (squares, own_cross, own.T @ own)


def _by_features(kernels: Sequence[LinearKernel], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``||X^T Y||^2`` for all pairs, and all diagonals.

    In float64 from the centring on: debiasing subtracts numbers of nearly the same size.
    """
    n, like = kernels[0].n, kernels[0].features
    widths = [k.features.p for k in kernels]
    cross = torch.zeros((sum(widths), sum(widths)), dtype=torch.float64, device=like.device)
    diagonal = torch.empty((len(kernels), n), dtype=torch.float64, device=like.device)
    buffer = torch.empty((min(step, n), sum(widths)), dtype=torch.float64, device=like.device)
    for start in range(0, n, step):
        stop = min(start + step, n)
        rows = buffer[: stop - start]
        for k, part in zip(kernels, rows.split(widths, 1), strict=True):
            part.copy_(k.features.block(start, stop, double=True, reuse="rows"))
        for out, part in zip(diagonal, rows.split(widths, 1), strict=True):
            torch.linalg.vecdot(part, part, out=out[start:stop])
        cross.addmm_(rows.T, rows)
    cross.square_()
    edge = torch.tensor([0, *widths], device=like.device).cumsum(0)
    sums = torch.nn.functional.pad(cross.cumsum(0).cumsum(1), (1, 0, 1, 0))[edge][:, edge]
    return sums.diff(dim=0).diff(dim=1), diagonal


def weighted_influence(
    kernels: Sequence[LinearKernel], sums: GramSums, weights: torch.Tensor, *, rows: int
) -> torch.Tensor:
    """Return the jackknife influence of every image on weighted sums of debiased CKA.

    Parameters
    ----------
    kernels : sequence of LinearKernel
    sums : GramSums
        Of the same kernels.
    weights : Tensor, shape (G, N, N)
        Symmetric weights of the pairs in each of G sums.
    rows : int
        Images in a strip.

    Returns
    -------
    Tensor, shape (G, n), float64
        Pseudo-values minus the estimate; their standard deviation over the square root of n is the
        standard error of each sum.
    """
    n, count, like = kernels[0].n, len(kernels), kernels[0].features
    norm = sums.inner.diagonal().sqrt()
    theta = sums.inner / torch.outer(norm, norm)
    scaled = (weights / torch.outer(norm, norm)).to(like.dtype)
    # The two "own" terms of the delta method collapse to one weight for each matrix: weights are symmetric.
    own_weight = (weights * theta).sum(2) / norm.square()
    out = torch.zeros((len(weights), n), dtype=torch.float64, device=like.device)
    buffer = torch.empty((count, rows, n), dtype=like.dtype, device=like.device)
    with torch.no_grad(), _exact_products():
        for start in range(0, n, rows):
            i = slice(start, min(start + rows, n))
            strip = buffer[:, : i.stop - i.start]
            for kernel, tile in zip(kernels, strip, strict=True):
                kernel.tile(i, slice(0, n), tile)
            flat = strip.reshape(count, -1)
            own = strip.square().sum(2).double()
            for g in range(len(weights)):
                mixed = (scaled[g] @ flat).mul_(flat).view(strip.shape).sum((0, 2), dtype=torch.float64)
                out[g, i] = mixed - own_weight[g] @ own
    return out * (2 * n * (n - 2) / (n - 4))
