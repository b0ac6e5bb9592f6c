"""Units as Ray tasks, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from clipbias.engine.unit import Outcome, attempt
from clipbias.errors import ClipbiasError


def run_ray(
    units: Sequence[Any], work: Callable[[Any], Any], report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the units as Ray tasks; see `clipbias.engine.run_units`.

    A running Ray is used and left running; otherwise one is started for this call.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as problem:
        raise ClipbiasError("engine 'ray' needs Ray, which is not installed: pip install ray") from problem
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    # No retries: a unit that kills its process would kill it again.
    task = ray.remote(num_cpus=1, max_retries=0)(attempt)
    pending: dict[Any, int] = {}
    done: list[Outcome] = []
    try:
        pending = {task.remote(index, unit, work): index for index, unit in enumerate(units)}
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            index = pending.pop(ready[0])
            try:
                outcome = ray.get(ready[0])
            except Exception as problem:  # Ray's own errors: the process died, or the value cannot travel
                first = str(problem).strip().splitlines() or [type(problem).__name__]
                outcome = Outcome(
                    index, units[index], error=f"its Ray task died: {first[0]}", kind="crash", exit_code=1
                )
            done.append(outcome)
            report(outcome)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()
    return done
