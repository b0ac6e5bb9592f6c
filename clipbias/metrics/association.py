"""Association tests on embeddings: WEAT and SC-WEAT (texts, images or both)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError
from clipbias.metrics.checks import unit
from clipbias.metrics.eat import AssociationTally, effect_draws
from clipbias.metrics.record import metric

_MOST = 100_000
_FLAT = ("undefined", "all associations are equal: there is no standard deviation to divide by.")


@metric(
    "weat", needs="association", range=(-2.0, 2.0), ideal=0.0, unit="standard deviations",
    sign="positive: X goes with A and Y with B", direction="closer to 0 is fairer", worse="both",
    interval="t", reference="doi:10.1126/science.aal4230", undefined=_FLAT,
)  # fmt: skip
def _weat(t: AssociationTally) -> np.ndarray:
    """Effect size of the association of two target sets with two attribute sets."""
    return t.effect


@metric(
    "sc_weat", needs="association", range=(-2.0, 2.0), ideal=0.0, unit="standard deviations",
    sign="positive: closer to A than to B", direction="closer to 0 is fairer", worse="both",
    interval="t", reference="doi:10.1126/science.aal4230", undefined=_FLAT,
)  # fmt: skip
def _sc_weat(t: AssociationTally) -> np.ndarray:
    """Effect size of the association of single targets with two attribute sets."""
    return t.word_effect


@dataclass(frozen=True)
class AssociationTest(Shown):
    """Result of `weat`.

    Attributes
    ----------
    effect_size : float
        Standardised difference; in [−2, 2] for target sets of equal size.
    statistic : float
        Sum of associations over X minus sum over Y.
    p_value : float or None
        One-sided: share of partitions with a statistic at least as large.
    permutations : int
        Partitions looked at.
    """

    effect_size: float
    statistic: float
    p_value: float | None
    permutations: int


def weat(
    X: Any,
    Y: Any,
    A: Any,
    B: Any,
    *,
    permutations: Literal["exact"] | int | None = "exact",
    seed: int | None = None,
) -> AssociationTest:
    """Word (image, cross-modal) embedding association test.

    Parameters
    ----------
    X, Y : array (n, d)
        Target embeddings; sizes may differ.
    A, B : array (n, d)
        Attribute embeddings. Lengths of vectors do not matter (cosine).
    permutations : {"exact"}, int or None
        All partitions of X ∪ Y into sizes |X| and |Y|; that many random ones, with (b+1)/(m+1); or no p.
    seed : int, optional

    Returns
    -------
    AssociationTest

    Raises
    ------
    StatusError
        A set is empty, or all associations are equal.
    DataError
        ``"exact"`` with more than 100,000 partitions: pass a number.

    Notes
    -----
    Caliskan, Bryson, Narayanan (2017), doi:10.1126/science.aal4230: standard deviation with ddof=1, p one-sided,
    drawn without replacement, ties counted (tolerance 1e-12). 0 is fair; positive: X goes with A.
    """
    sets = {name: unit(name, rows) for name, rows in (("X", X), ("Y", Y), ("A", A), ("B", B))}
    dims = {name: rows.shape[1] for name, rows in sets.items()}
    if len(set(dims.values())) > 1:
        raise DataError(f"the sets have different dimensions: {dims}.")
    t = effect_draws(sets, "observed", size=1, seed=0)
    effect = float(t.effect[0, 0])
    if math.isnan(effect):
        raise StatusError(*_FLAT)
    s = ((t.a @ t.cosine.T) / t.a.sum() - (t.b @ t.cosine.T) / t.b.sum())[0]
    n_x, n = len(sets["X"]), len(s)
    own = float(s[:n_x].sum())
    statistic = own - float(s[n_x:].sum())
    if permutations is None:
        return AssociationTest(effect, statistic, None, 0)
    if permutations == "exact":
        number = math.comb(n, n_x)
        if number > _MOST:
            raise DataError(
                f"{number:,} partitions are too many to look at all (at most {_MOST:,}); "
                "pass permutations=10000 and a seed."
            )
        flat = itertools.chain.from_iterable(itertools.combinations(range(n), n_x))
        chosen = np.fromiter(flat, dtype=np.int32, count=number * n_x).reshape(number, n_x)
        return AssociationTest(effect, statistic, float((s[chosen].sum(1) >= own - 1e-12).mean()), number)
    number = int(permutations)
    if number < 1:
        raise DataError(f"permutations={permutations}: 'exact', a positive number, or None.")
    rng = np.random.default_rng(seed)
    count, left = 0, number
    while left:
        size = min(left, max(1, 2_000_000 // n))
        count += int((rng.permuted(np.tile(s, (size, 1)), axis=1)[:, :n_x].sum(1) >= own - 1e-12).sum())
        left -= size
    return AssociationTest(effect, statistic, (count + 1) / (number + 1), number)


def sc_weat(W: Any, A: Any, B: Any) -> np.ndarray | float:
    """Single-target association: how much closer each row of W is to A than to B.

    ``(mean cosine with A − mean cosine with B) / sd over A ∪ B (ddof=1)``.

    Parameters
    ----------
    W : array (d,) or (n, d)
    A, B : array (n, d)

    Returns
    -------
    float or ndarray (n,)
        0 is fair, positive is closer to A.

    Raises
    ------
    StatusError
        A set is empty, or a target has the same cosine with every attribute.
    """
    sets = {"W": unit("W", W), "A": unit("A", A), "B": unit("B", B)}
    value = effect_draws(sets, "observed", size=1, seed=0).word_effect[0]
    if np.isnan(value).any():
        raise StatusError(*_FLAT)
    return float(value[0]) if np.ndim(W) == 1 else value
