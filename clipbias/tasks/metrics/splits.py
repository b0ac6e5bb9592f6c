"""Balanced splits for attackers: as many images of each group in training, and in test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError

SMALLEST = 10


def group_labels(attribute: Any, left_out: tuple[str, ...] = ("unknown", "")) -> tuple[np.ndarray, tuple]:
    """Return a code per image, −1 for missing and unknown labels, and the levels that occur, sorted.

    Raises
    ------
    StatusError
        Fewer than two groups, or a group with fewer than 10 images.
    """
    labels = pd.Series(np.asarray(attribute, dtype=object))
    unknown = labels.isna() | labels.astype(str).str.strip().str.lower().isin(left_out)
    column = pd.Categorical(labels.where(~unknown, None))
    codes, levels = np.asarray(column.codes, dtype=np.int64), tuple(column.categories)
    if len(levels) < 2:
        raise StatusError(
            "single group", f"labels of {len(levels)} group(s) are here; a classifier needs at least two."
        )
    enough(codes, levels)
    return codes, levels


def enough(codes: np.ndarray, levels: tuple) -> None:
    """Raise if a group has too few images to train on some and test on others."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(levels))
    if sizes.min() < SMALLEST:
        raise StatusError(
            "too few images",
            f"group {levels[int(sizes.argmin())]!r} has {sizes.min()} image(s) here; "
            f"at least {SMALLEST} are needed.",
        )


def balanced_split(
    codes: np.ndarray, rng: np.random.Generator, *, test_share: float = 0.1, blocks: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions for training and test, the same number of every group in each.

    Parameters
    ----------
    codes : ndarray of int (n,)
        Groups; −1 is left out.
    rng : Generator
    test_share : float
        Share of the smallest group that is tested on.
    blocks : ndarray (n,), optional
        Images of a block stay on one side. Without it, counterfactual twins on both sides would teach an
        attacker the very opposite of their labels.
    """
    groups = [np.flatnonzero(codes == g) for g in range(codes.max() + 1)]
    if blocks is None:
        shuffled = [rng.permutation(g) for g in groups]
        m = min(map(len, groups))
        cut = max(1, round(m * test_share))
        test = np.concatenate([g[:cut] for g in shuffled])
        train = np.concatenate([g[cut:m] for g in shuffled])
        return rng.permutation(train), rng.permutation(test)
    _, block = np.unique(blocks, return_inverse=True)
    known = np.unique(block[codes >= 0])
    if known.size < 2:
        raise StatusError("too few blocks", "all images are in one block, which cannot be split.")
    held = rng.permutation(known)[: max(1, round(known.size * test_share))]
    side = np.isin(block, held)
    sides = []
    for own in (~side, side):
        parts = [rng.permutation(g[own[g]]) for g in groups]
        m = min(map(len, parts))
        if m == 0:
            raise StatusError(
                "too few blocks", "a group has no image on one side of the split; more blocks are needed."
            )
        sides.append(rng.permutation(np.concatenate([p[:m] for p in parts])))
    return sides[0], sides[1]


def as_blocks(blocks: Any, n: int) -> np.ndarray | None:
    """Return blocks as an array of text (n,), or None."""
    if blocks is None:
        return None
    array = np.asarray(blocks).astype(str)
    if array.shape != (n,):
        raise DataError(f"blocks have shape {array.shape}; one label for each of the {n} images is needed.")
    return array


def seed_list(seeds: int | Any) -> list[int]:
    """Return seeds: the first so many whole numbers, or those given."""
    found = list(range(seeds)) if isinstance(seeds, int | np.integer) else [int(s) for s in seeds]
    if len(found) < 2 or len(set(found)) < len(found):
        raise DataError(f"seeds={seeds!r}: at least two different seeds are needed for a spread.")
    return found
