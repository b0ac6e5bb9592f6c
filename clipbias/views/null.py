"""Random subsets: what a view of the same size looks like when it means nothing."""

from __future__ import annotations

import numpy as np

from clipbias.errors import StatusError
from clipbias.views.view import View

_CHUNK = 2**22


def random_subsets(
    n: int,
    size: int,
    *,
    draws: int,
    seed: int,
    strata: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Draw random subsets of one size without replacement.

    Parameters
    ----------
    n, size, draws : int
        Number of images, images per subset, number of subsets.
    seed : int
    strata : numpy.ndarray, shape (n,), optional
        Labels. Each subset then holds a fixed number of images of each label: ``counts``, or by default the
        share each label has among the ``n`` (largest remainders).
    counts : numpy.ndarray, optional
        Images per label, in the order of ``numpy.unique(strata)``; sums to ``size``.

    Returns
    -------
    numpy.ndarray of bool, shape (draws, n)
        Each row has exactly ``size`` true values.

    Raises
    ------
    StatusError
        ``"view larger than set"``: ``size`` (or a count) exceeds what is there; ``"empty view"``: size
        below 1.
    """
    if size < 1:
        raise StatusError("empty view", f"a random subset needs at least one image, not {size}.")
    if size > n:
        raise StatusError(
            "view larger than set", f"random subsets of {size} were asked for, but there are {n} images."
        )
    rng = np.random.default_rng(seed)
    masks = np.zeros((draws, n), bool)
    if strata is None:
        _fill(masks, np.arange(n), size, rng)
        return masks
    labels, codes, available = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    if counts is None:
        counts = _apportion(available, size)
    counts = np.asarray(counts)
    if counts.shape != available.shape or counts.sum() != size:
        raise ValueError(
            f"counts {counts.tolist()} must give one number per label {labels.tolist()} and sum to {size}"
        )
    for code, count in enumerate(counts):
        if count > available[code]:
            raise StatusError(
                "view larger than set",
                f"{count} images of {str(labels[code])!r} were asked for, but there are {available[code]}.",
            )
        _fill(masks, np.flatnonzero(codes == code), int(count), rng)
    return masks


def matched_subsets(
    view: View, *, draws: int, seed: int, within: np.ndarray | None = None, strata: np.ndarray | None = None
) -> np.ndarray:
    """Draw random subsets as large as a view: the null of "local differs from global".

    Parameters
    ----------
    view : View
        Over ``n`` images.
    draws, seed : int
    within : numpy.ndarray of bool, shape (n,), optional
        Images to draw from. Default: all.
    strata : numpy.ndarray, shape (n,), optional
        Labels; each subset then holds as many images of each label as the view does, so that
        a difference in composition alone is part of the null.

    Returns
    -------
    numpy.ndarray of bool, shape (draws, n)
    """
    n = len(view.mask)
    pool = np.arange(n) if within is None else np.flatnonzero(within)
    masks = np.zeros((draws, n), bool)
    if strata is None:
        masks[:, pool] = random_subsets(len(pool), view.size, draws=draws, seed=seed)
        return masks
    strata = np.asarray(strata)
    labels = np.unique(strata[pool])
    wanted = strata[view.mask]
    missing = np.setdiff1d(wanted, labels)
    if len(missing):
        raise StatusError("view larger than set", f"there is no image of {str(missing[0])!r} to draw from.")
    counts = np.array([(wanted == label).sum() for label in labels])
    masks[:, pool] = random_subsets(
        len(pool), view.size, draws=draws, seed=seed, strata=strata[pool], counts=counts
    )
    return masks


def _fill(masks: np.ndarray, columns: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Set ``count`` random ones of ``columns`` in every row of ``masks``."""
    if count == 0:
        return
    if count == len(columns):
        masks[:, columns] = True
        return
    step = max(1, _CHUNK // len(columns))
    for start in range(0, len(masks), step):
        rows = np.arange(start, min(start + step, len(masks)))
        chosen = np.argpartition(rng.random((len(rows), len(columns))), count - 1, axis=1)[:, :count]
        masks[rows[:, None], columns[chosen]] = True


def _apportion(available: np.ndarray, size: int) -> np.ndarray:
    """Split ``size`` in proportion to ``available`` by largest remainders; ties go to the earlier label."""
    exact = available * (size / available.sum())
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: size - counts.sum()]] += 1
    return counts
