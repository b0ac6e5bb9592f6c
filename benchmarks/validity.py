"""A line of proof for every metric: does it follow planted bias, stay quiet where there is none, and repeat itself?

    python benchmarks/validity.py --out benchmarks/validity.csv                  # all zoo models, some minutes
    python benchmarks/validity.py --coverage benchmarks/coverage.csv --out ...  # with the interval coverage

Every registered metric is measured on the embedded world (all images, perceived gender) for every zoo model whose bias is
planted everywhere. Columns:

spearman             rank correlation over models of planted strength and measured bias: in the planted direction (see
                     analysis/validity.toml); spearman_unsigned: as distance to the ideal
reliability          split-half over probes with Spearman-Brown, over models; one probe cannot be split
false_positive_rate  share of 5 % tests that fire on a model with nothing planted, labels drawn afresh
coverage             of the nominal 95 % interval, mean over the cells of benchmarks/coverage.py
reason               why a number is not there

A metric that falls short is not hidden: it says what the metric cannot tell on small models and these pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias import zoo
from clipbias.analysis import correlate, reliability
from clipbias.embedding import EmbeddingCache
from clipbias.errors import StatusError
from clipbias.instrument import images as image_sets
from clipbias.instrument import recipe as recipes
from clipbias.instrument.inputs import input_of
from clipbias.instrument.part import Part
from clipbias.instrument.unit import model_facts
from clipbias.instrument.validity import question, summaries
from clipbias.instrument.work import Unit
from clipbias.metrics import inference, registry
from clipbias.metrics.record import Metric
from clipbias.models import load_model

# Positive: the value points to the planted ties where it is high. Of tests on sets of texts and images.
TOWARDS = {"weat": 1.0, "sc_weat": 1.0, "rnd": -1.0, "ripa": 1.0}
NOT_OF_A_MODEL = ("cramers_v", "npmi", "effective_groups")
SIBLINGS = {
    "kl_recall": "recall_at_k", "kl_recall_reverse": "recall_at_k", "equalized_odds": "zero_shot_recall",
    "demographic_parity": "selection_rate", "zero_shot_disparity": "zero_shot_recall",
}  # fmt: skip
# A group under its reference at an extreme of a minimum is named by the metric itself; rates say who has more.
COLUMNS = [
    "metric",
    "spearman",
    "ci_low",
    "ci_high",
    "spearman_unsigned",
    "n_models",
    "reliability",
    "false_positive_rate",
    "coverage",
    "reason",
]


def recipe() -> recipes.Recipe:
    base = recipes.load()
    world = next(m for m in base.measurements if m.image_set == "world-people")
    changes = {
        "metrics": list(registry()),
        "levels": "genders",
        "harmful": "objects",
        "views": ["global"],
        "attributes": ["gender"],
    }
    protocol = base.protocol.model_copy(update={"n_boot": 0, "n_perm": 200})
    return base.model_copy(
        update={"measurements": [world.model_copy(update=changes)], "views": ["global"], "random_subsets": 0, "local_draws": 0,
                "protocol": protocol}
    )  # fmt: skip


def part_of(model: str, asked: recipes.Recipe) -> tuple[Part, dict]:
    loaded = load_model(model)
    measurement = asked.measurements[0]
    part = Part(Unit(model, asked), measurement, image_sets.load(measurement), loaded, None, EmbeddingCache())
    return part, model_facts(loaded.metadata)


def fires(m: Metric, given, protocol) -> float:
    """Share of 5 % tests that fire on fresh labels of one model."""
    fresh = protocol.model_copy(update={"n_perm": 300, "seed": 77})
    drawn, null = (m.kernel(given.tally("permuted", p, m)) for p in (fresh, protocol))
    if drawn.ndim == 2:
        drawn, null = drawn[..., None], null[..., None]
    hits = []
    for g in range(drawn.shape[2]):
        values, base = (
            inference._mean_over_probes(np.where(np.isfinite(a), a, np.nan)[:, :, g]) for a in (drawn, null)
        )
        found = [inference._null(float(v), base, m.worse) for v in values[np.isfinite(values)]]
        hits += [f["p"] <= 0.05 for f in found if np.isfinite(f.get("z", np.nan))]
    return float(np.mean(hits)) if hits else np.nan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--coverage", type=Path, help="CSV of benchmarks/coverage.py")
    parser.add_argument("--models", nargs="+", default=[f"zoo:{name}" for name in zoo.names()])
    args = parser.parse_args()
    asked, start = recipe(), time.time()
    frames, strength, rates = [], {}, {}
    bare = asked.protocol.model_copy(update={"n_perm": 0})
    for model in args.models:
        part, facts = part_of(model, asked)
        if facts["planted_strength"] is None or facts["planted_context"]:
            continue
        strength[model] = facts["planted_strength"]
        inputs = part.inputs("gender")
        for name, m in registry().items():
            given = inputs.get(input_of(name))
            if given is None or (name == "sc_weat"):
                continue
            rows = inference.evaluate(name, given, protocol=bare)
            frames.append(pd.DataFrame(rows).assign(model=model, metric=name))
            if facts["planted_strength"] == 0:
                rates.setdefault(name, []).append(fires(m, given, asked.protocol))
        print(f"{model}: {time.time() - start:.0f} s", flush=True)
    table = pd.concat(frames, ignore_index=True).assign(
        image_set="world-people", attribute="gender", view="global", stage="pre"
    )
    by_probe = [n for n, m in registry().items() if m.needs not in ("association", "targets", "labels")]
    settings = question().model_copy(
        update={"metrics": by_probe, "also": [], "direction": question().direction | SIBLINGS}
    )
    known = table[table["metric"].isin(by_probe)]
    planted = summaries(known, settings)
    planted = planted[planted["metric"].isin(by_probe)]
    coverage = (
        pd.read_csv(args.coverage).query("of == 'value'").groupby("metric")["covered_percent"].mean()
        if args.coverage
        else {}
    )
    lines = []
    for name, m in registry().items():
        own = table[(table["metric"] == name) & (table["status"] == "ok")]
        line = {
            "metric": name,
            "reason": "",
            "coverage": coverage.get(name, np.nan) / 100 if len(coverage) else np.nan,
        }
        line["false_positive_rate"] = (
            float(np.nanmean(rates[name])) if name in rates and np.isfinite(rates[name]).any() else np.nan
        )
        if name in NOT_OF_A_MODEL:
            lines.append({**line, "reason": "describes the images, not a model"})
            continue
        if own.empty:
            why = table.loc[table["metric"] == name, "reason"]
            lines.append({**line, "reason": why.iloc[0] if len(why) else "the world has no input for it"})
            continue
        if name in by_probe:
            value = planted[planted["metric"] == name].set_index("model")[["value", "unsigned"]]
        else:
            # One row per model: a test's own row and the mean over its one probe are the same number.
            off = own[own["probe"] == ""].set_index("model")["value"] - (0 if np.isnan(m.ideal) else m.ideal)
            value = pd.DataFrame(
                {"value": off * TOWARDS.get(name, 0) if name in TOWARDS else off.abs(), "unsigned": off.abs()}
            )
        value = value.dropna()
        rho = pd.Series(strength).reindex(value.index)
        try:
            found = correlate(rho.to_numpy(), value["value"].to_numpy())
            line |= {
                "spearman": found.estimate,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
                "n_models": len(value),
            }
            line["spearman_unsigned"] = correlate(rho.to_numpy(), value["unsigned"].to_numpy()).estimate
        except StatusError as problem:
            line["reason"] = problem.reason
        single = own[own["probe"] != ""]
        wide = single.assign(off=(single["value"] - (0 if np.isnan(m.ideal) else m.ideal)).abs())
        wide = wide.groupby(["model", "probe"])["off"].max().unstack().replace(np.inf, np.nan).dropna(axis=1)
        try:
            line["reliability"] = reliability(wide.to_numpy(), splits=100, bootstrap=0).value
        except StatusError as problem:
            line["reason"] = line["reason"] or f"no reliability: {problem.reason}"
        lines.append(line)
    out = pd.DataFrame(lines, columns=COLUMNS)
    print(out.round(3).to_string(index=False))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    out.round(4).to_csv(args.out, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
