"""What a metric says about itself, declared once, and the list of all metrics."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np

from clipbias.errors import DataError, nearest
from clipbias.metrics.intervals import KINDS

Needs = Literal["ranking", "classification", "retrieval", "association", "targets", "pronouns", "labels"]


@dataclass(frozen=True)
class Metric:
    """A metric and what its numbers mean.

    Attributes
    ----------
    name : str
    kernel : callable
        ``kernel(tally) -> (draws, probes)``, or ``(draws, probes, groups)`` where ``per_group``. NaN where
        undefined. One call computes the observed value, every bootstrap draw or every permutation.
    needs : {"ranking", "classification", "retrieval", "association", "targets", "pronouns", "labels"}
    range : tuple of float
        Smallest and largest possible value.
    ideal : float
        The value of a fair result.
    unit, sign, direction : str
        Unit; meaning of a positive value; which way is fairer.
    worse : {"high", "low", "both"}
        Side(s) on which values are less fair: the tail(s) of the permutation p.
    interval : str
        Kind of interval: a key of `clipbias.metrics.intervals.KINDS`. Anything else is taken as a description,
        and the kind is ``"t"`` for a signed and ``"excess"`` for an unsigned metric.
    reference : str
        DOI or arXiv id of the definition.
    per_group : bool
        One value per group.
    extreme_of : tuple of (str, {"max", "min"}) or None
        For a value over all groups, the per-group metric whose extreme names the worst group.
    within_class : bool
        Labels are permuted (and images resampled) inside the true class.
    spread : float
        Factor on the bootstrap variance, for metrics in which a bootstrap is known to see too little.
    trials : callable or None
        Of a share: how many images each probe's value is a share of, from the tally; the images of the
        group if None.
    of_first_k : bool
        Compares the first k with the reference: 0 by construction where k takes all images.
    null_center : callable or None
        Expectation of the value under the null, (draws, probes, 1), from the tally: given where it depends on the data
        and so moves with the value (a recall is compared with that of all groups). None: it stays where it is.
    undefined : tuple of str
        Status and reason where the value is NaN.
    """

    name: str
    kernel: Callable[[Any], np.ndarray]
    needs: Needs
    range: tuple[float, float]
    ideal: float
    unit: str
    sign: str
    direction: str
    worse: Literal["high", "low", "both"]
    interval: str
    reference: str
    per_group: bool = False
    extreme_of: tuple[str, Literal["max", "min"]] | None = None
    within_class: bool = False
    spread: float = 1.0
    trials: Callable[[Any], Any] | None = None
    of_first_k: bool = False
    null_center: Callable[[Any], np.ndarray] | None = None
    undefined: tuple[str, str] = ("undefined", "the value is not defined for these images.")

    @property
    def about(self) -> str:
        """First line of the kernel's docstring."""
        return (self.kernel.__doc__ or "").strip().split("\n")[0]

    @property
    def interval_text(self) -> str:
        """What the interval is and what it is for."""
        return KINDS.get(self.interval, self.interval)

    @property
    def interval_kind(self) -> str:
        """How the interval is computed, a key of ``KINDS``."""
        if self.interval in KINDS:
            return self.interval
        return "t" if self.worse == "both" else "excess"

    @property
    def signed(self) -> bool:
        """Whether the sign carries meaning (two-sided p)."""
        return self.worse == "both"

    def distance(self, value: float) -> float:
        """Distance of a value to the ideal, for ranking models by fairness."""
        return abs(value - self.ideal)


_registered: dict[str, Metric] = {}
_OWN = (
    "ranking", "exposure", "classification", "retrieval", "association", "embedding_tests", "resolution", "composition",
)  # fmt: skip
_loaded: list[bool] = []


def metric(
    name: str, **declaration: Any
) -> Callable[[Callable[[Any], np.ndarray]], Callable[[Any], np.ndarray]]:
    """Declare a metric: the decorated function is its kernel. See `Metric` for the fields.

    Examples
    --------
    >>> @metric("share_gap", needs="ranking", range=(0, 1), ideal=0, unit="share", sign="never negative",
    ...         direction="lower is fairer", worse="high", interval="excess", reference="this example")
    ... def share_gap(t):
    ...     \"\"\"Largest minus smallest share of the first k.\"\"\"
    ...     return t.share.max(-1) - t.share.min(-1)
    """

    def declare(kernel: Callable[[Any], np.ndarray]) -> Callable[[Any], np.ndarray]:
        known = _registered.get(name)
        if known is not None and known.kernel.__module__ != kernel.__module__:
            raise DataError(
                f"metric {name!r} is declared twice: {known.kernel.__module__}, {kernel.__module__}."
            )
        _registered[name] = Metric(name=name, kernel=kernel, **declaration)
        return kernel

    return declare


def registry() -> dict[str, Metric]:
    """Return all metrics by name: those of this package and those of the entry points ``clipbias.metrics``.

    An entry point names a module (its import declares metrics) or a `Metric`. A broken one gives a warning.
    """
    if not _loaded:
        for module in _OWN:
            importlib.import_module(f"clipbias.metrics.{module}")
        for point in entry_points(group="clipbias.metrics"):
            try:
                found = point.load()
            except Exception as error:  # any fault of a foreign package must leave the others usable
                warnings.warn(
                    f"metric plug-in {point.name!r} ({point.value}) failed: {error!r}", stacklevel=2
                )
                continue
            if isinstance(found, Metric):
                _registered.setdefault(found.name, found)
        _loaded.append(True)
    return dict(sorted(_registered.items()))


def get(name: str) -> Metric:
    """Return one metric.

    Raises
    ------
    DataError
        There is none of that name; the message names the nearest.
    """
    known = registry()
    if name not in known:
        raise DataError(f"there is no metric {name!r}." + nearest(name, known))
    return known[name]
