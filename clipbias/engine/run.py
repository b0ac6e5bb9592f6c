"""Independent units of work: here, in worker processes, or as Ray tasks, with the same outcomes in the same order.

A unit that fails, or takes its process down with it, is one failed outcome; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from clipbias.engine.unit import Outcome, attempt
from clipbias.errors import ClipbiasError, nearest


def run_units(
    units: Iterable[Any],
    work: Callable[[Any], Any],
    *,
    engine: str = "local",
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run ``work(unit)`` for each unit.

    Parameters
    ----------
    units : iterable
    work : callable
        For the other engines than ``"local"`` a function of a module (it is pickled), like the units and values.
    engine : str
        ``"local"``: in this process; ``"workers:N"``: in N new processes that share the cores between them;
        ``"ray"``: as Ray tasks.
    on_done : callable, optional
        Called in this process with each outcome as it comes, in any order.

    Returns
    -------
    list of Outcome
        In the order of the units.

    Raises
    ------
    ClipbiasError
        The engine is unknown or not installed, or the work cannot be sent to another process.
    KeyboardInterrupt
        Passed on; worker processes are ended first.
    """
    units = list(units)
    workers = parse_engine(engine)
    report = on_done or (lambda outcome: None)
    if workers is None:
        from clipbias.engine.ray_tasks import run_ray

        done = run_ray(units, work, report)
    elif workers == 0:
        done = []
        for index, unit in enumerate(units):
            done.append(attempt(index, unit, work))
            report(done[-1])
    else:
        from clipbias.engine.workers import run_workers

        done = run_workers(units, work, workers, report)
    return sorted(done, key=lambda outcome: outcome.index)


def parse_engine(engine: str) -> int | None:
    """Return 0 for ``"local"``, N for ``"workers:N"`` and None for ``"ray"``.

    Raises
    ------
    ClipbiasError
        Anything else.
    """
    if engine in ("local", "ray"):
        return 0 if engine == "local" else None
    kind, _, number = engine.partition(":")
    if kind == "workers":
        if number.isdecimal() and int(number) > 0:
            return int(number)
        raise ClipbiasError(f"engine {engine!r}: say how many processes, for example workers:4.")
    raise ClipbiasError(f"unknown engine {engine!r}." + nearest(engine, ("local", "workers:4", "ray")))
