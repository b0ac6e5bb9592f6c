"""States of the same images in the same order: keys and image ids checked by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from clipbias.errors import DataError


def align(
    states: Mapping, ids: Sequence | None
) -> tuple[list[tuple[str, str, str]], list, list | None, list[np.ndarray | None]]:
    """Check keys and image ids by value; return keys, arrays, the common ids and the row order of each array."""
    if not states:
        raise DataError("no states to compare.")
    keys, arrays, own = [], [], []
    for key, value in states.items():
        parts = (key,) if isinstance(key, str) else tuple(str(k) for k in key)
        if len(parts) > 3:
            raise DataError(f"state {key!r}: a key is (model, layer, state).")
        model, layer, state = (*parts, "", "", "")[:3]
        keys.append((model, layer, state))
        paired = isinstance(value, tuple) and len(value) == 2
        own.append(list(value[0]) if paired else None if ids is None else list(ids))
        arrays.append(value[1] if paired else value)
    given = [o for o in own if o is not None]
    if 0 < len(given) < len(own):
        bare = next(i for i, o in enumerate(own) if o is None)
        raise DataError(f"{describe(keys[bare])} has no image ids while others have: give them for all.")
    if not given:
        return keys, arrays, None, [None] * len(keys)
    common, orders = given[0], list[np.ndarray | None]()
    for key, array, mine in zip(keys, arrays, given, strict=True):
        rows = array.shape[0] if hasattr(array, "shape") else len(array)
        if len(mine) != rows:
            raise DataError(f"{describe(key)}: {len(mine)} image ids for {rows} rows.")
        if len(set(mine)) != len(mine):
            twice = pd.Series(mine)[pd.Series(mine).duplicated()].iloc[0]
            raise DataError(
                f"{describe(key)}: image {twice!r} appears twice. Duplicated images inflate similarity; drop them."
            )
        if mine == common:
            orders.append(None)
            continue
        differ = set(mine) ^ set(common)
        if differ:
            image = min(differ, key=str)
            where = describe(key) if image in set(mine) else describe(keys[0])
            raise DataError(
                f"{describe(key)} and {describe(keys[0])} hold different images: {len(differ)} are in one only, "
                f"for example {image!r} in {where}. Give every state the same images."
            )
        place = {image: row for row, image in enumerate(mine)}
        orders.append(np.array([place[image] for image in common]))
    return keys, arrays, common, orders


def describe(key: tuple[str, str, str]) -> str:
    """Return the words for a key in messages."""
    return ", ".join(
        f"{word} {part!r}" for word, part in zip(("model", "layer", "state"), key, strict=True) if part
    )
