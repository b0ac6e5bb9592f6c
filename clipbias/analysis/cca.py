"""Canonical correlations and what is made of them, and the effective rank of a space.

The same name has meant different numbers in different codes; here: CCA and R^2 of CCA on *centred* columns divided by
the smaller numerical rank; SVCCA (Raghu et al. 2017) keeps principal components up to a share of the *variance*;
PWCCA (Morcos et al. 2018) weights by canonical *vectors* projected on the centred columns, from either side. All are
meaningless when one space has as many dimensions as there are images, and then refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clipbias.analysis.features import Features, gather
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError


@dataclass(frozen=True)
class _Basis:
    vectors: torch.Tensor  # (n, r) orthonormal
    values: torch.Tensor  # (r,) singular values
    axes: torch.Tensor  # (r, p): centred matrix = vectors @ diag(values) @ axes


def _basis(features: Features, variance: float | None = None) -> _Basis:
    rows = features.block(0, features.n, double=True)
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    exact = features.raw(0, 1).dtype == torch.float64
    eps = torch.finfo(torch.float64 if exact else torch.float32).eps
    rank = int((s > s[0] * eps * max(rows.shape)).sum()) if float(s[0]) > 0 else 0
    if rank == 0:
        raise StatusError("constant features", f"{features.name}: all images have the same features.")
    if variance is not None:
        share = s.square().cumsum(0) / s.square().sum()
        rank = min(rank, int((share < variance).sum()) + 1)
    if rank >= features.n - 1:
        raise StatusError(
            "too few images",
            f"{features.name}: {rank} dimensions for {features.n} images; every canonical correlation would be 1.",
        )
    return _Basis(u[:, :rank], s[:rank], v[:rank])


def _pair(x: _Basis, y: _Basis) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, rho, v = torch.linalg.svd(x.vectors.T @ y.vectors, full_matrices=False)
    return u, rho, v.T


def _weighted(basis: _Basis, directions: torch.Tensor, rho: torch.Tensor) -> float:
    # <h_i, x_j> with h_i = Q u_i and x_j the centred columns: Q'X = diag(s) V'.
    weights = (directions.T @ (basis.values[:, None] * basis.axes)).abs().sum(1)
    return float((weights * rho).sum() / weights.sum())


def pairwise_cca(
    arrays: Sequence, *, measures: Sequence[str] = ("cca_mean",), variance: float = 0.99, **options: object
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Return measures of the CCA family for all pairs.

    Parameters
    ----------
    arrays : sequence of array-like, each (n, p_i)
    measures : sequence of {"cca_mean", "cca_r2", "svcca", "pwcca"}
    variance : float
        Share of variance that SVCCA keeps on each side.
    **options
        Of `clipbias.analysis.features.gather`.

    Returns
    -------
    values : dict of ndarray, each (N, N)
        In [0, 1], higher is more alike. ``pwcca[a, b]`` is weighted from the side of a; the others are
        symmetric. When the two ranks add up to n or more, some correlations are 1 by construction.
    reasons : dict
        Position -> why the row is NaN.
    """
    if not 0 < variance <= 1:
        raise DataError(f"variance={variance} must be in (0, 1].")
    features = gather(arrays, **options)  # type: ignore[arg-type]
    count = len(features)
    values = {m: np.full((count, count), np.nan) for m in measures}
    reasons: dict[int, str] = {}
    with torch.no_grad():
        for truncated, wanted in (
            (False, [m for m in measures if m != "svcca"]),
            (True, [m for m in measures if m == "svcca"]),
        ):
            if not wanted:
                continue
            bases: list[_Basis | None] = []
            for i, one in enumerate(features):
                try:
                    bases.append(_basis(one, variance if truncated else None))
                except StatusError as error:
                    bases.append(None)
                    reasons.setdefault(i, error.reason)
            for a in range(count):
                for b in range(a, count):
                    x, y = bases[a], bases[b]
                    if x is None or y is None:
                        continue
                    u, rho, v = _pair(x, y)
                    for name in wanted:
                        if name == "pwcca":
                            values[name][a, b] = _weighted(x, u, rho)
                            values[name][b, a] = _weighted(y, v, rho)
                        else:
                            value = float((rho.square() if name == "cca_r2" else rho).mean())
                            values[name][a, b] = values[name][b, a] = value
    return values, reasons


def _one(X: object, Y: object, measure: str, variance: float, options: dict) -> tuple[float, float]:
    values, reasons = pairwise_cca([X, Y], measures=[measure], variance=variance, **options)
    if reasons:
        raise StatusError("not defined", " ".join(reasons.values()))
    return float(values[measure][0, 1]), float(values[measure][1, 0])


def cca(X: object, Y: object, *, measure: str = "mean", **options: object) -> float:
    """Return the mean canonical correlation (``"mean"``) or its squares' mean (``"r2"``), in [0, 1].

    Raises
    ------
    StatusError
        One side is constant, or has as many dimensions as images.
    DataError
        Unknown measure.
    """
    if measure not in ("mean", "r2"):
        raise DataError(f"measure={measure!r} is not one of 'mean', 'r2'.")
    return _one(X, Y, f"cca_{measure}", 0.99, options)[0]


def svcca(X: object, Y: object, *, variance: float = 0.99, **options: object) -> float:
    """Return the mean canonical correlation of the leading principal components, in [0, 1]; raises as `cca`."""
    return _one(X, Y, "svcca", variance, options)[0]


def pwcca(X: object, Y: object, **options: object) -> tuple[float, float]:
    """Return projection-weighted CCA from the side of X and from the side of Y, each in [0, 1]; raises as `cca`."""
    return _one(X, Y, "pwcca", 0.99, options)


@dataclass(frozen=True)
class EffectiveRank(Shown):
    """How many dimensions a space uses, between 1 and min(n - 1, p).

    Attributes
    ----------
    entropy : float
        exp of the entropy of the normalised singular values (Roy & Vetterli 2007).
    participation : float
        (sum of eigenvalues)^2 / sum of squared eigenvalues; biased CKA rises when it falls.
    """

    entropy: float
    participation: float


def effective_rank(X: object, **options: object) -> EffectiveRank:
    """Return the effective rank of centred features.

    Parameters
    ----------
    X : array-like, shape (n, p)
    **options
        Of `clipbias.analysis.features.gather`.

    Raises
    ------
    StatusError
        All images have the same features.
    """
    (features,) = gather([X], **({"names": ["X"]} | options))  # type: ignore[arg-type]
    if features.constant:
        raise StatusError("constant features", f"{features.name}: all images have the same features.")
    s = torch.linalg.svdvals(features.block(0, features.n, double=True))
    share = s / s.sum()
    share = share[share > 0]
    power = s.square()
    return EffectiveRank(
        float(torch.exp(-(share * share.log()).sum())), float(power.sum() ** 2 / power.square().sum())
    )
