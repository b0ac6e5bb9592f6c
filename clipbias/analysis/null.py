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
from clipbias.errors import DataError

_STRIP_BYTES = 16 << 20


@dataclass(frozen=True)
class Null:
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


def traceless_invariants(kernel: LinearKernel) -> tuple[np.ndarray, np.ndarray]:
    """Return what the null needs of one matrix: for the biased and for the debiased statistic.

    Returns
    -------
    biased, debiased : ndarray, shape (7,)
        Of the traceless matrix M with diagonal m: sum M_ij^2, sum m^2, sum m^3, sum M_ij^3, m'Mm,
        sum m_i (M^2)_ii and tr M^3, float64.
    """
    n, features = kernel.n, kernel.features
    d = kernel.diagonal
    r = -d / (n - 2)  # U-centring of the double-centred kernel, whose rows sum to zero
    r = r - r.sum() / (2 * (n - 1))
    e = d - 2 * r  # diagonal of K - r1' - 1r', whose off-diagonal is the U-centred matrix
    size = torch.finfo(features.dtype).bits // 8
    step = max(1, _STRIP_BYTES // (size * n))
    small = features.p <= n and type(kernel) is LinearKernel
    buffer = torch.empty((min(step, n), n), dtype=features.dtype, device=features.device)
    whole = None if small else torch.empty((n, n), dtype=torch.float64, device=features.device)
    u_square, u_cube, k_square, k_cube, k_row_d = (
        torch.zeros(n, dtype=torch.float64, device=d.device) for _ in range(5)
    )
    centre = d - d.mean()
    shift = float(d.sum()) / (n - 1)
    for start in range(0, n, step):
        i = slice(start, min(start + step, n))
        tile = buffer[: i.stop - i.start]
        kernel.tile(i, slice(0, n), tile)
        if whole is not None:
            whole[i] = tile
        u_square[i] = (tile * tile).sum(1, dtype=torch.float64)
        u_cube[i] = (tile * tile).mul_(tile).sum(1, dtype=torch.float64)
        # Back to the off-diagonal of the traceless double-centred matrix.
        tile.add_(r[i, None].to(tile.dtype)).add_((r + shift / n).to(tile.dtype)[None, :])
        tile[:, i].fill_diagonal_(0)
        k_row_d[i] = (tile @ centre.to(tile.dtype)).double()
        square = tile * tile
        k_square[i] = square.sum(1, dtype=torch.float64)
        k_cube[i] = square.mul_(tile).sum(1, dtype=torch.float64)
    k_square += centre.square()
    t3_biased, t3_debiased = _third_traces(kernel, whole, d, r, e, u_square, shift)
    m = centre
    biased = [
        k_square.sum(), m.square().sum(), m.pow(3).sum(), k_cube.sum() + m.pow(3).sum(),
        (m * (k_row_d + m * m)).sum(), (m * k_square).sum(), t3_biased,
    ]  # fmt: skip
    zero = torch.zeros((), dtype=torch.float64)
    debiased = [u_square.sum(), zero, zero, u_cube.sum(), zero, zero, t3_debiased]
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
    p = features.p
    inner = torch.zeros((p + 2, p + 2), dtype=torch.float64, device=d.device)
    for start, stop in features.chunks():
        rows = features.block(start, stop).double()
        z = torch.cat([rows, r[start:stop, None], torch.ones_like(r[start:stop, None])], 1)
        inner += z.T @ z
    moment = inner[:p, :p]
    square = moment @ moment
    t2, t3 = moment.square().sum(), (square * moment).sum()
    biased = t3 - 3 * shift * t2 + 3 * shift**2 * d.sum() - shift**3 * (n - 1)
    signed = inner.clone()  # J Z'Z with J = diag(I, [[0, -1], [-1, 0]])
    signed[p], signed[p + 1] = -inner[p + 1], -inner[p]
    low_rank = ((signed @ signed) * signed.T).sum()
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
    kernels: Sequence[LinearKernel], biased: np.ndarray, debiased: np.ndarray
) -> tuple[Null, Null]:
    """Return the null of debiased and of biased CKA for all pairs.

    Parameters
    ----------
    kernels : sequence of LinearKernel
    biased, debiased : ndarray, shape (N, N)
        Observed values; NaN stays NaN.

    Raises
    ------
    DataError
        Fewer than 6 images: the third moment does not exist; enumerate instead.
    """
    n = kernels[0].n
    if n < 6:
        raise DataError(f"the analytic permutation null needs at least 6 images, there are {n}.")
    found = [traceless_invariants(k) for k in kernels]
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
