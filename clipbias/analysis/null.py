"""The permutation null of CKA without permutations.

Mean, variance and third cumulant of ``<K, L_pi>`` over all n! orders of the images of one side are closed forms
in a few numbers of each matrix (Kazi-Aoual, Hitier, Sabatier & Lebreton 1995, the test of the RV coefficient).
The trace is taken out first, ``K - tr K/(n-1) H``: this only shifts the statistic, makes its mean zero, drops
most terms and avoids subtracting large numbers that are nearly equal. The U-centred Gram matrix of the debiased
estimator is already of that kind, so one formula serves both; there the variance of CKA is 2/(n(n-3)) whatever
the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from clipbias.analysis.kernels import LinearKernel
from clipbias.display import Shown
from clipbias.errors import DataError

_STRIP_BYTES = 16 << 20


@dataclass(frozen=True)
class Null(Shown):
    """Distribution of a similarity over random pairings of the images, for all pairs; each field is (N, N).

    Attributes
    ----------
    mean, sd, skewness : ndarray
    z : ndarray
        Observed value minus mean, over sd.
    p : ndarray
        Upper tail: how often unrelated pairings are at least this alike (Pearson type III).
    """

    mean: np.ndarray
    sd: np.ndarray
    skewness: np.ndarray
    z: np.ndarray
    p: np.ndarray


def pearson3_upper(z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """Return the upper tail of the standardised Pearson III distribution with given skewness."""
    z, a = np.broadcast_arrays(np.asarray(z, float), np.asarray(skewness, float))
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = 4 / a**2
        scaled = shape + z * 2 / a
        tail = np.where(a > 0, stats.gamma.sf(scaled, shape), stats.gamma.cdf(scaled, shape))
    return np.where(np.isnan(z), np.nan, np.where(np.abs(a) < 1e-4, stats.norm.sf(z), tail))


class RowSums:
    """Sums over the rows of one U-centred Gram matrix, gathered tile by tile.

    Tiles that CKA is computed from are seen on the way, so that the null needs no Gram matrix of its own.
    """

    def __init__(self, kernel: LinearKernel) -> None:
        n, features, d = kernel.n, kernel.features, kernel.diagonal
        self.kernel = kernel
        r = -d / (n - 2)  # U-centring of the double-centred kernel, whose rows sum to zero
        self.offset = r - r.sum() / (2 * (n - 1))
        self.shift = float(d.sum()) / (n - 1)
        self.m = d - d.mean()
        # Off the diagonal the traceless matrix is U_ij + s_i + s_j, so its sums follow from those of U.
        self.s = self.offset + self.shift / (2 * n)
        self._columns = torch.stack([self.s, self.s**2, self.m], 1).to(features.dtype)
        self._weights = torch.stack([torch.ones_like(self.s), self.s], 1).to(features.dtype)
        self.on_columns = torch.zeros((n, 3), dtype=torch.float64, device=d.device)  # U [s, s^2, m]
        self.square = torch.zeros((n, 2), dtype=torch.float64, device=d.device)  # U^2 [1, s], entrywise
        self.cube = torch.zeros(n, dtype=torch.float64, device=d.device)

    def see(self, i: slice, j: slice, tile: torch.Tensor, *, mirror: bool) -> None:
        """Take in the tile at rows i and columns j; ``mirror`` also counts it as rows j and columns i."""
        square = self.kernel.features.scratch.take(
            "power", (tile.shape[0], tile.shape[1]), tile.dtype, tile.device
        )
        torch.mul(tile, tile, out=square)
        self.on_columns[i] += tile @ self._columns[j]
        self.square[i] += square @ self._weights[j]
        if mirror:
            self.on_columns[j] += tile.T @ self._columns[i]
            self.square[j] += square.T @ self._weights[i]
        cube = square.mul_(tile)
        self.cube[i] += cube.sum(1)
        if mirror:
            self.cube[j] += cube.sum(0)

    def traceless(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return row sums of M_ij^2 with the diagonal, of M_ij^3 without, and of M_ij m_j without."""
        n, s, m = self.kernel.n, self.s, self.m
        u_s, u_s2, u_m = self.on_columns.unbind(1)
        u_square, u_square_s = self.square.unbind(1)
        s1, s2, s3 = s.sum(), s.square().sum(), s.pow(3).sum()
        square = u_square + 2 * u_s + (n - 1) * s**2 + 2 * s * (s1 - s) + s2 - s**2 + m**2
        cube = self.cube + 3 * (s * u_square + u_square_s) + 6 * s * u_s + 3 * u_s2
        cube = cube + (n - 1) * s**3 + 3 * s**2 * (s1 - s) + 3 * s * (s2 - s**2) + s3 - s**3
        return square, cube, u_m - 2 * s * m + (s * m).sum()  # m sums to zero


def watchers(kernels: Sequence[LinearKernel]) -> list[RowSums | None]:
    """Return what gathers the null's sums while CKA is computed; None where whole matrices are needed."""
    return [RowSums(k) if _narrow(k) else None for k in kernels]


def _narrow(kernel: LinearKernel) -> bool:
    return kernel.features.p <= kernel.n and type(kernel) is LinearKernel


def traceless_invariants(kernel: LinearKernel, sums: RowSums | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what the null needs of one matrix: for the biased and for the debiased statistic.

    Parameters
    ----------
    kernel : LinearKernel
    sums : RowSums, optional
        That has seen the whole matrix; gathered here otherwise.

    Returns
    -------
    biased, debiased : ndarray, shape (7,)
        Of the traceless matrix M with diagonal m: sum M_ij^2, sum m^2, sum m^3, sum M_ij^3, m'Mm,
        sum m_i (M^2)_ii and tr M^3, float64.
    """
    n, features, d = kernel.n, kernel.features, kernel.diagonal
    whole = None if _narrow(kernel) else torch.empty((n, n), dtype=torch.float64, device=features.device)
    if sums is None:
        sums = RowSums(kernel)
        size = torch.finfo(features.dtype).bits // 8
        step = min(n, max(1, _STRIP_BYTES // (size * n)))
        buffer = features.scratch.take("strip", (step, n), features.dtype, features.device)
        for start in range(0, n, step):
            i = slice(start, min(start + step, n))
            tile = buffer[: i.stop - i.start]
            kernel.tile(i, slice(0, n), tile)
            if whole is not None:
                whole[i] = tile
            sums.see(i, slice(0, n), tile, mirror=False)
    m, r, shift, u_square = sums.m, sums.offset, sums.shift, sums.square[:, 0]
    e = d - 2 * r  # diagonal of K - r1' - 1r', whose off-diagonal is the U-centred matrix
    k_square, k_cube, k_on_m = sums.traceless()
    t3_biased, t3_debiased = _third_traces(kernel, whole, d, r, e, u_square, shift)
    biased = [
        k_square.sum(), m.square().sum(), m.pow(3).sum(), k_cube.sum() + m.pow(3).sum(),
        (m * (k_on_m + m * m)).sum(), (m * k_square).sum(), t3_biased,
    ]  # fmt: skip
    zero = torch.zeros((), dtype=torch.float64)
    debiased = [u_square.sum(), zero, zero, sums.cube.sum(), zero, zero, t3_debiased]
    return tuple(np.array([float(v) for v in values]) for values in (biased, debiased))  # type: ignore[return-value]


def _third_traces(
    kernel: LinearKernel,
    whole: torch.Tensor | None,
    d: torch.Tensor,
    r: torch.Tensor,
    e: torch.Tensor,
    u_square: torch.Tensor,
    shift: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Traces of the cubes, through p x p matrices when the features are fewer than the images."""
    n = kernel.n
    if whole is not None:
        debiased = ((whole @ whole) * whole).sum()
        double = whole + r[:, None] + r[None, :]
        double.fill_diagonal_(0)
        double.add_(shift / n)
        double.diagonal().copy_(d - shift * (n - 1) / n)
        return ((double @ double) * double).sum(), debiased
    features = kernel.features
    p, sides = features.p, torch.stack([r, torch.ones_like(r)], 1)
    moment = torch.zeros((p, p), dtype=torch.float64, device=d.device)
    edge = torch.zeros((p, 2), dtype=torch.float64, device=d.device)  # X'[r, 1]
    for start, stop in features.chunks():
        rows = features.block(start, stop, reuse="rows")
        moment += rows.T @ rows
        edge += (rows.T @ sides[start:stop].to(rows.dtype)).double()
    narrow = moment.to(features.dtype)
    t2, t3 = moment.square().sum(), ((narrow @ narrow).double() * moment).sum()
    biased = t3 - 3 * shift * t2 + 3 * shift**2 * d.sum() - shift**3 * (n - 1)
    # K - r1' - 1r' = Z J Z' with Z = [X, r, 1]; the trace of (J Z'Z)^3 by blocks.
    swap = torch.tensor([[0.0, -1.0], [-1.0, 0.0]], dtype=torch.float64, device=d.device)
    below, corner = swap @ edge.T, swap @ (sides.T @ sides)
    low_rank = t3 + 3 * (below @ (moment @ edge)).trace() + 3 * (corner @ (below @ edge)).trace()
    low_rank += (corner @ corner @ corner).trace()
    row_square = u_square + e.square()
    return biased, low_rank - 3 * (e * row_square).sum() + 2 * e.pow(3).sum()


def _third_moment_weights(n: int) -> np.ndarray:
    """Coefficients of the third moment between (S3, U, B, R, T3) of the two sides (Kazi-Aoual et al. 1995)."""
    s3_u, s3_b = -4 * n * (n - 1) * (n**2 - n + 4), -6 * n * (n - 1) * (n**2 - n + 4)
    s3_r, s3_t = -12 * n * (n - 1) ** 2 * (n + 4), 16 * n * (n - 1) * (n - 2)
    u_b, u_r = 24 * (n**2 - n - 4), 24 * (n**3 - 3 * n**2 - 2 * n + 8)
    u_t, b_r = -8 * (3 * n**2 - 15 * n + 16), 24 * (n**3 - 2 * n**2 - 3 * n + 12)
    b_t, r_t = -8 * (3 * n**2 - 15 * n + 24), -8 * (n - 2) * (3 * n**2 - 15 * n + 24)
    s3 = n**2 * (n + 1) * (n**2 + 15 * n - 4)
    u, b = 4 * (n**4 - 8 * n**3 + 19 * n**2 - 4 * n - 16), 6 * (n**4 - 8 * n**3 + 21 * n**2 - 6 * n - 24)
    r, t = 12 * (n**4 - n**3 - 8 * n**2 + 36 * n - 48), 8 * (n**3 - 9 * n**2 + 26 * n - 22)
    table = [
        [s3, s3_u, s3_b, s3_r, s3_t],
        [s3_u, u, u_b, u_r, u_t],
        [s3_b, u_b, b, b_r, b_t],
        [s3_r, u_r, b_r, r, r_t],
        [s3_t, u_t, b_t, r_t, t],
    ]
    return np.array(table, float) / float(n * (n - 1) * (n - 2) * (n - 3) * (n - 4) * (n - 5))


def null_moments(x: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return variance and third moment of ``<M, N_pi>`` over all permutations, for every pair.

    Parameters
    ----------
    x, y : ndarray, shapes (A, 7) and (B, 7)
        `traceless_invariants` of each matrix.
    n : int
        Images, at least 6.

    Returns
    -------
    variance, third : ndarray, shape (A, B)
    """
    spread_x, spread_y = (n * (n + 1) * v[:, 1] - 2 * (n - 1) * v[:, 0] for v in (x, y))
    variance = 2 * np.outer(x[:, 0], y[:, 0]) / ((n + 1) * (n - 2))
    variance += np.outer(spread_x, spread_y) / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    return variance, x[:, 2:] @ _third_moment_weights(n) @ y[:, 2:].T


def permutation_null(
    kernels: Sequence[LinearKernel],
    biased: np.ndarray,
    debiased: np.ndarray,
    *,
    sums: Sequence[RowSums | None] | None = None,
) -> tuple[Null, Null]:
    """Return the null of debiased and of biased CKA for all pairs.

    Parameters
    ----------
    kernels : sequence of LinearKernel
    biased, debiased : ndarray, shape (N, N)
        Observed values; NaN stays NaN.
    sums : sequence of RowSums or None, optional
        What was gathered while the values were computed.

    Raises
    ------
    DataError
        Fewer than 6 images: the third moment does not exist; enumerate instead.
    """
    n = kernels[0].n
    if n < 6:
        raise DataError(f"the analytic permutation null needs at least 6 images, there are {n}.")
    found = [
        traceless_invariants(k, own) for k, own in zip(kernels, sums or [None] * len(kernels), strict=True)
    ]
    trace = np.array([float(k.diagonal.sum()) for k in kernels])
    first = np.array([f[0] for f in found])
    power_biased = first[:, 0] + trace**2 / (n - 1)
    second = np.array([f[1] for f in found])
    nulls = []
    for invariants, power, observed, mean in (
        (second, second[:, 0], debiased, np.zeros_like(debiased)),
        (first, power_biased, biased, np.outer(trace, trace) / (n - 1)),
    ):
        variance, third = null_moments(invariants, invariants, n)
        with np.errstate(invalid="ignore", divide="ignore"):
            norm = np.sqrt(np.outer(power, power))
            sd = np.sqrt(variance)
            skewness = third / variance**1.5
            centre, spread = mean / norm, sd / norm
            z = (observed - centre) / spread
        gone = np.isnan(observed)
        centre, spread, skewness = (np.where(gone, np.nan, v) for v in (centre, spread, skewness))
        nulls.append(Null(centre, spread, skewness, z, pearson3_upper(z, skewness)))
    return nulls[0], nulls[1]
