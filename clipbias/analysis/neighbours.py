"""Local similarity: whether two spaces agree on which images are neighbours.

Sources: mutual k-NN and CKNNA, Huh et al. 2024 (arXiv 2405.07987). Neighbours are by cosine, the image itself is left
out, ties go to the lower image index. Features are not centred unless asked for: these measures are not
invariant to translation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from clipbias.analysis.features import Features, gather
from clipbias.errors import DataError, StatusError

_BUFFER = 64 << 20


def directions(
    features: Features, *, center: bool = False, row_center: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of length one less their mean, and that mean.

    The mean is taken out because CLIP's features lie in a cone: all cosines are near 1, and their differences, which
    decide who is a neighbour, would be lost in float32. Distances between the rows stay what they were.

    Parameters
    ----------
    features : Features
    center : bool
        Subtract the mean feature before rows are scaled.
    row_center : bool
        Subtract each row's own mean first: cosines are then correlations.

    Returns
    -------
    rows : Tensor, shape (n, p)
    mean : Tensor, shape (p,)
        Both float64.

    Raises
    ------
    DataError
        A row has no direction; the image is named.
    """
    if center:
        rows = features.block(0, features.n, double=True)
    else:
        rows = features.raw(0, features.n).double()
        if features.standardize:
            rows = rows * features.factor
    if row_center:
        rows = rows - rows.mean(1, keepdim=True)
    top = rows.abs().amax(1, keepdim=True)
    if not bool(torch.isfinite(top).all()):
        features.mean  # noqa: B018 - names the image
    bad = torch.nonzero(top.flatten() == 0).flatten()
    if len(bad):
        row = int(bad[0])
        image = f"row {row}" if features.ids is None else f"image {features.ids[row]!r} (row {row})"
        raise DataError(
            f"{features.name}: {image} is all {'equal' if row_center else 'zero'} and has no direction."
        )
    rows = rows / top
    rows = rows / rows.norm(dim=1, keepdim=True)
    mean = rows.mean(0)
    return rows - mean, mean


def _neighbours(rows: torch.Tensor, k: int, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return indices of the k nearest rows, shape (stop - start, k), and the inner products (stop - start, n)."""
    inner = rows[start:stop] @ rows.T
    near = inner - rows.square().sum(1) / 2  # orders a row as its distances do
    near[:, start:stop].fill_diagonal_(-torch.inf)
    values, indices = near.topk(k, dim=1)
    # topk leaves ties at the edge to chance; settle those rows by a stable sort.
    tied = (near >= values[:, -1:]).sum(1) > k
    if bool(tied.any()):
        indices[tied] = near[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return indices, inner


def _overlap(features: Sequence[Features], k: int, *, center: bool, weighted: bool) -> torch.Tensor:
    n, count, like = features[0].n, len(features), features[0]
    if not 1 <= k < n:
        raise DataError(f"k={k} neighbours of {n} images: k must be between 1 and {n - 1}.")
    total = torch.zeros((count, count), dtype=torch.float64, device=like.device)
    used = [i for i, one in enumerate(features) if not one.constant]
    size = max(1, _BUFFER // (8 * n))
    found, weights = [], []
    with torch.no_grad():
        for i in used:  # the search once for each matrix, the comparison on its small answer
            rows, mean = (v.to(like.dtype) for v in directions(features[i], center=center))
            parts, own = [], []
            for start in range(0, n, size):
                indices, inner = _neighbours(rows, k, start, min(start + size, n))
                parts.append(indices)
                if weighted:  # cosine less its mean over the row, from rows and mean apart
                    own.append((inner + rows @ mean).gather(1, indices))
            found.append(torch.cat(parts))
            weights.append(
                torch.cat(own) if weighted else torch.ones((), dtype=like.dtype, device=like.device)
            )
        step = max(1, min(n, _BUFFER // (4 * max(len(used), 1) * n)))
        buffer = torch.empty((len(used), step, n), dtype=like.dtype, device=like.device)
        place = torch.tensor(used, device=like.device, dtype=torch.long)
        for start in range(0, n if used else 0, step):
            stop = min(start + step, n)
            part = buffer[:, : stop - start].zero_()
            for out, indices, weight in zip(part, found, weights, strict=True):
                value = weight[start:stop] if weighted else weight.expand(stop - start, k)
                out.scatter_(1, indices[start:stop], value)
            flat = part.reshape(len(used), -1)
            total[place[:, None], place[None, :]] += (flat @ flat.T).double()
    gone = [i for i in range(count) if i not in used]
    total[gone] = total[:, gone] = torch.nan
    return total


def pairwise_mutual_knn(
    arrays: Sequence, *, k: int = 10, center: bool = False, **options: object
) -> np.ndarray:
    """Return the share of common nearest neighbours for all pairs.

    Parameters
    ----------
    arrays : sequence of array-like, each (n, p_i)
    k : int
        Neighbours of each image.
    center : bool
        Subtract the mean first, which makes the measure invariant to translation.
    **options
        Of `clipbias.analysis.features.gather`: names, ids, standardize, dtype, device.

    Returns
    -------
    ndarray, shape (N, N)
        In [0, 1], higher is more alike; chance is k / (n - 1). NaN for a constant matrix.

    Raises
    ------
    DataError
        k out of range, or an image without direction.
    """
    features = gather(arrays, **options)  # type: ignore[arg-type]
    return (_overlap(features, k, center=center, weighted=False) / (features[0].n * k)).cpu().numpy()


def mutual_knn(X: object, Y: object, *, k: int = 10, center: bool = False, **options: object) -> float:
    """Return the mean share of the k nearest neighbours that two spaces have in common, see `pairwise_mutual_knn`.

    Raises
    ------
    StatusError
        One side is constant.
    """
    return _defined(float(pairwise_mutual_knn([X, Y], k=k, center=center, **options)[0, 1]))


def pairwise_cknna(arrays: Sequence, *, k: int = 10, center: bool = False, **options: object) -> np.ndarray:
    """Return kernel alignment restricted to pairs of images that are neighbours in both spaces.

    Similarities are cosines centred over each row (Huh et al. 2024, appendix; the code published with it takes an
    unbiased HSIC of the masked matrices instead, another number). Parameters as `pairwise_mutual_knn`.

    Returns
    -------
    ndarray, shape (N, N)
        At most 1, higher is more alike; NaN for a constant matrix.
    """
    total = _overlap(gather(arrays, **options), k, center=center, weighted=True)  # type: ignore[arg-type]
    root = total.diagonal().sqrt()
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / root[:, None] / root[None, :]).cpu().numpy()


def cknna(X: object, Y: object, *, k: int = 10, center: bool = False, **options: object) -> float:
    """Return kernel alignment over mutual neighbours of two spaces, see `pairwise_cknna`; raises as `mutual_knn`."""
    return _defined(float(pairwise_cknna([X, Y], k=k, center=center, **options)[0, 1]))


def _defined(value: float) -> float:
    if math.isnan(value):
        raise StatusError("constant features", "all images of one side have the same features.")
    return value
