"""What a study would do: every unit of work, whether it is done, and how long it may take."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipbias.results.run import RunFolder
from clipbias.study_parts.inputs import analysis_key
from clipbias.study_parts.jobs import Jobs

if TYPE_CHECKING:
    import pandas as pd

# Seconds on one core of an ordinary machine, used until the run folder knows better. Rough: a guess that says so.
_ENCODE = {"zoo": 1 / 300, "cpu": 1 / 10, "cuda": 1 / 400}  # one image
_START = 4.0  # loading a model and the image sets
_CELL = 0.25  # one metric of one attribute on one view, with 500 draws of each kind
_STEP = {
    "frozen": 0.02,
    "blind": 0.02,
    "lora": 0.25,
    "full": 0.25,
}  # one training step of the answer classifier
_DECODER = 5.0  # a captioner's step against a classifier's
_EVALUATE = 20.0
_ANALYZE, _REPORT = 60.0, 10.0
_DRAWS = 1000


@dataclass(frozen=True)
class Planned:
    """One unit of work.

    Attributes
    ----------
    step : str
    name : str
        As in the manifest.
    model, what : str
        The model, and what is done with it in words.
    state : {"done", "stored", "to do"}
        ``stored``: in the run folder, and not yet compared with what is asked now.
    seconds : float
        Estimate of its work, 0 if it is done.
    basis : str
        What the estimate rests on.
    """

    step: str
    name: str
    model: str
    what: str
    state: str
    seconds: float
    basis: str


def plan(jobs: Jobs, *, exact: bool = False) -> list[Planned]:
    """Return the units of a study, in the order in which they are done.

    Parameters
    ----------
    jobs : Jobs
    exact : bool
        Compare what the run folder holds with what is asked now; this loads the models of stored units and may
        prepare data. Otherwise such units are ``stored``.
    """
    folder = RunFolder(jobs.folder)
    old = folder.manifest if folder.exists() else {}
    found: list[Planned] = []
    changed = False
    for step in jobs.steps:
        if step == "measure":
            found += _measure(jobs, old, exact)
        elif step == "adapt":
            found += _adapt(jobs, old, exact)
        else:
            changed = changed or any(unit.state == "to do" for unit in found)
            found.append(_last(jobs, step, old, folder, changed))
    return found


def _measure(jobs: Jobs, old: Mapping[str, Any], exact: bool) -> list[Planned]:
    from clipbias.instrument import images
    from clipbias.instrument.stored import measure_one

    recipe, units = jobs.recipe, jobs.measure_units()
    sets = [images.load(m) for m in recipe.measurements]
    cells = sum(
        len(m.attributes or s.attributes) * len(m.metrics) * len(recipe.views_of(m))
        for m, s in zip(recipe.measurements, sets, strict=True)
    )
    draws = (recipe.protocol.n_boot + recipe.protocol.n_perm) / _DRAWS
    what = f"{sum(map(len, sets)):,} images, at least {cells} values"
    planned = []
    for unit in units:
        kind = "zoo" if unit.model.startswith("zoo:") else unit.device.partition(":")[0]
        rough = (
            _START + sum(map(len, sets)) * _ENCODE.get(kind, _ENCODE["cpu"]) + cells * _CELL * max(draws, 0.1)
        )
        alike = _seconds(old, lambda name: not name.startswith("adapt "))
        key = _key(old, unit.model)

        def check(tell: Callable[[str], None], unit=unit, key=key) -> bool:
            from dataclasses import replace

            return measure_one(replace(unit, done=key), on_step=tell).kept

        planned.append(
            _unit("measure", unit.model, unit.model, what, key, check if exact else None, old, alike, rough)
        )
    return planned


def _adapt(jobs: Jobs, old: Mapping[str, Any], exact: bool) -> list[Planned]:
    from clipbias.tasks.adaptation import adapt_unit

    planned: list[Planned] = []
    baselines: dict[tuple[str, str, str], tuple[str, float]] = {}
    for unit in jobs.adapt_units():
        steps = unit.recipe.training_of(unit.mode).steps
        slow = _DECODER if unit.task == "captioning" else 1.0
        rough = _START + _EVALUATE + steps * _STEP.get(unit.mode, _STEP["frozen"]) * slow
        kind = (f"task={unit.task} ", f"mode={unit.mode} ")
        alike = _seconds(old, lambda name, kind=kind: all(part in name for part in kind))  # type: ignore[misc]
        key = _key(old, unit.name)

        def check(tell: Callable[[str], None], unit=unit, key=key) -> bool:
            # A unit's key holds its baseline's, whose own key is known once that is found to be done.
            mine = unit.but(done=key, blind=None if unit.mode == "blind" else baselines.get(unit.of_blind))
            kept = adapt_unit(mine, on_step=tell).kept
            if kept and unit.mode == "blind":
                baselines[unit.of_blind] = (key, float("nan"))
            return kept

        words = [
            f"{unit.task} ({unit.head})",
            unit.mode,
            unit.intervention,
            f"seed {unit.seed}",
            f"{steps} steps",
        ]
        what = ", ".join(filter(None, words))
        planned.append(
            _unit("adapt", unit.name, unit.model, what, key, check if exact else None, old, alike, rough)
        )
    return planned


def _last(jobs: Jobs, step: str, old: Mapping[str, Any], folder: RunFolder, changed: bool) -> Planned:
    past = old.get("study", {}).get(step, {})
    seconds, basis = past.get("seconds"), "last time"
    if seconds is None:
        seconds, basis = (_ANALYZE if step == "analyze" else _REPORT), "rough"
    done = False
    if step == "analyze" and not changed and past.get("key") and folder.exists():
        done = past["key"] == analysis_key(jobs, folder)
    what = "verdicts and their tables" if step == "analyze" else "the page"
    return Planned(
        step,
        step,
        "",
        what,
        "done" if done else "to do",
        0.0 if done else float(seconds),
        basis if not done else "",
    )


def _unit(
    step: str, name: str, model: str, what: str, key: str, check: Callable[..., bool] | None, old: Mapping[str, Any],
    alike: Sequence[float], rough: float,
) -> Planned:  # fmt: skip
    if key and (check is None or _kept(check)):
        return Planned(step, name, model, what, "stored" if check is None else "done", 0.0, "")
    own = old.get("units", {}).get(name, {}).get("seconds")
    if own:
        return Planned(step, name, model, what, "to do", float(own), "last time")
    if alike:
        return Planned(step, name, model, what, "to do", statistics.median(alike), "others like it here")
    return Planned(step, name, model, what, "to do", rough, "rough")


class _Needed(Exception):
    """A unit has begun its work, so it was not done."""


def _kept(check: Callable[..., bool]) -> bool:
    """Return whether a unit finds its work done: it says one thing before it looks, and more only when it goes on."""
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if len(told) > 1:
            raise _Needed

    from clipbias.errors import ClipbiasError

    try:
        return check(tell)
    except (_Needed, ClipbiasError):  # what is wrong is told when the unit's turn comes
        return False


def _key(old: Mapping[str, Any], name: str) -> str:
    return old.get("units", {}).get(name, {}).get("key", "")


def _seconds(old: Mapping[str, Any], like: Callable[[str], bool]) -> list[float]:
    """Return how long units took that are like one; those that were over at once were taken from the cache."""
    return [
        float(facts["seconds"]) for name, facts in old.get("units", {}).items()
        if like(name) and facts.get("seconds", 0) > 0
    ]  # fmt: skip


def wall_seconds(planned: Sequence[Planned], jobs: Jobs) -> float:
    """Return the estimate of the whole study on this machine: units side by side where the engine does that."""
    total = 0.0
    for step in jobs.steps:
        mine = [unit.seconds for unit in planned if unit.step == step]
        width = workers(jobs, step)
        total += max(sum(mine) / width, max(mine, default=0.0))
    return total


def workers(jobs: Jobs, step: str) -> int:
    """Return how many units of a step run side by side."""
    from clipbias.engine import parse_engine

    if step not in ("measure", "adapt"):
        return 1
    engine = (jobs.measuring if step == "measure" else jobs.adapting).get("engine", "local")
    return parse_engine(engine) or 1


def table(planned: Sequence[Planned]) -> pd.DataFrame:
    """Return the units as a table to print."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"step": u.step, "model": u.model, "work": u.what, "state": u.state,
             "about": duration(u.seconds) if u.seconds else "", "from": u.basis}
            for u in planned
        ],
        columns=["step", "model", "work", "state", "about", "from"],
    )  # fmt: skip


def summary(planned: Sequence[Planned], jobs: Jobs) -> str:
    """Return in one sentence how much there is to do and how long it may take."""
    todo = [u for u in planned if u.state == "to do"]
    stored = len(planned) - len(todo)
    parts = [
        f"{step} {sum(u.step == step for u in todo)}"
        for step in jobs.steps
        if any(u.step == step for u in todo)
    ]
    text = f"{len(todo)} of {len(planned)} units to do" + (f" ({', '.join(parts)})" if parts else "")
    text += f", {stored} in {jobs.folder} already" if stored else ""
    if any(u.state == "stored" for u in planned):
        text += " (done again if what they rest on has changed)"
    if not todo:
        return text + "."
    rough = any(u.basis == "rough" for u in todo)
    how = ", a rough guess" if rough else ", from how long units took before"
    return f"{text}; about {duration(wall_seconds(planned, jobs))}{how}."


def duration(seconds: float) -> str:
    """Return ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
