"""One unit of work and what became of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipbias.errors import ClipbiasError


@dataclass(frozen=True)
class Outcome:
    """What became of one unit.

    Attributes
    ----------
    index : int
        Position of the unit in the list.
    unit, value : object
        The unit, and what ``work`` returned for it (None if it failed).
    error : str or None
        One message for the user; None if the unit is done.
    kind : str
        Class name of the exception, or ``"crash"`` when the process died.
    exit_code : int
        0 done; 1 or 2 as the commands end (`clipbias.errors`).
    seconds : float
    """

    index: int
    unit: Any
    value: Any = None
    error: str | None = None
    kind: str = ""
    exit_code: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the unit is done."""
        return self.error is None


def _told(problem: BaseException) -> str:
    """Return what a report of this fault needs: kind, message and the place where it came up."""
    place = traceback.extract_tb(problem.__traceback__)[-1]
    text = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return f"{text} (in {Path(place.filename).name}, line {place.lineno}, {place.name})"


def attempt(index: int, unit: Any, work: Callable[[Any], Any]) -> Outcome:
    """Run one unit and turn whatever goes wrong into an outcome; only KeyboardInterrupt passes."""
    start = time.perf_counter()
    facts: dict[str, Any]
    try:
        return Outcome(index, unit, work(unit), seconds=time.perf_counter() - start)
    except ClipbiasError as problem:
        facts = {"error": str(problem), "exit_code": problem.exit_code, "kind": type(problem).__name__}
    except (Exception, SystemExit) as problem:
        facts = {
            "error": f"unexpected error: {_told(problem)}",
            "exit_code": 1,
            "kind": type(problem).__name__,
        }
    return Outcome(index, unit, seconds=time.perf_counter() - start, **facts)
