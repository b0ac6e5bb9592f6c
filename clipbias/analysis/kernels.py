"""Kernels as tiles of their U-centred Gram matrix (Székely & Rizzo 2014).

U-centring takes the diagonal out and makes every row sum zero. From it both estimators of CKA follow
without cancellation: ``<A, B>`` is n(n-3) times the unbiased HSIC, and the biased one differs by the
diagonals only.
"""

from __future__ import annotations

from functools import cached_property

import torch

from clipbias.analysis.features import Features

_MEDIAN_ROWS = 4096


class LinearKernel:
    """``K = X X^T`` of centred features."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.name = features.name

    @property
    def n(self) -> int:
        """Number of images."""
        return self.features.n

    @property
    def constant(self) -> bool:
        """Whether all images are alike, so that no similarity is defined."""
        return self.features.constant

    @property
    def diagonal(self) -> torch.Tensor:
        """Diagonal of the double-centred kernel, float64, shape (n,)."""
        return self.features.square

    @cached_property
    def row_sums(self) -> torch.Tensor:
        """Row sums of the kernel without its diagonal, float64, shape (n,)."""
        return -self.features.square  # the features are centred: the whole row sums to zero

    @cached_property
    def offsets(self) -> torch.Tensor:
        """What U-centring subtracts from row i and from column i, shape (n,)."""
        means = self.row_sums / (self.n - 2)
        return (means - means.sum() / (2 * (self.n - 1))).to(self.features.dtype)

    def _values(
        self, rows: torch.Tensor, columns: torch.Tensor, i: slice, j: slice, out: torch.Tensor
    ) -> None:
        torch.mm(rows, columns.T, out=out)

    def tile(self, i: slice, j: slice, out: torch.Tensor) -> None:
        """Write the U-centred Gram matrix at rows i and columns j into ``out``."""
        rows = self.features.block(i.start, i.stop, reuse="rows")
        columns = rows if i == j else self.features.block(j.start, j.stop, reuse="columns")
        self._values(rows, columns, i, j, out)
        out.sub_(self.offsets[i, None]).sub_(self.offsets[None, j])
        start, stop = max(i.start, j.start), min(i.stop, j.stop)
        if start < stop:
            out[start - i.start : stop - i.start, start - j.start : stop - j.start].fill_diagonal_(0)


class RBFKernel(LinearKernel):
    """``exp(-|x_i - x_j|^2 / (2 t^2 m))``, m the median of all n^2 squared distances.

    The zeros of the diagonal are part of the median (Kornblith et al. 2019, demo). Above 4096 images the
    median is taken over 4096 evenly spaced ones.
    """

    def __init__(self, features: Features, *, bandwidth: float = 0.5) -> None:
        super().__init__(features)
        self.bandwidth = bandwidth

    @cached_property
    def median(self) -> float:
        """Median squared distance after scaling."""
        step = -(-self.n // _MEDIAN_ROWS)
        x = torch.cat([self.features.block(i, i + 1) for i in range(0, self.n, step)]) if step > 1 else None
        x = self.features.whole() if x is None else x
        square = x.square().sum(1)
        distance = torch.addmm(square[:, None] + square[None, :], x, x.T, alpha=-2)
        flat = distance.fill_diagonal_(0).flatten()
        upper = flat.kthvalue(flat.numel() // 2 + 1).values
        lower = flat.kthvalue((flat.numel() + 1) // 2).values
        return float(upper.double() + lower.double()) / 2

    @property
    def constant(self) -> bool:
        """Whether all images are alike, or more than half of all pairs are."""
        return self.features.constant or not self.median > 0

    def _values(
        self, rows: torch.Tensor, columns: torch.Tensor, i: slice, j: slice, out: torch.Tensor
    ) -> None:
        square = self.features.square.to(out.dtype)
        torch.addmm(square[i, None] + square[None, j], rows, columns.T, alpha=-2, out=out)
        out.clamp_min_(0)  # a squared distance that rounding made negative
        out.mul_(-1 / (2 * self.bandwidth**2 * self.median)).exp_()

    @cached_property
    def row_sums(self) -> torch.Tensor:
        """Row sums of the kernel without its diagonal, float64, shape (n,)."""
        out = torch.zeros(self.n, dtype=torch.float64, device=self.features.device)
        step = max(1, (32 << 20) // (8 * self.n))
        everything = slice(0, self.n)
        columns = self.features.whole()
        for start in range(0, self.n, step):
            i = slice(start, min(start + step, self.n))
            values = torch.empty((i.stop - i.start, self.n), dtype=columns.dtype, device=columns.device)
            self._values(columns[i], columns, i, everything, values)
            values[:, i].fill_diagonal_(0)
            out[i] = values.sum(1, dtype=torch.float64)
        return out

    @cached_property
    def diagonal(self) -> torch.Tensor:
        """Diagonal of the double-centred kernel, float64, shape (n,)."""
        full = self.row_sums + 1
        return 1 - 2 * full / self.n + full.sum() / self.n**2


def make_kernels(features: list[Features], *, kernel: str, bandwidth: float) -> list[LinearKernel]:
    """Return one kernel for each matrix; ``kernel`` is ``"linear"`` or ``"rbf"``."""
    if kernel == "linear":
        return [LinearKernel(f) for f in features]
    return [RBFKernel(f, bandwidth=bandwidth) for f in features]
