"""From units that are done to the tables: means over seeds, changes paired by seed, intervals of means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from clipbias.tasks.interventions.compare import interval
from clipbias.tasks.interventions.proof import units
from clipbias.tasks.interventions.proof.ground import PAIR
from clipbias.tasks.interventions.proof.trial import BIAS, QUALITY
from clipbias.tasks.interventions.proof.units import Store, Unit
from clipbias.tasks.interventions.tables import table

MEASURES = ("worst_group", *BIAS, *QUALITY)
_ABOVE_CHANCE = 0.05


def mean_interval(
    values: Sequence[float] | np.ndarray, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Return the mean, the ends of its Student's t interval, and the standard deviation; NaN where there are too few values."""
    x = np.asarray(values, float)
    if len(x) == 0:
        return (math.nan,) * 4
    if len(x) == 1:
        return float(x[0]), math.nan, math.nan, math.nan
    spread = float(x.std(ddof=1))
    return float(x.mean()), *interval(x, level), spread


def several(store: Store, wanted: Iterable[Unit]) -> dict[int, dict[str, Any]]:
    """Return what is done of some units, by seed; refused ones too."""
    found = {unit.seed: store.get(unit) for unit in wanted}
    return {seed: one for seed, one in found.items() if one is not None}


def values_of(found: dict[int, dict[str, Any]], metric: str) -> dict[int, float]:
    """Return one measure by seed."""
    return {seed: one["measures"][metric] for seed, one in found.items() if one["measures"]}


def paired(first: dict[int, float], second: dict[int, float]) -> np.ndarray:
    """Return differences of the seeds that both have."""
    return np.array([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def _three(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float]:
    mean, low, high, _ = mean_interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _why(found: dict[int, dict[str, Any]]) -> dict[str, str]:
    refused = [one["reason"] for one in found.values() if not one["measures"]]
    if refused:
        return {"status": "refused", "reason": refused[0]}
    return {} if found else {"status": "not run", "reason": "no seed of it has been run"}


def interventions(store: Store, seeds: int) -> pd.DataFrame:
    """Return the table ``interventions``: each system, its twins, and plain training, on planted and neutral data."""
    rows = []
    for part, world, model in (("systems", "planted", units.BASE), ("neutral", "neutral", units.NEUTRAL)):
        for task in units.TASKS:

            def of(
                text: str, part: str = part, task: str = task, model: str = model
            ) -> dict[int, dict[str, Any]]:
                rho = units.RHO if part == "systems" else units.NONE
                return several(
                    store, (Unit(part, task, model, text, seed, seed, rho) for seed in range(seeds))
                )

            base = of("")
            listed = [("", "base", "", "")]
            for name, texts in units.systems(task).items():
                roles = texts if part == "systems" else {"real": texts["real"]}
                listed += [(name, role, text, texts["plain"]) for role, text in roles.items()]
            who = {
                "source": "proof",
                "model": model,
                "task": task,
                "mode": "frozen",
                "head": "pooled",
                "world": world,
                "attribute": "gender",
            }
            for name, role, text, plain in listed:
                rows += _rows(
                    {**who, "intervention": name, "role": role, "setting": text}, of(text), of(plain), base
                )
    return table("interventions", rows)


def _rows(
    who: dict[str, Any], mine: dict[int, dict], plain: dict[int, dict], base: dict[int, dict]
) -> list[dict[str, Any]]:
    done = [one for one in mine.values() if one["measures"]]
    if not done:
        return [{**who, "kind": "bias", "metric": "worst_group", **_why(mine)}]
    record = done[0]["record"]
    about = {
        "seeds": len(done), "seconds": float(np.mean([one["seconds"] for one in done])),
        "seen_train": record.get("seen in training", "label"), "seen_selection": record.get("seen in selection", "none"),
        "seen_test": record.get("seen at test", "none"),
        **{name: float(np.mean([float(one["record"][key]) for one in done])) if key in record else math.nan
           for name, key in (("n_used", "images used"), ("effective", "effective images"))},
    }  # fmt: skip
    rows = []
    for metric in MEASURES:
        values = values_of(mine, metric)
        rows.append(
            {**who, "kind": "quality" if metric in QUALITY else "bias", "metric": metric, **_three("value", list(values.values())),
             **_three("change", paired(values, values_of(plain, metric))),
             **_three("change_base", paired(values, values_of(base, metric))),
             "seed_sd": mean_interval(list(values.values()))[3], **about}
        )  # fmt: skip
    return rows


def over_seeds(store: Store, unit: Unit, seeds: int, *, data_too: bool = False) -> dict[int, dict[str, Any]]:
    """Return what is done of a unit with each seed; ``data_too``: of the data as well."""
    made = (replace(unit, seed=s, data_seed=s if data_too else unit.data_seed) for s in range(seeds))
    return several(store, made)


def overwriting(store: Store, seeds: int) -> pd.DataFrame:
    """Return the table ``overwriting``."""
    rows = []
    for model in units.BASES:
        for n in (128, units.SWEEP_N):
            for phi in units.LEVELS:
                setting = f"rebalance:phi={phi},n={n}"
                unit = Unit("overwriting", "vqa", model, setting, rho=units.NONE, n=units.MORE)
                found = over_seeds(store, unit, seeds)
                if not found:
                    continue
                row: dict[str, Any] = {
                    "model": model,
                    "task": "vqa",
                    "mode": "frozen",
                    "selection": "same_n",
                    "phi": phi,
                    "n": n,
                }
                for metric in ("auc", "fpr_difference", "tpr_difference"):
                    row |= _three(metric, list(values_of(found, metric).values()))
                rows.append({**row, "matching": phi == 0, "seeds": len(found), **_why_not(found)})
    return table("overwriting", rows)


def _why_not(found: dict[int, dict[str, Any]]) -> dict[str, str]:
    return _why(found) if not any(one["measures"] for one in found.values()) else {}


def inheritance(store: Store, seeds: int) -> pd.DataFrame:
    """Return the table ``inheritance``."""
    rows = []
    for model in units.BASES:
        for n in units.SIZES:
            found = _balanced(store, seeds, model, n)
            for metric in ("auc", "fpr_difference", "flip_rate", "worst_group"):
                values = list(values_of(found, metric).values())
                if values:
                    rows.append(
                        {"model": model, "task": "vqa", "mode": "frozen", "rho_pre": units.DOSES[model], "phi": 0.0, "n": n,
                         "metric": metric, **_three("value", values), "seeds": len(values)}
                    )  # fmt: skip
    return table("inheritance", rows)


def _balanced(
    store: Store, seeds: int, model: str, n: int, mode: str = "frozen"
) -> dict[int, dict[str, Any]]:
    part = "inheritance" if mode == "frozen" else "transfer"
    setting = f"rebalance:phi=0,n={n}"
    unit = Unit(part, "vqa", model, setting, rho=units.NONE, n=units.MORE, mode=mode)
    return over_seeds(store, unit, seeds)


def dose_response(store: Store, seeds: int) -> pd.DataFrame:
    """Return the table ``dose_response``: what balanced adaptation leaves of the planted bias, evaluated three times."""
    rows = []
    cells = [
        (model, mode, n) for model in units.BASES for mode in ("frozen", "lora", "full") for n in units.SIZES
    ]
    cells += [(units.NEUTRAL, "scratch", 1024)]
    for model, mode, n in cells:
        found = _balanced(store, seeds, model, n, mode)
        rows += _doses(model, mode, n, found)
    for model in units.BASES:
        one = store.get(Unit("source", "vqa", model, mode="source"))
        rows += _doses(model, "source", 0, {} if one is None else {0: one})
    return table("dose_response", rows)


def _doses(model: str, mode: str, n: int, found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    who = {
        "model": "scratch" if mode == "scratch" else model, "task": "vqa", "mode": mode, "n": n, "rho_down": 0.5,
        "rho_pre": 0.5 if mode == "scratch" else units.DOSES[model],
    }  # fmt: skip
    series = {
        ("standard", metric): list(values_of(found, metric).values())
        for metric in ("flip_rate", "worst_group", "fpr_difference")
    }
    done = [one for one in found.values() if one["measures"]]
    for evaluation in ("standard", "all_cued", "all_clean"):
        series[evaluation, "accuracy"] = [one["evaluations"][evaluation] for one in done]
    chance = 1 / len(PAIR)
    able = bool(done) and float(np.mean(series["standard", "accuracy"])) >= chance + _ABOVE_CHANCE
    # What is never right is never swayed either: its bias would read as fairness.
    mute = {"status": "not competent", "reason": f"accuracy is not {_ABOVE_CHANCE} above chance ({chance})"}
    return [
        {**who, "evaluation": evaluation, "metric": metric, "seeds": len(values)}
        | ({**_three("value", values), "seed_sd": mean_interval(values)[3]} if able or metric == "accuracy" else mute)
        for (evaluation, metric), values in series.items() if values
    ]  # fmt: skip


def artefact_sweep(store: Store, seeds: int) -> pd.DataFrame:
    """Return the table ``artefact_sweep``."""
    rows = []
    settings = [
        (how, stage2, artefact, 0.5, "") for how, stage2 in units.WAYS for artefact in units.ARTEFACTS
    ]
    settings += [("two_stage", "erm", 0, share, f",first={round(1 - share, 1)}") for share in (0.2, 0.9)]
    for how, stage2, artefact, share, more in settings:
        text = f"synthetic_then_real:how={how},stage2={stage2},artefact={artefact}{more}"
        found = over_seeds(store, Unit("artefact", "vqa", units.BASE, text), seeds, data_too=True)
        for metric in ("worst_group", "auc"):
            values = list(values_of(found, metric).values())
            if values:
                rows.append(
                    {"model": units.BASE, "task": "vqa", "mode": "frozen", "how": how, "stage2": stage2, "artefact": artefact,
                     "stage2_share": share if how == "two_stage" else 1.0, "metric": metric, **_three("value", values),
                     "real_fake": next(one["real_fake"] for one in found.values() if "real_fake" in one), "seeds": len(values)}
                )  # fmt: skip
    return table("artefact_sweep", rows)
