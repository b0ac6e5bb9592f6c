"""Gender of captions: error, ratio and outcome divergence (Hendricks et al. 2018).

All of it follows from one table: true group × (said the first group, said the second, said neither). The
table of many bootstrap draws is one matrix product, and `gender_values` reads it for all draws at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from clipbias.errors import DataError, StatusError, nearest
from clipbias.tasks.metrics.words import (
    Words,
    as_captions,
    group_codes,
    load_words,
    mentions,
    missed_words,
)

Over = Literal["all", "gendered"]
OUTCOMES = ("correct", "incorrect", "other")
REFERENCE = "arXiv:1803.09797"


@dataclass(frozen=True)
class GenderError:
    """How often captions name the wrong gender, and whether the groups are treated alike.

    Attributes
    ----------
    error : float
        Share of captions that name the wrong group, in [0, 1]; lower is better.
    ratio : float
        Captions that say the second group (women) over captions that say the first (men); inf if none says
        the first.
    delta_ratio : float
        True ratio minus ``ratio``; 0 is ideal, positive if women are said too seldom.
    outcome_divergence : float
        Jensen-Shannon divergence (base 2) between the groups' shares of correct, incorrect and other, in [0,
        1]; 0 is fair.
    rates : dict
        Per group: share of its captions that are correct, incorrect or other (both genders or none), and its
        ``n``. Read them with every other number: silence about gender makes the error small.
    true_ratio : float
    n, left_out : int
        Captions counted, and those whose true group is unknown.
    over : {"all", "gendered"}
        What the error is a share of.
    words : str
        The word list.
    missed : dict
        Gendered words of the captions that the list does not know, with their counts.
    undefined : dict
        Field to reason, for each NaN.
    """

    error: float
    ratio: float
    delta_ratio: float
    outcome_divergence: float
    rates: dict[Any, dict[str, float]]
    true_ratio: float
    n: int
    left_out: int
    over: Over
    words: str
    missed: dict[str, int] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GenderCells:
    """Where each caption falls in the table of true and said group.

    Attributes
    ----------
    cells : ndarray of int (n,)
        ``3 * true + said`` with said 0, 1 (a group) or 2 (neither); −1 where the true group is unknown.
    groups : tuple
        Labels of the first and the second group.
    """

    cells: np.ndarray
    groups: tuple[Any, Any]

    def table(self, weights: Any = None) -> np.ndarray:
        """Count captions by true and said group.

        Parameters
        ----------
        weights : array (draws, n), optional
            How often each caption counts in each draw; without it each counts once.

        Returns
        -------
        ndarray (2, 3), or (draws, 2, 3) with weights
        """
        one_hot = (self.cells[:, None] == np.arange(6)).astype(np.float64)
        if weights is None:
            return one_hot.sum(0).reshape(2, 3)
        counts = np.asarray(weights, dtype=np.float64)
        if counts.ndim != 2 or counts.shape[1] != self.cells.size:
            raise DataError(f"weights have shape {counts.shape}; needed: (draws, {self.cells.size}).")
        return (counts @ one_hot).reshape(-1, 2, 3)


def gender_cells(
    captions: Iterable[str],
    genders: Any,
    *,
    words: Words = "hendricks2018",
    levels: Mapping[Any, str | None] | None = None,
) -> GenderCells:
    """Place captions in the table of true and said group; see `gender_error` for the arguments."""
    listed = load_words(words)
    if len(listed.levels) != 2:
        raise DataError(
            f"word list {listed.name!r} has {len(listed.levels)} groups; gender error compares two."
        )
    texts = as_captions(captions)
    true, names = group_codes(genders, listed, levels)
    if true.size != len(texts):
        raise DataError(f"{len(texts)} captions but {true.size} genders: one each is needed.")
    named = mentions(texts, listed) if texts else np.zeros((0, 2), dtype=bool)
    said = np.where(named[:, 0] == named[:, 1], 2, named[:, 1])
    first, second = (names.get(level, level) for level in listed.levels)
    return GenderCells(np.where(true >= 0, 3 * true + said, -1), (first, second))


def gender_values(table: np.ndarray, *, over: Over = "all") -> dict[str, np.ndarray]:
    """Read the metrics off tables of true and said group.

    Parameters
    ----------
    table : array (..., 2, 3)
        Counts; see `GenderCells.table`.
    over : {"all", "gendered"}

    Returns
    -------
    dict of str to ndarray (...)
        ``error, ratio, delta_ratio, true_ratio, outcome_divergence``, and ``rates`` (..., 2, 3) in the order
        of `OUTCOMES`. NaN where a denominator is 0; ratios are inf where only the first group is missing.
    """
    if over not in ("all", "gendered"):
        raise DataError(f"over={over!r} is unknown." + nearest(str(over), ("all", "gendered")))
    table = np.asarray(table, dtype=np.float64)
    # Columns of the second row swap, so that both rows read correct, incorrect, other.
    outcomes = np.stack([table[..., 0, :], table[..., 1, [1, 0, 2]]], axis=-2)
    totals = outcomes.sum(-1)
    wrong = outcomes[..., 1].sum(-1)
    denominator = totals.sum(-1) if over == "all" else outcomes[..., :2].sum((-2, -1))
    said = table.sum(-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = outcomes / totals[..., None]
        ratio = said[..., 1] / said[..., 0]
        true_ratio = totals[..., 1] / totals[..., 0]
        delta = true_ratio - ratio
        error = wrong / denominator
    divergence = jensen_shannon(rates[..., 0, :], rates[..., 1, :])
    return {
        "error": error, "ratio": ratio, "delta_ratio": delta, "true_ratio": true_ratio,
        "outcome_divergence": divergence, "rates": rates,
    }  # fmt: skip


def gender_error(
    captions: Iterable[str],
    genders: Any,
    *,
    words: Words = "hendricks2018",
    over: Over = "all",
    levels: Mapping[Any, str | None] | None = None,
) -> GenderError:
    """Return gender error, ratio and outcome divergence of captions of people.

    A caption says the group whose words it holds; with words of both groups or none it says neither
    ("other").

    Parameters
    ----------
    captions : iterable of str (n,)
        One generated caption per image.
    genders : array (n,)
        True (perceived) gender; images with ``"unknown"`` are left out and counted.
    words : str, WordList or mapping
    over : {"all", "gendered"}
        The error as a share of all captions (the published table), or of those that name one gender.
    levels : mapping, optional
        Label to group of the word list, or to None for "leave out"; the usual names need none.

    Returns
    -------
    GenderError

    Raises
    ------
    DataError
        Lengths differ, a caption is no text, a label or the word list is unknown.
    StatusError
        A group has no image.

    Notes
    -----
    Hendricks et al. (2018), arXiv:1803.09797. Zero cells count 0 in the divergence (0 · log 0 = 0).
    """
    listed = load_words(words)
    texts = as_captions(captions)
    placed = gender_cells(texts, genders, words=listed, levels=levels)
    table = placed.table()
    for group, size in zip(placed.groups, table.sum(1), strict=True):
        if size == 0:
            raise StatusError(
                "empty group", f"no image of group {group!r} is here; gender error compares two groups."
            )
    values = gender_values(table, over=over)
    undefined = {}
    if np.isnan(values["error"]):
        undefined["error"] = "no caption names exactly one gender."
    if np.isnan(values["ratio"]):
        undefined |= dict.fromkeys(("ratio", "delta_ratio"), "no caption names exactly one gender.")
    rates = {
        group: {**dict(zip(OUTCOMES, map(float, row), strict=True)), "n": float(size)}
        for group, row, size in zip(placed.groups, values["rates"], table.sum(1), strict=True)
    }
    known = placed.cells >= 0
    return GenderError(
        error=float(values["error"]),
        ratio=float(values["ratio"]),
        delta_ratio=float(values["delta_ratio"]),
        outcome_divergence=float(values["outcome_divergence"]),
        rates=rates,
        true_ratio=float(values["true_ratio"]),
        n=int(known.sum()),
        left_out=int((~known).sum()),
        over=over,
        words=listed.name,
        missed=missed_words((t for t, k in zip(texts, known, strict=True) if k), listed),
        undefined=undefined,
    )


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence (base 2, in [0, 1]) of distributions along the last axis."""
    middle = (p + q) / 2

    def half(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(x == 0, 0.0, x * np.log2(x / middle)).sum(-1) / 2

    return np.clip(half(p) + half(q), 0.0, 1.0)
