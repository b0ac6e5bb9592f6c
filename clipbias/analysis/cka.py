"""Centred kernel alignment with its standard error, for one pair or for all pairs at once.

Sources: Cortes et al. 2012; Kornblith et al. 2019 (arXiv 1905.00414); Székely & Rizzo 2014 and Song et al. 2012
(JMLR 13, eq. 5) for the debiased estimator; Robert & Escoufier 1976 (the same number as the RV coefficient).
Nothing is added to a denominator and nothing is clamped: debiased CKA of unrelated spaces scatters around
zero and is negative half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats

from clipbias.analysis.features import gather
from clipbias.analysis.gram import GramSums, Plan, gram_sums, plan
from clipbias.analysis.kernels import make_kernels
from clipbias.analysis.null import Null, permutation_null, watchers
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest

ESTIMATORS = ("biased", "debiased")
KERNELS = ("linear", "rbf")


@dataclass(frozen=True)
class CKAMatrix(Shown):
    """Both estimators of CKA for all pairs of N matrices.

    Attributes
    ----------
    biased, debiased : ndarray, shape (N, N)
        NaN where not defined, see ``reasons``; the biased one is in [0, 1] and rises with width over images,
        the debiased one is at most 1 up to rounding, 0 on average for unrelated spaces.
    standard_error : ndarray or None
        Image-jackknife standard error of ``debiased``.
    null : Null or None
        Analytic permutation null of ``debiased``; ``null_biased`` that of ``biased``.
    reasons : dict
        Position of a matrix -> why its row and column are NaN.
    plan : Plan
    """

    biased: np.ndarray
    debiased: np.ndarray
    standard_error: np.ndarray | None
    null: Null | None
    null_biased: Null | None
    reasons: dict[int, str] = field(default_factory=dict)
    plan: Plan | None = None
    n: int = 0

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper limits of debiased CKA over images, see `cka_interval`."""
        if self.standard_error is None:
            raise DataError("no standard errors were asked for: pass errors=True.")
        return cka_interval(self.debiased, self.standard_error, self.n, level=level)


def cka_interval(
    theta: np.ndarray, standard_error: np.ndarray, n: int, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of debiased CKA from its jackknife standard error.

    Above 0.95 the interval is made on ``-log(1 - theta)``, which keeps it below 1.

    Parameters
    ----------
    theta, standard_error : ndarray
    n : int
        Images.
    level : float

    Returns
    -------
    low, high : ndarray
    """
    width = stats.t.ppf((1 + level) / 2, n - 1) * np.asarray(standard_error)
    theta = np.asarray(theta, float)
    gap = 1 - theta
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        near = (theta > 0.95) & (gap > 1e-6)  # nearer than that is a space and its copy
        factor = np.exp(width / np.where(near, gap, 1.0))
        low = np.where(near, 1 - gap * factor, theta - width)
        high = np.where(near, 1 - gap / factor, theta + width)
    return low, high


def jackknife_error(sums: GramSums) -> np.ndarray:
    """Return the image-jackknife standard error of debiased CKA for all pairs, shape (N, N)."""
    if sums.moments is None:
        raise DataError("standard errors need row strips: plan with errors=True.")
    n = sums.n
    squares, own_cross, own = sums.moments
    power = sums.inner.diagonal()
    norm = torch.outer(power.sqrt(), power.sqrt())
    theta = sums.inner / norm
    part = own_cross / power[:, None]
    variance = squares / norm.square() - theta / norm * (part + part.T)
    share = own.diagonal() / power.square()
    variance += theta.square() / 4 * (share[:, None] + share[None, :] + 2 * own / norm.square())
    variance.fill_diagonal_(0)
    factor = 2 * n * (n - 2) / (n - 4)
    # Rounding may leave a variance of -1e-17 where a matrix is compared with its own copy.
    return (factor * (variance.clamp_min(0) / (n * (n - 1))).sqrt()).cpu().numpy()


def cka_matrix(
    arrays: Sequence,
    *,
    kernel: str = "linear",
    bandwidth: float = 0.5,
    errors: bool = False,
    null: bool = False,
    standardize: bool = False,
    names: Sequence[str] | None = None,
    ids: Sequence | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int | None = None,
) -> CKAMatrix:
    """Return CKA of all pairs of matrices, both estimators, from one pass.

    Parameters
    ----------
    arrays : sequence of array-like, each (n, p_i)
        The same n images in the same order; memory maps are read in blocks.
    kernel : {"linear", "rbf"}
    bandwidth : float
        Of the RBF kernel, as a multiple of the root of the median squared distance.
    errors : bool
        Also image-jackknife standard errors of the debiased estimate (n >= 5).
    null : bool
        Also the analytic permutation null (n >= 6).
    standardize : bool
        Divide each feature by its standard deviation first.
    names, ids : sequence, optional
        What messages call the matrices and the images.
    dtype : {"float32", "float64"}
    device : str
    memory : int, optional
        Bytes for the largest buffer (64 MB).

    Returns
    -------
    CKAMatrix

    Raises
    ------
    DataError
        Different numbers of images, a value that is not finite, too few images, an unknown option.
    """
    if kernel not in KERNELS:
        raise DataError(f"kernel {kernel!r} is not known." + nearest(kernel, KERNELS))
    if not bandwidth > 0:
        raise DataError(f"bandwidth {bandwidth} must be positive.")
    features = gather(arrays, names=names, ids=ids, standardize=standardize, dtype=dtype, device=device)
    if not features:
        raise DataError("no matrices to compare.")
    n = features[0].n
    if errors and n < 5:
        raise DataError(f"standard errors of debiased CKA need at least 5 images, there are {n}.")
    limits = {} if memory is None else {"memory": memory}
    chosen = plan(n, [f.p for f in features], errors=errors, kernel=kernel, dtype=dtype, **limits)
    kernels = make_kernels(features, kernel=kernel, bandwidth=bandwidth)
    reasons = {
        i: f"{k.name}: all images have the same features." for i, k in enumerate(kernels) if k.constant
    }
    for i in reasons:  # zeros in place of 0/0 inside the kernel; the row is NaN in the end
        kernels[i] = make_kernels([features[i]], kernel="linear", bandwidth=1.0)[0]
    seen = watchers(kernels) if null and chosen.form != "features" else None
    sums = gram_sums(kernels, chosen, watchers=seen)
    debiased = _ratio(sums.inner) if n >= 4 else np.full((len(features),) * 2, np.nan)
    biased = _ratio(sums.biased)
    # U-centred Gram of equidistant images is zero up to rounding: there is nothing to compare.
    empty = sums.inner.diagonal() <= (1e-10 if dtype == "float32" else 1e-24) * sums.biased.diagonal()
    for i in torch.nonzero(empty).flatten().tolist():
        if n >= 4:
            reasons.setdefault(i, f"{features[i].name}: all images are equally far from each other.")
            debiased[i] = debiased[:, i] = np.nan
    for i, reason in reasons.items():
        debiased[i] = debiased[:, i] = np.nan
        if "same features" in reason:
            biased[i] = biased[:, i] = np.nan
    standard_error = null_debiased = null_biased = None
    if errors:
        standard_error = jackknife_error(sums)
        standard_error[np.isnan(debiased)] = np.nan
    if null:
        null_debiased, null_biased = permutation_null(kernels, biased, debiased, sums=seen)
    return CKAMatrix(biased, debiased, standard_error, null_debiased, null_biased, reasons, chosen, n)


def _ratio(sums: torch.Tensor) -> np.ndarray:
    power = sums.diagonal().cpu().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(power)
        out = sums.cpu().numpy() / root[:, None] / root[None, :]
    np.fill_diagonal(out, np.where(np.isfinite(np.diagonal(out)), 1.0, np.nan))
    return out


def _need_estimator(estimator: str, n: int) -> None:
    if estimator not in ESTIMATORS:
        raise DataError(f"estimator {estimator!r} is not known." + nearest(estimator, ESTIMATORS))
    if estimator == "debiased" and n < 4:
        raise DataError(
            f"debiased CKA needs at least 4 images, there are {n}; estimator='biased' works with 3."
        )


def pairwise_cka(
    arrays: Sequence,
    *,
    estimator: str = "debiased",
    kernel: str = "linear",
    bandwidth: float = 0.5,
    standardize: bool = False,
    names: Sequence[str] | None = None,
    ids: Sequence | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int | None = None,
) -> np.ndarray:
    """Return CKA of all pairs as one symmetric matrix.

    Parameters are those of `cka_matrix`; ``estimator`` is ``"debiased"`` or ``"biased"``.

    Returns
    -------
    ndarray, shape (N, N)
        Higher is more alike; the row of a constant matrix is NaN.

    Raises
    ------
    DataError
        As `cka_matrix`, and for debiased CKA of fewer than 4 images.
    """
    features = gather(arrays, names=names, ids=ids, standardize=standardize, dtype=dtype, device=device)
    if features:
        _need_estimator(estimator, features[0].n)
    found = cka_matrix(
        features, kernel=kernel, bandwidth=bandwidth, dtype=dtype, device=device, memory=memory
    )
    return found.debiased if estimator == "debiased" else found.biased


def cka(
    X: object,
    Y: object,
    *,
    estimator: str = "debiased",
    kernel: str = "linear",
    bandwidth: float = 0.5,
    standardize: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
) -> float:
    """Return the centred kernel alignment of two representations of the same images.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
        Rows are the same images in the same order.
    estimator : {"debiased", "biased"}
        The biased one tends to 1 when features outnumber images.
    kernel : {"linear", "rbf"}
    bandwidth : float
        Of the RBF kernel, as a multiple of the root of the median squared distance.
    standardize : bool
        Divide each feature by its standard deviation first.
    dtype, device : str

    Returns
    -------
    float
        1 for the same space up to rotation, scale and translation; 0 is unrelated (debiased).

    Raises
    ------
    DataError
        Different numbers of images, values that are not finite, too few images.
    StatusError
        One side is constant.
    """
    features = gather([X, Y], standardize=standardize, dtype=dtype, device=device)
    _need_estimator(estimator, features[0].n)
    found = cka_matrix(features, kernel=kernel, bandwidth=bandwidth, dtype=dtype, device=device)
    value = float((found.debiased if estimator == "debiased" else found.biased)[0, 1])
    if np.isnan(value):
        raise StatusError("constant features", " ".join(found.reasons.values()))
    return value
