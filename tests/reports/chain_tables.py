"""Synthetic tables of a whole chain: what adapt, analyze and the interventions add to `report_tables`."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import report_tables

from clipbias.analysis.verdicts import verdict_table
from clipbias.results import rows
from clipbias.tasks.interventions.tables import table as intervention_table

TASKS = {"captioning": ("decoder", "cider", 2.2, 0.42), "vqa": ("answers", "vqa_accuracy", 70.0, 41.0)}
BIAS = {
    "captioning": ("flip_rate", "gender_error", "outcome_divergence"),
    "vqa": ("flip_rate", "delta_p", "answer_divergence"),
}
SLOPES = {"frozen": 0.9, "full": 0.3}
EMPTY = dict.fromkeys(rows.KEY, "") | {"status": "ok", "reason": ""}


def make(n_models: int = 12, n_views: int = 10, *, seed: int = 0) -> dict:
    """Return all tables of a whole chain; frozen towers pass on three times as much of what was planted as full ones."""
    given = report_tables.make(n_models, n_views, seed=seed)
    return given | after(given["models"], n_views=n_views, seed=seed)


def after(models: pd.DataFrame, *, n_views: int = 2, seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    extrinsic, adapted = _adapted(models, n_views, rng)
    return {
        "extrinsic": rows.table(extrinsic), "adapted": pd.DataFrame(adapted), "planted_transfer": _slopes(len(models)),
        "transfer": _transfer(len(models), rng), "verdicts": _verdicts(len(models)), **_spaces(list(models["model"]), rng),
        "reliability": pd.DataFrame([
            {"question": "transfer", "side": "intrinsic", "over": "probes", "attribute": "gender", "image_set": "world-people", "metric": m,
             "items": 14, "models": len(models), "half": 0.6 + 0.05 * i, "value": 0.7 + 0.06 * i, "ci_low": 0.4, "ci_high": 0.95, "status": "ok", "reason": ""}
            for i, m in enumerate(("max_skew", "ndkl", "c_asc"))
        ]),
        "heterogeneity": pd.DataFrame([
            {"question": "transfer", "grouping": "view", "attribute": "gender", "metric": "max_skew", "mean": 0.5, "q": 3.1, "p_value": 0.4, "i2": 0.1,
             "tau2": 0.01, "k": 4, "status": "ok", "reason": ""}
        ]),
        "agreement": pd.DataFrame([
            {"question": "transfer", "side": "intrinsic", "attribute": "gender", "metric_a": f"world-people / {a}", "metric_b": f"world-people / {b}",
             "estimate": 0.6, "p": 0.02, "p_max": 0.1, "q": 0.05, "n": len(models)}
            for a, b in itertools.combinations(("max_skew", "ndkl", "c_asc"), 2)
        ]),
        **_experiments(list(models["model"][:2]), rng), **_views(list(models["model"]), n_views, rng),
        "metric_validity": pd.DataFrame([
            {"metric": m, "what": "zoo", "spearman": 0.9, "ci_low": 0.6, "ci_high": 0.98, "spearman_unsigned": 0.8, "n_models": 12, "reliability": 0.97,
             "false_positive_rate": 0.05, "coverage": np.nan, "reason": "" if m != "mac" else "it has no direction"}
            for m in ("max_skew", "ndkl", "mac")
        ]),
    }  # fmt: skip


def _views(models: list[str], n_views: int, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Return what is measured of local against global values, and all tests."""
    ok, where = {"status": "ok", "reason": ""}, {"image_set": "world-people"}
    names = [name for name, _, _ in report_tables.view_names(n_views)]
    cells = list(itertools.product(report_tables.LEVELS, ("max_skew", "ndkl")))
    local, apart, tests = [], [], []
    for model, (attribute, metric) in itertools.product(models, cells):
        key = {"model": model, **where, "attribute": attribute, "metric": metric}
        for view in names:
            delta = float(rng.normal(0, 0.05))
            local.append(key | {"grouping": view.partition("=")[0], "view": view, "n": 200, "value": 0.3 + delta, "global": 0.3, "delta": delta,
                                "ci_low": delta - 0.06, "ci_high": delta + 0.06, "half_1": 0.3, "half_2": 0.3, "global_1": 0.3, "global_2": 0.3, **ok})  # fmt: skip
        apart.append(key | {"grouping": "context", "views": n_views, "q": 3.0, "p": 0.2, "i2": 0.1, "tau2": 0.0, "mean": 0.3, "p_labels": float(rng.uniform()), **ok})  # fmt: skip
        for view, group in itertools.product(("global", *names), report_tables.LEVELS[attribute][:2]):
            p = float(rng.uniform())
            tests.append({**key, "stage": "pre", "view": view, "probe": "", "group": group, "n": 200, "p": p, "z": 1.0, "q": min(1.0, 2 * p),
                          "tests": 8, "found": p < 0.025, "minimum_detectable": 0.08})  # fmt: skip
    stability = [
        {**where, "attribute": a, "metric": m, "view": v, "models": len(models), "spearman": 0.7, "ci_low": 0.1, "ci_high": 0.95,
         "reliability_global": 0.9, "reliability_view": 0.8, "ceiling": 0.85, "share_of_ceiling": 0.82, **ok}
        for (a, m), v in itertools.product(cells, names)
    ]  # fmt: skip
    return {
        "local": pd.DataFrame(local),
        "view_differences": pd.DataFrame(apart),
        "stability": pd.DataFrame(stability),
        "tests": pd.DataFrame(tests),
    }


def _adapted(models: pd.DataFrame, n_views: int, rng: np.random.Generator) -> tuple[list[dict], list[dict]]:
    views = ["global", *(name for name, _, _ in report_tables.view_names(n_views))]
    extrinsic, adapted = [], []
    for m, (task, (head, metric, good, blind)) in itertools.product(models.itertuples(), TASKS.items()):
        for mode in ("blind", *SLOPES):
            competent = not (mode == "full" and m.Index == 1)
            quality = (
                blind if mode == "blind" else (good if competent else 1.05 * blind) + rng.normal(0, 0.01)
            )
            key = {
                "model": m.model,
                "task": task,
                "head": head,
                "mode": mode,
                "intervention": "",
                "seed": "0",
                "image_set": f"world-{task}",
            }
            adapted.append(key | {
                "metric": metric, "quality": quality, "blind": np.nan if mode == "blind" else blind,
                "competent": "" if mode == "blind" else "yes" if competent else "no",
                "reason": "" if competent else f"{metric} is not clearly above the image-blind baseline", "steps": 100, "seconds": 5.0,
            })  # fmt: skip
            base = EMPTY | key | {"stage": "post", "n": 1120}
            extrinsic.append(
                base
                | {
                    "view": "global",
                    "metric": metric,
                    "value": quality,
                    "ci_low": 0.97 * quality,
                    "ci_high": 1.03 * quality,
                }
            )
            if mode == "blind":
                continue
            for bias, attribute, view in itertools.product(BIAS[task], report_tables.LEVELS, views):
                if bias != "answer_divergence" and attribute != "gender":
                    continue
                row = base | {"view": view, "attribute": attribute, "metric": bias}
                if competent:
                    value = float(
                        np.clip(0.02 + SLOPES[mode] * (m.planted_rho - 0.5) + rng.normal(0, 0.01), 0, 1)
                    )
                    row |= {
                        "value": value,
                        "ci_low": max(0, value - 0.03),
                        "ci_high": value + 0.03,
                        "p": 0.01,
                    }
                else:
                    row |= {"status": "not competent", "reason": "it does not do its task"}
                extrinsic.append(row)
    return extrinsic, adapted  # fmt: skip


def _slopes(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "task": t,
                "mode": m,
                "metric": "flip_rate",
                "attribute": "gender",
                "slope": s,
                "slope_low": s - 0.1,
                "slope_high": s + 0.1,
                "spearman": 0.9,
                "n": n,
            }
            for t in TASKS
            for m, s in SLOPES.items()
        ]
    ).pipe(_with_differences)


def _with_differences(slopes: pd.DataFrame) -> pd.DataFrame:
    """Add the slopes of the differences from the frozen tower."""
    apart = slopes[slopes["mode"] != "frozen"].assign(compared_with="frozen")
    columns = ["slope", "slope_low", "slope_high"]
    apart[columns] = apart[columns] - SLOPES["frozen"]
    return pd.concat([slopes.assign(compared_with=""), apart], ignore_index=True)


def _transfer(n: int, rng: np.random.Generator) -> pd.DataFrame:
    found = []
    sides = itertools.product(
        ("gender", "tone"), SLOPES, report_tables.IMAGE_SETS, report_tables.METRICS, TASKS
    )
    for attribute, mode, image_set, metric, task in sides:
        for after_metric in BIAS[task]:
            r = float(
                np.clip(
                    rng.normal(0.6 if attribute == "gender" and mode == "frozen" else 0, 0.2), -0.95, 0.95
                )
            )
            found.append({
                "question": "transfer", "attribute": attribute, "intrinsic_image_set": image_set, "intrinsic_metric": metric, "extrinsic_task": task,
                "extrinsic_metric": after_metric, "estimate": r, "p_value": 0.01 if r > 0.6 else 0.4, "ci_low": max(-1, r - 0.3), "ci_high": min(1, r + 0.3),
                "n": n, "minimum_detectable": 0.68, "bound": 0.3, "equivalence_p": 0.4, "excluded_bound": 0.8, "q": 0.2,
                "verdict": "related" if r > 0.6 else "equivalent to none within \u00b10.3" if abs(r) < 0.02 else "undecided", "mode": mode,
                "status": "ok", "reason": "",
            })  # fmt: skip
    return pd.DataFrame(found)


def _verdicts(n: int) -> pd.DataFrame:
    def row(question, kind, subject, **more):
        return {"question": question, "kind": kind, "text": f"{question}?", "subject": subject, "primary": True, "unit": "models", "statistic": "spearman",
                "n": n, "bound": 0.3, "verdict": "undecided", "status": "ok", "reason": "", "to_decide": "", **more}  # fmt: skip

    subject = "attribute gender, intrinsic metric max_skew, extrinsic metric flip_rate, mode {}"
    layer = "captioning decoder full world-captioning: cka_debiased in layer {}"
    numbers = {"ci_low": 0.31, "ci_high": 0.93, "p": 0.004, "minimum_detectable": 0.72}
    return verdict_table([
        row("transfer", "transfer", subject.format("frozen"), estimate=0.78, verdict="related", **numbers),
        row("transfer", "transfer", subject.format("full"), estimate=0.03, verdict="equivalent to none within \u00b10.3", equivalence_p=0.02, **(numbers | {"ci_low": -0.2, "ci_high": 0.22, "p": 0.8})),
        row("transfer", "transfer", subject.format("lora"), status="not measured", reason="there is no such mode"),
        row("convergence", "convergence", layer.format("decoder.1"), statistic="change of mean similarity", estimate=0.112, ci_low=0.04, ci_high=0.18, p=0.0001, verdict="related"),
        row("convergence", "convergence", layer.format("tower.2"), statistic="change of mean similarity", estimate=0.004, ci_low=-0.01, ci_high=0.02, p=0.6, primary=False),
    ])  # fmt: skip


def _spaces(models: list[str], rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    study, pairs, changes = "captioning decoder full world-captioning", [], []
    for layer, gain in {"decoder.1": 0.11, "tower.2": 0.0}.items():
        for state, add in {"pre": 0.0, "post": gain, "untrained": 0.02}.items():
            for a, b in itertools.combinations(models, 2):
                value = float(np.clip(0.5 + add + rng.normal(0, 0.05), 0, 1))
                pairs.append({
                    "question": "convergence", "study": study, "model_a": a, "layer_a": layer, "state_a": state, "model_b": b, "layer_b": layer,
                    "state_b": state, "measure": "cka_debiased", "standardized": False, "n": 600, "value": value, "ci_low": value - 0.02, "ci_high": value + 0.02,
                    "p": 0.0, "status": "ok", "reason": "",
                })  # fmt: skip
        for measure in ("cka_debiased", "mutual_knn"):
            changes.append({
                "question": "convergence", "study": study, "layer": layer, "measure": measure, "standardized": False, "before": 0.5, "after": 0.5 + gain,
                "delta": gain, "ci_low": gain - 0.05, "ci_high": gain + 0.05, "p": 0.01 if gain else 0.8, "p_max": 0.02, "bound": 0.05,
                "untrained_delta": 0.02, "ceiling": 0.8, "rank_before": 7.1, "rank_after": 5.2, "models": len(models), "verdict": "related" if gain else "undecided",
                "missing_controls": "", "status": "ok", "reason": "",
            })  # fmt: skip
    return {"similarity": pd.DataFrame(pairs), "convergence": pd.DataFrame(changes)}


def _experiments(models: list[str], rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    def ends(name, value, half=0.03):
        return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}

    who = {"task": "vqa", "mode": "frozen"}
    systems = []
    for model, (place, (setting, role)) in itertools.product(
        models, enumerate((("", "base"), ("rebalance:phi=0", "real"), ("subselect", "plain"), ("rebalance:shuffled", "null")))
    ):  # fmt: skip
        base = {"source": "proof", "model": model, **who, "world": "planted", "intervention": setting.split(":")[0], "setting": setting, "role": role,
                "seeds": 5, "n_used": 800, "effective": 640.0, "seen_train": "group"}  # fmt: skip
        systems.append(
            base
            | {
                "kind": "bias",
                "metric": "fpr_difference",
                **ends("value", 0.4 - 0.1 * place),
                **ends("change", -0.1 * place),
            }
        )
        systems.append(
            base
            | {
                "kind": "quality",
                "metric": "worst_group",
                **ends("value", 0.6 + 0.05 * place),
                **ends("change", 0.05 * place),
            }
        )
    made = {
        "interventions": systems,
        "dose_response": [
            {"model": m, **who, "mode": mode, "rho_pre": rho, "rho_down": 0.5, "n": 1000, "evaluation": "standard", "metric": "flip_rate",
             **ends("value", slope * (rho - 0.5)), "seeds": 3}
            for m in models for mode, slope in SLOPES.items() for rho in (0.5, 0.7, 0.95)
        ],
        "overwriting": [
            {"model": m, **who, "selection": "same_n", "phi": phi, "n": 1000, **ends("auc", 0.8 - 0.1 * abs(phi)), **ends("fpr_difference", 0.3 * phi),
             **ends("tpr_difference", 0.2 * phi), "matching": phi == 0, "seeds": 3}
            for m in models for phi in np.linspace(1, -1, 11).round(1)
        ],
        "inheritance": [
            {"model": m, **who, "rho_pre": 0.9, "phi": 0.0, "n": n, "metric": "auc", **ends("value", 0.6 + 0.03 * i), "seeds": 3}
            for m in models for i, n in enumerate((64, 256, 1024, 4096))
        ],
        "spuriosity_rank": [
            {"model": m, "cues": "attribute", "concept": "nurse", "image_id": f"i{i}", "rank": float(rng.uniform(0.4 * (i % 2), 0.6 + 0.4 * (i % 2))),
             "spuriosity": 0.1, "planted": float(i % 2), **ends("spearman", 0.7), "n": 40}
            for m in models for i in range(40)
        ],
        "artefact_sweep": [
            {"model": models[0], **who, "how": how, "stage2": "erm", "artefact": a, "stage2_share": 0.5, "metric": "worst_group",
             **ends("value", 0.7 - (0.02 if how == "two_stage" else 0.05) * a / 8), "real_fake": 0.9, "seeds": 3}
            for how in ("two_stage", "uniform") for a in (0.0, 8.0, 16.0)
        ],
        "intervention_checks": [
            {"task": "vqa", "intervention": "rebalance", "check": "the null twin changes nothing", "kind": "hold", "threshold": 0.02, "direction": "<=",
             "measured": 0.01, "seed_sd": 0.01, "seeds": 5, "passed": True, "explanation": ""},
            {"task": "vqa", "intervention": "jtt", "check": "jtt lifts the worst group", "kind": "explain", "threshold": 0.05, "direction": ">=",
             "measured": 0.01, "seed_sd": 0.01, "seeds": 5, "passed": False, "explanation": "few errors"},
        ],
    }  # fmt: skip
    return {name: intervention_table(name, found) for name, found in made.items()}
