"""Local similarity: whether two spaces agree on which images are neighbours.

Sources: mutual k-NN and CKNNA, Huh et al. 2024 (arXiv 2405.07987). Neighbours are by cosine, the image itself is left
out, ties go to the lower image index. Features are not centred unless asked for: these measures are not
invariant to translation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clipbias.analysis.features import Features, gather
from clipbias.errors import DataError

_BUFFER = 64 << 20


def unit_rows(features: Features, *, center: bool = False, row_center: bool = False) -> torch.Tensor:
    """Return rows of length one, shape (n, p), in the working precision.

    Raises
    ------
    DataError
        A row has no direction; the image is named.
    """
    rows = features.whole() if center else features.raw(0, features.n).to(features.dtype)
    if features.standardize and not center:
        rows = rows * features.factor.to(features.dtype)
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
    return rows / rows.norm(dim=1, keepdim=True)


def _neighbours(rows: torch.Tensor, k: int, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return indices of the k nearest rows, shape (stop - start, k), and the similarities (stop - start, n)."""
    similar = rows[start:stop] @ rows.T
    masked = similar.clone()
    masked[:, start:stop].fill_diagonal_(-torch.inf)
    values, indices = masked.topk(k, dim=1)
    # topk leaves ties at the edge to chance; settle those rows by a stable sort.
    tied = (masked >= values[:, -1:]).sum(1) > k
    if bool(tied.any()):
        indices[tied] = masked[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return indices, similar


def _overlap(features: Sequence[Features], k: int, *, center: bool, weighted: bool) -> torch.Tensor:
    n, count, like = features[0].n, len(features), features[0]
    if not 1 <= k < n:
        raise DataError(f"k={k} neighbours of {n} images: k must be between 1 and {n - 1}.")
    step = max(1, min(n, _BUFFER // (4 * count * n)))
    total = torch.zeros((count, count), dtype=torch.float64, device=like.device)
    found: list[torch.Tensor] = []
    with torch.no_grad():
        if not weighted:  # the search once for each matrix, the comparison on its small answer
            for one in features:
                rows = unit_rows(one, center=center)
                size = max(1, _BUFFER // (8 * n))
                found.append(
                    torch.cat([_neighbours(rows, k, s, min(s + size, n))[0] for s in range(0, n, size)])
                )
        buffer = torch.empty((count, step, n), dtype=like.dtype, device=like.device)
        for start in range(0, n, step):
            stop = min(start + step, n)
            part = buffer[:, : stop - start].zero_()
            for i, one in enumerate(features):
                if weighted:
                    indices, similar = _neighbours(unit_rows(one, center=center), k, start, stop)
                    centred = similar - similar.mean(1, keepdim=True)
                    part[i].scatter_(1, indices, centred.gather(1, indices))
                else:
                    part[i].scatter_(1, found[i][start:stop], 1.0)
            flat = part.reshape(count, -1)
            total += (flat @ flat.T).double()
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
        In [0, 1], higher is more alike; chance is k / (n - 1).

    Raises
    ------
    DataError
        k out of range, or an image without direction.
    """
    features = gather(arrays, **options)  # type: ignore[arg-type]
    return (_overlap(features, k, center=center, weighted=False) / (features[0].n * k)).cpu().numpy()


def mutual_knn(X: object, Y: object, *, k: int = 10, center: bool = False, **options: object) -> float:
    """Return the mean share of the k nearest neighbours that two spaces have in common, see `pairwise_mutual_knn`."""
    return float(pairwise_mutual_knn([X, Y], k=k, center=center, **options)[0, 1])


def pairwise_cknna(arrays: Sequence, *, k: int = 10, center: bool = False, **options: object) -> np.ndarray:
    """Return kernel alignment restricted to pairs of images that are neighbours in both spaces.

    Similarities are cosines centred over each row (Huh et al. 2024, appendix). Parameters as `pairwise_mutual_knn`.

    Returns
    -------
    ndarray, shape (N, N)
        At most 1, higher is more alike.
    """
    total = _overlap(gather(arrays, **options), k, center=center, weighted=True)  # type: ignore[arg-type]
    root = total.diagonal().sqrt()
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / root[:, None] / root[None, :]).cpu().numpy()


def cknna(X: object, Y: object, *, k: int = 10, center: bool = False, **options: object) -> float:
    """Return kernel alignment over mutual neighbours of two spaces, see `pairwise_cknna`."""
    return float(pairwise_cknna([X, Y], k=k, center=center, **options)[0, 1])
