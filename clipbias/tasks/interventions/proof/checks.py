"""Thresholds: signs and orderings must hold; numbers of the prototype must hold or be explained beside the measured value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.tasks.interventions.base import about
from clipbias.tasks.interventions.proof import units
from clipbias.tasks.interventions.proof.summary import over_seeds, paired, values_of
from clipbias.tasks.interventions.proof.units import Store, Unit
from clipbias.tasks.interventions.tables import table

LEAST_BIAS = (
    0.25  # difference of false-positive rates that plain training must show, or there is nothing to take away
)
NOTHING = 0.03  # change of a rate that counts as none
Values = Sequence[float] | np.ndarray


def check(
    name: str, text: str, values: Values, direction: str, threshold: float, *, kind: str = "hold", task: str = "", explanation: str = ""
) -> dict[str, Any]:  # fmt: skip
    """Return a row of ``intervention_checks``: the mean of values against a threshold.

    A missed check of kind ``explain`` needs an explanation; one without it counts as failed all the same.
    """
    x = np.asarray(values, float)
    measured = float(x.mean()) if len(x) else math.nan
    passed = bool(measured >= threshold if direction == ">=" else measured <= threshold)
    return {
        "task": task, "intervention": name, "check": text, "kind": kind, "threshold": threshold, "direction": direction,
        "measured": measured, "seed_sd": float(x.std(ddof=1)) if len(x) > 1 else math.nan, "seeds": len(x), "passed": passed,
        "explanation": "" if passed else explanation,
    }  # fmt: skip


def failed(checks: pd.DataFrame) -> pd.DataFrame:
    """Return the checks that are missed and must not be, or that nobody explained."""
    return checks[
        ~checks["passed"].astype(bool) & ((checks["kind"] == "hold") | (checks["explanation"] == ""))
    ]


class _Runs:
    """What is done of one part and task, by setting and seed."""

    def __init__(self, store: Store, seeds: int, part: str, task: str) -> None:
        self.store, self.seeds, self.part, self.task = store, seeds, part, task
        self.model, self.rho = (units.BASE, units.RHO) if part == "systems" else (units.NEUTRAL, units.NONE)

    def found(self, setting: str) -> dict[int, dict[str, Any]]:
        unit = Unit(self.part, self.task, self.model, setting, rho=self.rho)
        return over_seeds(self.store, unit, self.seeds, data_too=True)

    def values(self, setting: str, metric: str) -> dict[int, float]:
        return values_of(self.found(setting), metric)

    def gain(self, setting: str, other: str = "", metric: str = "worst_group") -> np.ndarray:
        return paired(self.values(setting, metric), self.values(other, metric))

    def record(self, setting: str, name: str) -> list[float]:
        return [float(one["record"][name]) for one in self.found(setting).values() if name in one["record"]]


def all_checks(store: Store, seeds: int, ranks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table ``intervention_checks``."""
    rows: list[dict[str, Any]] = []
    for task in units.TASKS:
        rows += _systems(_Runs(store, seeds, "systems", task))
        rows += _neutral(_Runs(store, seeds, "neutral", task))
    rows += [*_overwriting(store, seeds), *_artefacts(store, seeds), *_transfer(store, seeds)]
    if ranks is not None:
        for model, part in ranks.groupby("model"):
            rows.append(
                check("rank_by_spuriosity", f"rank and planted cue correlate ({model})", [part["spearman"].iloc[0]], ">=", 0.7,
                      kind="explain", explanation=_said("low_spuriosity_head", "rank"))
            )  # fmt: skip
    return table("intervention_checks", rows)


def _said(name: str, key: str) -> str:
    return about(name).explain.get(key, "")


def _systems(runs: _Runs) -> Iterator[dict[str, Any]]:
    task = runs.task
    yield check(
        "", "plain training is biased (difference of false-positive rates)",
        list(runs.values("", "fpr_difference").values()), ">=", LEAST_BIAS, task=task,
    )  # fmt: skip
    for name, texts in units.systems(task).items():
        expect, real = about(name).expect, texts["real"]
        yield from _expected(runs, name, real, expect)
        if "worst_group_gain" in expect:
            yield check(
                name, "the worst group gains over plain training", runs.gain(real), ">=", 0.0, task=task,
                kind="explain" if _said(name, "gain") else "hold", explanation=_said(name, "gain"),
            )  # fmt: skip
            yield check(
                name, "AUC stays (change over plain training)", runs.gain(real, metric="auc"), ">=", -0.01, kind="explain",
                task=task, explanation=_said(name, "auc"),
            )  # fmt: skip
            # Against the plain twin: a null that trains on fewer images differs from plain training by that alone.
            against = texts["plain"] if name == "rebalance" else ""
            yield check(
                name, f"the null twin fails ({texts['null']}: gain of the worst group)", runs.gain(texts["null"], against), "<=",
                NOTHING, task=task, kind="explain" if _said(name, "null") else "hold", explanation=_said(name, "null"),
            )  # fmt: skip


def _expected(runs: _Runs, name: str, real: str, expect: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    for key, threshold in expect.items():
        if key in ("worst_group_over_uniform_at_artefact",):
            continue  # of the artefact sweep
        values: Values
        direction = "<=" if key.endswith("_at_most") else ">="
        if key == "worst_group_gain":
            text, values = "gain of the worst group over plain training", runs.gain(real)
        elif key == "fpr_difference_at_most":
            text = "absolute difference of false-positive rates"
            values = np.abs(list(runs.values(real, "fpr_difference").values()))
        elif key == "gap_at_most":
            text = "absolute gap between images with and without the cue"
            values = np.abs(list(runs.values(real, "spurious_gap").values()))
        elif key == "accuracy_drop_at_most":
            text, values = "accuracy lost against plain training", -runs.gain(real, metric="accuracy")
        else:
            entry = {
                "recall": "recall of errors", "precision": "precision of errors", "violations_at_most": "violations after",
                "association_at_most": "strongest association after",
            }[key]  # fmt: skip
            text, values = entry, runs.record(real, entry)
        yield check(
            name,
            text,
            values,
            direction,
            threshold,
            kind="explain",
            task=runs.task,
            explanation=_said(name, key),
        )


def _neutral(runs: _Runs) -> Iterator[dict[str, Any]]:
    base = list(runs.values("", "worst_group").values())
    spread = float(np.std(base, ddof=1)) if len(base) > 1 else math.nan
    for name, texts in units.systems(runs.task).items():
        found = runs.gain(texts["real"])
        if not len(found):
            continue  # refused, as from fake to real may be where nothing is lacking
        yield check(
            name, "in the neutral world the worst group does not change (in seed sd of plain training)",
            [abs(float(found.mean())) / spread], "<=", 2.0, task=runs.task, kind="explain", explanation=_said(name, "neutral"),
        )  # fmt: skip


def _overwriting(store: Store, seeds: int) -> Iterator[dict[str, Any]]:
    def at(model: str, phi: float, n: int, metric: str) -> dict[int, float]:
        unit = Unit("overwriting", "vqa", model, f"rebalance:phi={phi},n={n}", rho=units.NONE, n=units.MORE)
        return values_of(over_seeds(store, unit, seeds), metric)

    curves: dict[str, list[float]] = {}
    for model in units.BASES:
        found = [at(model, phi, units.SWEEP_N, "fpr_difference") for phi in units.LEVELS]
        curve = [float(np.mean(list(one.values()))) if one else math.nan for one in found]
        if np.isnan(curve).any():
            continue
        curves[model] = curve
        yield check(
            "rebalance", f"the difference of false-positive rates follows phi ({model}, Spearman)",
            [stats.spearmanr(units.LEVELS, curve).statistic], ">=", 0.95, task="vqa",
        )  # fmt: skip
    if units.NEUTRAL in curves:
        crossing = _crossing(units.LEVELS, curves[units.NEUTRAL])
        yield check(
            "rebalance", "it crosses zero near phi 0 where pretraining is neutral (|phi*|)", [abs(crossing)], "<=", 0.1, task="vqa",
            kind="explain", explanation=_said("rebalance", "crossing"),
        )  # fmt: skip
        fpr = list(at(units.NEUTRAL, 0.0, units.SWEEP_N, "fpr_difference").values())
        yield check(
            "rebalance", "and is small at phi 0", [abs(float(np.mean(fpr)))], "<=", 0.03, task="vqa", kind="explain",
            explanation=_said("rebalance", "zero"),
        )  # fmt: skip
    for model in curves:
        change = paired(at(model, 0.0, units.SWEEP_N, "auc"), at(model, 0.8, units.SWEEP_N, "auc"))
        yield check(
            "rebalance", f"AUC at phi 0 is not below that at phi .8 ({model})", change, ">=", 0.0, task="vqa"
        )
    for n, direction, threshold in ((128, ">=", 0.1), (units.SWEEP_N, "<=", 0.03)):
        difference = paired(
            at(units.BASE, 0.2, n, "fpr_difference"), at(units.NEUTRAL, 0.2, n, "fpr_difference")
        )
        if len(difference):
            yield check(
                "rebalance", f"biased minus neutral base at phi .2, n {n} (difference of false-positive rates)", difference, direction,
                threshold, task="vqa", kind="explain", explanation=_said("rebalance", f"overwritten_{n}"),
            )  # fmt: skip


def _crossing(levels: Sequence[float], curve: Sequence[float]) -> float:
    """Return where a curve over descending levels crosses zero, by linear interpolation; NaN where it does not."""
    for (x0, y0), (x1, y1) in zip(
        zip(levels, curve, strict=True), list(zip(levels, curve, strict=True))[1:], strict=False
    ):
        if y0 >= 0 > y1:
            return x0 + (x1 - x0) * y0 / (y0 - y1)
    return math.nan


def _artefacts(store: Store, seeds: int) -> Iterator[dict[str, Any]]:
    def at(how: str, stage2: str, artefact: int, more: str = "") -> dict[int, float]:
        text = f"synthetic_then_real:how={how},stage2={stage2},artefact={artefact}{more}"
        unit = Unit("artefact", "vqa", units.BASE, text)
        return values_of(over_seeds(store, unit, seeds, data_too=True), "worst_group")

    strong = units.ARTEFACTS[-1]
    over = paired(at("two_stage", "resample", strong), at("uniform", "erm", strong))
    yield check(
        "synthetic_then_real", f"two stages beat one at artefact {strong} (worst group)", over, ">=",
        about("synthetic_then_real").expect["worst_group_over_uniform_at_artefact"], task="vqa", kind="explain",
        explanation=_said("synthetic_then_real", "worst_group_over_uniform_at_artefact"),
    )  # fmt: skip
    yield check(
        "synthetic_then_real", "one stage is not behind two without an artefact (uniform minus two stages, plain second stage)",
        paired(at("uniform", "erm", 0), at("two_stage", "erm", 0)), ">=", 0.0, task="vqa", kind="explain",
        explanation=_said("synthetic_then_real", "crossing"),
    )  # fmt: skip
    yield check(
        "synthetic_then_real", "the one stage loses as the artefact grows", paired(at("uniform", "erm", strong), at("uniform", "erm", 0)),
        "<=", 0.0, task="vqa", kind="explain", explanation=_said("synthetic_then_real", "artefact"),
    )  # fmt: skip
    yield check(
        "synthetic_then_real", "a longer plain second stage forgets (share .9 minus .2)",
        paired(at("two_stage", "erm", 0, ",first=0.1"), at("two_stage", "erm", 0, ",first=0.8")), "<=", 0.0, task="vqa",
        kind="explain", explanation=_said("synthetic_then_real", "forgetting"),
    )  # fmt: skip


RESNETS = tuple(model for model in units.DOSES if model.startswith("zoo:resnet"))


def _transfer(store: Store, seeds: int) -> Iterator[dict[str, Any]]:
    def slopes(mode: str, n: int, models: Sequence[str] = RESNETS) -> dict[int, float]:
        """Return the slope of flips over the planted dose of every seed that has more than one dose."""
        part = {"frozen": "inheritance", "source": "source"}.get(mode, "transfer")
        flips: dict[int, dict[float, float]] = {}
        for model in models:
            dose = units.DOSES[model]
            if mode == "source":
                one = store.get(Unit("source", "vqa", model, mode="source"))
                found = {0: one["measures"]["flip_rate"]} if one else {}
            else:
                unit = Unit(
                    part, "vqa", model, f"rebalance:phi=0,n={n}", rho=units.NONE, n=units.MORE, mode=mode
                )
                found = values_of(over_seeds(store, unit, seeds), "flip_rate")
            for seed, value in found.items():
                flips.setdefault(seed, {})[dose] = value
        return {
            seed: float(np.polyfit(list(of.keys()), list(of.values()), 1)[0])
            for seed, of in flips.items()
            if len(of) > 1
        }

    def said(mode: str) -> dict[str, Any]:
        return {"task": "vqa", "kind": "explain", "explanation": _said("rebalance", f"transfer_{mode}")}

    source = slopes("source", 0)
    for mode, n, direction, threshold in (("frozen", 128, ">=", 0.8), ("frozen", 1024, ">=", 0.8), ("full", 1024, "<=", 0.1), ("lora", 1024, "<=", 0.5)):  # fmt: skip
        shares = [slope / source[0] for slope in slopes(mode, n).values()] if source else []
        if shares:
            yield check(
                "transfer", f"slope of flips over the planted dose, {mode} n {n}, as a share of the CLIP's own", shares, direction,
                threshold, **said(mode),
            )  # fmt: skip
    for mode in ("full", "lora"):
        less = paired(slopes("frozen", 1024, units.TUNED), slopes(mode, 1024, units.TUNED))
        if len(less):
            yield check(
                "transfer", f"slope of flips over the planted dose: frozen minus {mode}, n 1024", less, ">=", 0.0, **said(mode)
            )  # fmt: skip
