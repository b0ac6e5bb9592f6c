"""What a view is: a named part of an image set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from clipbias.errors import StatusError

KINDS = ("global", "metadata", "predicate", "kmeans", "text", "random", "task", "spuriosity")


@dataclass(frozen=True, eq=False)
class View:
    """A part of an image set.

    Attributes
    ----------
    name : str
        Short and unique within a run, for example ``"context=park"``; goes into the column ``view``.
    kind : str
        One of :data:`KINDS`.
    mask : numpy.ndarray of bool, shape (n,)
        Which images belong, in the set's row order.
    definition : str
        How the view came to be, in words, with every choice that changes it.

    Raises
    ------
    StatusError
        The view is empty: there is nothing to measure on.
    """

    name: str
    kind: str
    mask: np.ndarray
    definition: str

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype != bool or mask.ndim != 1:
            raise ValueError(
                f"view {self.name!r}: mask must be a bool vector, got {mask.dtype} of shape {mask.shape}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"view {self.name!r}: kind {self.kind!r} is none of {KINDS}")
        if not mask.any():
            raise StatusError("empty view", f"view {self.name!r} holds no image ({self.definition}).")
        mask = mask.copy()
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)

    @property
    def size(self) -> int:
        """Number of images."""
        return int(self.mask.sum())

    @property
    def rows(self) -> np.ndarray:
        """Row positions of the images, ascending."""
        return np.flatnonzero(self.mask)

    def __repr__(self) -> str:
        return f"View({self.name!r}, kind={self.kind!r}, size={self.size})"


def _nothing_left_out() -> pd.DataFrame:
    return pd.DataFrame(
        {"item": pd.Series(dtype=str), "status": pd.Series(dtype=str), "reason": pd.Series(dtype=str)}
    )


@dataclass(frozen=True, eq=False)
class Views:
    """Views made by one rule, and those that were not used.

    Attributes
    ----------
    views : tuple of View
    left_out : pandas.DataFrame
        Columns ``item, status, reason``: views that are empty or smaller than the minimum size.
    """

    views: tuple[View, ...]
    left_out: pd.DataFrame = field(default_factory=_nothing_left_out)

    def __iter__(self) -> Iterator[View]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, which: int | str) -> View:
        """Return a view by position or by name."""
        if isinstance(which, str):
            for view in self.views:
                if view.name == which:
                    return view
            raise KeyError(which)
        return self.views[which]

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [view.name for view in self.views]


def keep_large(candidates: list[tuple[str, str, np.ndarray, str]], *, min_size: int) -> Views:
    """Make views of the ``(name, kind, mask, definition)`` that hold at least ``min_size`` images."""
    views, rows = [], []
    for name, kind, mask, definition in candidates:
        n = int(mask.sum())
        if n == 0:
            rows.append({"item": name, "status": "empty view", "reason": f"{name} holds no image."})
        elif n < min_size:
            rows.append(
                {
                    "item": name,
                    "status": "small view",
                    "reason": f"{name} holds {n} images, fewer than {min_size}.",
                }
            )
        else:
            views.append(View(name, kind, mask, definition))
    return Views(tuple(views), pd.DataFrame(rows) if rows else _nothing_left_out())
