"""What a correlation over few models can and cannot show.

All on Fisher's z = atanh(r) with standard error 1/sqrt(n-3) (Pearson), sqrt(1.06/(n-3)) (Spearman, Fieller et al. 1957)
or sqrt(.437/(n-4)) (Kendall); a control takes one model off n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

from scipy.stats import norm, t

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest

METHODS = ("spearman", "pearson", "kendall")
_SPREAD = {"pearson": (1.0, 3), "spearman": (1.06, 3), "kendall": (0.437, 4)}


class PowerOptions(TypedDict, total=False):
    """The options that the functions here share, to hand them on together."""

    method: str
    controls: int
    alpha: float


def _check(method: str) -> None:
    if method not in METHODS:
        raise DataError(f"method {method!r} is not known." + nearest(method, METHODS))


def fisher_error(n: float, *, method: str = "pearson", controls: int = 0) -> float:
    """Return the standard error of atanh(r) at no correlation.

    Parameters
    ----------
    n : int
        Models.
    method : {"spearman", "pearson", "kendall"}
    controls : int
        Variables partialled out.

    Raises
    ------
    StatusError
        Too few models for any.
    """
    _check(method)
    factor, lost = _SPREAD[method]
    free = n - controls - lost
    if free <= 0:
        raise StatusError(
            "too few models", f"{n} models with {controls} controls leave nothing to estimate an error from."
        )
    return math.sqrt(factor / free)


def critical_correlation(n: int, *, alpha: float = 0.05, controls: int = 0) -> float:
    """Return the smallest |r| with a two-sided p below alpha (t test), in (0, 1]."""
    free = n - 2 - controls
    if free < 1:
        return 1.0
    q = t.ppf(1 - alpha / 2, free)
    return float(q / math.sqrt(free + q * q))


def minimum_detectable_correlation(
    n: int, *, power: float = 0.8, alpha: float = 0.05, method: str = "pearson", controls: int = 0
) -> float:
    """Return the true |r| that would be found with the given power.

    Parameters
    ----------
    n : int
        Models.
    power, alpha : float
        Two-sided test at alpha.
    method : {"spearman", "pearson", "kendall"}
    controls : int
        Variables partialled out.

    Returns
    -------
    float
        In (0, 1); 1.0 where the models are too few for any.
    """
    try:
        error = fisher_error(n, method=method, controls=controls)
    except StatusError:
        return 1.0
    return math.tanh((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * error)


def smallest_equivalence_bound(
    n: int, *, power: float = 0.8, alpha: float = 0.05, method: str = "pearson", controls: int = 0
) -> float:
    """Return the smallest bound b that `equivalence_test` would confirm with the given power at no correlation.

    Parameters as `minimum_detectable_correlation`; 1.0 where the models are too few for any.
    """
    try:
        error = fisher_error(n, method=method, controls=controls)
    except StatusError:
        return 1.0
    return math.tanh((norm.ppf(1 - alpha) + norm.ppf((1 + power) / 2)) * error)


def models_to_detect(
    r: float, *, power: float = 0.8, alpha: float = 0.05, method: str = "pearson", controls: int = 0
) -> float:
    """Return the number of models at which a true correlation r is found with the given power; inf for r = 0."""
    _check(method)
    factor, lost = _SPREAD[method]
    if r == 0:
        return math.inf
    if abs(r) >= 1:
        return float(lost + 1 + controls)
    return math.ceil(
        factor * ((norm.ppf(1 - alpha / 2) + norm.ppf(power)) / math.atanh(abs(r))) ** 2 + lost + controls
    )


def models_to_exclude(
    bound: float, *, power: float = 0.8, alpha: float = 0.05, method: str = "pearson", controls: int = 0
) -> int:
    """Return the number of models at which no correlation is confirmed within +-bound with the given power."""
    _check(method)
    _check_bound(bound)
    factor, lost = _SPREAD[method]
    return math.ceil(
        factor * ((norm.ppf(1 - alpha) + norm.ppf((1 + power) / 2)) / math.atanh(bound)) ** 2
        + lost
        + controls
    )


def _check_bound(bound: float) -> None:
    if not 0 < bound < 1:
        raise DataError(
            f"bound {bound} must lie between 0 and 1: it is the largest correlation that counts as none."
        )


@dataclass(frozen=True)
class Equivalence(Shown):
    """Two one-sided tests that a correlation lies within +-bound.

    Attributes
    ----------
    p_value : float
        The larger of the two one-sided p.
    equivalent : bool
        Whether p_value < alpha.
    excluded_bound : float
        The smallest bound that these data confirm at alpha.
    """

    r: float
    n: int
    bound: float
    p_value: float
    equivalent: bool
    excluded_bound: float


def equivalence_test(
    r: float, n: int, *, bound: float, alpha: float = 0.05, method: str = "pearson", controls: int = 0
) -> Equivalence:
    """Test that a correlation is no larger than a declared bound (TOST on Fisher's z).

    Parameters
    ----------
    r : float
        Observed, in [-1, 1].
    n : int
        Models.
    bound : float
        Largest correlation that counts as none, in (0, 1).
    alpha : float
    method : {"spearman", "pearson", "kendall"}
    controls : int
        Variables partialled out.

    Returns
    -------
    Equivalence

    Raises
    ------
    DataError
        Bound or r out of range.
    StatusError
        Too few models.
    """
    _check_bound(bound)
    if not -1 <= r <= 1:
        raise DataError(f"r = {r} is not a correlation.")
    error = fisher_error(n, method=method, controls=controls)
    if abs(r) == 1:
        return Equivalence(r, n, bound, 1.0, False, 1.0)
    z, limit = math.atanh(r), math.atanh(bound)
    p = float(max(norm.cdf((z - limit) / error), norm.sf((z + limit) / error)))
    # The bound at which the larger one-sided p is exactly alpha: the test looks at |z|.
    return Equivalence(r, n, bound, p, p < alpha, math.tanh(abs(z) + norm.ppf(1 - alpha) * error))
