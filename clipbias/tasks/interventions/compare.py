"""From the tables of a run to ``interventions``: each system beside its plain twin, its null twin and plain training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.tasks.interventions.base import parse, twins_of
from clipbias.tasks.interventions.tables import table
from clipbias.tasks.metrics.facts import FACTS

WITHIN = ("model", "task", "head", "mode")
SEEN = {"seen_train": "seen in training", "seen_selection": "seen in selection", "seen_test": "seen at test"}


def does(text: str, task: str) -> bool:
    """Return whether an intervention, as on the command line, is there for a task."""
    return task in type(parse(text)).tasks


def with_twins(texts: Iterable[str], task: str) -> list[str]:
    """Return what is run for a task: each intervention, and right after it its plain and its null twin; each once.

    An intervention that is not there for the task is left out with its twins.
    """
    found: list[str] = []
    for text in texts:
        if does(text, task):
            twins = twins_of(text)
            found += [text, twins["plain"], twins["null"]]
    return [text for text in dict.fromkeys(found) if text]


def compared(extrinsic: pd.DataFrame, adapted: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Return the table ``interventions`` of a run.

    Parameters
    ----------
    extrinsic, adapted : DataFrame
        Tables of the run folder.
    texts : sequence of str
        Interventions that were asked for, as on the command line.

    Returns
    -------
    DataFrame
        All test images, what compares groups and quality, means over seeds. Of two seeds or more, intervals of changes are
        Student's t of the differences seed by seed; of one, the two intervals are put together as if they were independent
        (the roots of the summed squares of their arms), which is wider than need be, as both saw the same images.
    """
    rows = extrinsic[
        (extrinsic["view"] == "global")
        & (extrinsic["group"] == "")
        & (extrinsic["probe"] == "")
        & (extrinsic["mode"] != "blind")
    ]
    out: list[dict[str, Any]] = []
    for key, mine in rows.groupby(list(WITHIN), sort=False):
        about = dict(zip(WITHIN, key, strict=True))
        units = adapted[(adapted[list(WITHIN)].astype(str) == pd.Series(about).astype(str)).all(axis=1)]
        by_setting = dict(tuple(mine.groupby("intervention", sort=False)))
        for name, role, setting, plain in _listed(texts, str(about["task"])):
            who = {
                "source": "adapt",
                "world": "data",
                **about,
                "intervention": name,
                "role": role,
                "setting": setting,
            }
            one = by_setting.get(setting)
            if one is None:
                out.append(
                    {
                        **who,
                        "kind": "bias",
                        "metric": "",
                        "status": "not run",
                        "reason": f"{setting or 'plain training'} is not in this run",
                    }
                )
                continue
            out += _rows(who, one, by_setting.get(plain), by_setting.get(""), _record(units, setting))
    return table("interventions", out)


def _listed(texts: Sequence[str], task: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, role, setting and the setting of the plain twin."""
    yield "", "base", "", ""
    for text in texts:
        if not does(text, task):
            continue
        twins, name = twins_of(text), text.partition(":")[0].strip()
        for role, setting in (("real", text), ("plain", twins["plain"]), ("null", twins["null"])):
            yield name, role, setting, twins["plain"]


def _record(units: pd.DataFrame, setting: str) -> dict[str, Any]:
    """Return what the plans of a setting said of themselves, and its seconds; numbers are means over seeds."""
    mine = units[units["intervention"].astype(str) == setting]
    plans = [_parsed(str(plan)) for plan in mine["plan"]]
    first = plans[0] if plans else {}
    numbers = {
        column: float(np.mean([float(plan[name]) for plan in plans])) if plans and all(name in plan for plan in plans) else math.nan
        for column, name in (("n_used", "images used"), ("effective", "effective images"))
    }  # fmt: skip
    seen = {
        column: first.get(name, "label" if column == "seen_train" else "none")
        for column, name in SEEN.items()
    }
    return {
        **seen,
        **numbers,
        "seconds": float(mine["training_seconds"].astype(float).mean()) if len(mine) else math.nan,
    }


def _parsed(text: str) -> dict[str, str]:
    """Return the entries of a plan's record, ``name: value; name: value``; values may hold semicolons."""
    found: dict[str, str] = {}
    last = ""
    for part in text.split("; "):
        name, colon, value = part.partition(": ")
        if colon:
            found[name], last = value, name
        elif last:
            found[last] += f"; {part}"
    return found


def _rows(
    who: dict[str, Any], mine: pd.DataFrame, plain: pd.DataFrame | None, base: pd.DataFrame | None, record: dict[str, Any]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    for (metric, attribute), own in mine.astype({"metric": str, "attribute": str}).groupby(
        ["metric", "attribute"], sort=False
    ):
        metric, attribute = str(metric), str(attribute)
        quality = FACTS[metric].kind == "quality" and not attribute
        if not (quality or attribute):
            continue
        row = {
            **who,
            **record,
            "kind": "quality" if quality else "bias",
            "metric": metric,
            "attribute": attribute,
        }
        good = own[own["status"] == "ok"]
        if good.empty:
            first = own.iloc[0]
            yield {**row, "status": first["status"], "reason": first["reason"]}
            continue
        values = good["value"].to_numpy(float)
        ends = interval(values) if len(values) > 1 else tuple(good[["ci_low", "ci_high"]].to_numpy(float)[0])
        changes: dict[str, float] = {}
        for name, other in (("change", plain), ("change_base", base)):
            changes |= dict(
                zip(
                    (name, f"{name}_low", f"{name}_high"),
                    _change(good, other, metric, attribute),
                    strict=True,
                )
            )
        yield {
            **row, "value": float(values.mean()), "value_low": ends[0], "value_high": ends[1], **changes, "seeds": len(values),
            "seed_sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        }  # fmt: skip


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of Student's t interval of a mean over seeds."""
    half = (
        float(stats.t.ppf((1 + level) / 2, len(values) - 1))
        * float(values.std(ddof=1))
        / math.sqrt(len(values))
    )
    return float(values.mean()) - half, float(values.mean()) + half


def _change(
    good: pd.DataFrame, other: pd.DataFrame | None, metric: str, attribute: str
) -> tuple[float, float, float]:
    nothing = (math.nan, math.nan, math.nan)
    if other is None:
        return nothing
    theirs = other[
        (other["metric"] == metric) & (other["attribute"] == attribute) & (other["status"] == "ok")
    ]
    both = good.merge(theirs, on="seed", suffixes=("", "_other"))
    if both.empty:
        return nothing
    differences = (both["value"] - both["value_other"]).to_numpy(float)
    if len(differences) > 1:
        return (float(differences.mean()), *interval(differences))
    row, value = both.iloc[0], float(differences[0])
    down = math.hypot(row["value"] - row["ci_low"], row["ci_high_other"] - row["value_other"])
    up = math.hypot(row["ci_high"] - row["value"], row["value_other"] - row["ci_low_other"])
    return value, value - down, value + up
