"""What changes when only the attribute changes: flip rate and ΔP on exact twins.

Twins are two pictures that differ in one attribute and in nothing else, so a difference of the outputs is an effect of that
attribute. Nothing is estimated and nothing has to be controlled for.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.errors import DataError, StatusError

Ties = Mapping[Any, Hashable]


@dataclass(frozen=True, eq=False)
class FlipRate:
    """How often the output differs between twins.

    Attributes
    ----------
    value : float
        Share of pairs whose outputs differ, in [0, 1]; 0 is fair.
    signed : float
        Mean direction over all pairs, in [−1, 1]: 1 if every pair flips to the output tied to its level, −1 if against it; 0
        is fair. NaN without ties.
    towards : float
        Share of the flips with a direction that go the tied way, in [0, 1]; 0.5 is no direction. NaN where there is none.
    n, flips : int
        Pairs, and those that differ.
    per_pair : ndarray of float (n, 2)
        Whether each pair differs, and its direction.
    """

    value: float
    signed: float
    towards: float
    n: int
    flips: int
    per_pair: np.ndarray


@dataclass(frozen=True, eq=False)
class DeltaP:
    """How far the answer probabilities differ between twins.

    Attributes
    ----------
    value : float
        Mean total variation distance, in [0, 1]; 0 is fair. With all probability on one answer this is the flip rate.
    signed : float
        Mean change of probability towards the answers tied to the level shown, in [−1, 1]; 0 is fair. NaN without ties.
    n : int
    per_pair : ndarray of float (n, 2)
    """

    value: float
    signed: float
    n: int
    per_pair: np.ndarray


def flip_rate(
    outputs: Mapping[Any, Any], pairs: Sequence[tuple[Any, Any]], *, ties: Ties | None = None,
    levels: tuple[Hashable, Hashable] | None = None,
) -> FlipRate:  # fmt: skip
    """Return the share of twin pairs whose outputs differ.

    Parameters
    ----------
    outputs : mapping of id to output
        The answer, or the role that a caption names (``"none"`` where it names none).
    pairs : sequence of (id, id)
        Twins, each pair in the order of ``levels``.
    ties : mapping of output to level, optional
        Which attribute level each output is tied to; outputs that are not in it have no direction.
    levels : (level, level)
        Level of the first and of the second of each pair; needed with ties.

    Returns
    -------
    FlipRate

    Raises
    ------
    DataError
        A twin without an output, ties without levels.
    StatusError
        No pairs.

    Examples
    --------
    >>> found = flip_rate({"w": "cook", "m": "pilot"}, [("w", "m")], ties={"cook": "woman", "pilot": "man"},
    ...                   levels=("woman", "man"))
    >>> found.value, found.signed
    (1.0, 1.0)
    """
    _check(pairs, outputs)
    differs = np.array([outputs[a] != outputs[b] for a, b in pairs], dtype=float)
    direction = np.full(len(pairs), np.nan)
    if ties is not None:
        first, second = _two(levels)
        direction = np.array(
            [
                (_pull(outputs[a], ties, first, second) + _pull(outputs[b], ties, second, first)) / 2
                for a, b in pairs
            ]
        )
    pulled = direction[np.nan_to_num(direction) != 0]
    return FlipRate(
        float(differs.mean()), float(direction.mean()), float((pulled > 0).mean()) if pulled.size else np.nan, len(pairs),
        int(differs.sum()), np.column_stack([differs, direction]),
    )  # fmt: skip


def delta_p(
    probabilities: Mapping[Any, Any], pairs: Sequence[tuple[Any, Any]], answers: Sequence[Any], *, ties: Ties | None = None,
    levels: tuple[Hashable, Hashable] | None = None,
) -> DeltaP:  # fmt: skip
    """Return how far the answer probabilities of twins differ.

    Parameters
    ----------
    probabilities : mapping of id to array (A,)
        Probabilities of ``answers``; they may add up to less than 1, and the rest is taken as one further answer.
    pairs, ties, levels
        As `flip_rate`; ``ties`` maps answers to levels.
    answers : sequence (A,)

    Returns
    -------
    DeltaP

    Raises
    ------
    DataError
        A twin without probabilities, another number of them than of answers, something that is no probability.
    StatusError
        No pairs.
    """
    _check(pairs, probabilities)
    p, q = (np.stack([_shares(probabilities, pair[side], len(answers)) for pair in pairs]) for side in (0, 1))
    change = p - q
    # What is missing to 1 is an answer like any other.
    distance = (np.abs(change).sum(1) + np.abs(change.sum(1))) / 2
    signed = np.full(len(pairs), np.nan)
    if ties is not None:
        first, second = _two(levels)
        pull = np.array([_pull(answer, ties, first, second) for answer in answers])
        signed = change @ pull / 2
    return DeltaP(
        float(distance.mean()), float(signed.mean()), len(pairs), np.column_stack([distance, signed])
    )


def _pull(output: Any, ties: Ties, own: Hashable, other: Hashable) -> float:
    """1 for an output tied to the level shown, -1 for one tied to the twin's, 0 for any other."""
    level = ties.get(output)
    return float(level == own) - float(level == other) if level is not None else 0.0


def _two(levels: tuple[Hashable, Hashable] | None) -> tuple[Hashable, Hashable]:
    if levels is None or len(levels) != 2 or levels[0] == levels[1]:
        raise DataError(f"ties need the two levels of each pair in their order, not levels={levels!r}.")
    return levels


def _check(pairs: Sequence[tuple[Any, Any]], known: Mapping[Any, Any]) -> None:
    if len(pairs) == 0:
        raise StatusError("no twins", "there are no twin pairs here.")
    for a, b in pairs:
        for twin in (a, b):
            if twin not in known:
                raise DataError(f"twin {twin!r} has no output; leave its pair out, or predict for it.")


def _shares(probabilities: Mapping[Any, Any], key: Any, size: int) -> np.ndarray:
    p = np.asarray(probabilities[key], dtype=np.float64)
    if p.shape != (size,):
        raise DataError(f"{key!r} has probabilities of shape {p.shape} for {size} answers.")
    if not np.isfinite(p).all() or (p < -1e-6).any() or p.sum() > 1 + 1e-3:
        raise DataError(f"the probabilities of {key!r} are not all 0 or more, or add up to more than 1.")
    return p
