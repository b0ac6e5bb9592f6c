"""A line of proof for every metric: does it follow planted bias, stay quiet where there is none, and repeat itself?

    python benchmarks/validity.py                                # all zoo models, about a minute
    python benchmarks/validity.py --coverage benchmarks/coverage.csv

Every registered metric is measured on the embedded world (all images, perceived gender) for every zoo model whose bias is
planted everywhere, and the result is written to analysis/metric_validity.csv, which reports, README and pages show. Columns:

what                 what was measured: models of the zoo, or samples of the world for what describes images
spearman             rank correlation of planted strength and measured bias, with its 95 % interval: in the planted direction
                     (see analysis/validity.toml)
spearman_unsigned    the same without a direction: distance to the ideal
reliability          split-half with Spearman-Brown over probes, or over parts of the images for metrics of one number
false_positive_rate  share of 5 % tests that fire where nothing is planted, labels drawn afresh
coverage             of the nominal 95 % interval, mean over the cells of benchmarks/coverage.py
reason               why a number is not there, or what a low one says

A metric that falls short is not hidden: it says what the metric cannot tell on small models and these pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
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
from clipbias.instrument.proven import COLUMNS
from clipbias.instrument.unit import model_facts
from clipbias.instrument.validity import question, summaries
from clipbias.instrument.work import Unit
from clipbias.metrics import inference, registry
from clipbias.metrics.inputs import Classification, Labels, Ranking
from clipbias.metrics.protocol import Protocol
from clipbias.metrics.record import Metric
from clipbias.models import load_model
from clipbias.probes import world

OUT = Path(__file__).resolve().parent.parent / "analysis" / "metric_validity.csv"
ATTRIBUTE = "gender"
# Positive: the value points to the planted ties where it is high. Of tests on sets of texts and images.
TOWARDS = {"weat": 1.0, "rnd": -1.0, "ripa": 1.0}
SIBLINGS = {
    "kl_recall": "recall_at_k", "kl_recall_reverse": "recall_at_k", "equalized_odds": "zero_shot_recall",
    "demographic_parity": "selection_rate", "zero_shot_disparity": "zero_shot_recall", "harm_disparity": "harm_rate",
    "sc_weat": "sc_weat",
}  # fmt: skip
REASONS = {
    "mac": "the mean of all distances: ties in opposite directions cancel, so it does not see them",
    "effective_groups": "a count that permuted labels do not change: there is no test",
    "resolution_neutral": "no zoo model ever chooses the neutral word",
}
PARTS, FRESH = 8, 1000


def recipe() -> recipes.Recipe:
    """Return the default recipe with every metric on the world's people, for perceived gender."""
    base = recipes.load()
    people = next(m for m in base.measurements if m.image_set == "world-people")
    changes = {
        "metrics": list(registry()),
        "levels": "genders",
        "harmful": "",
        "views": ["global"],
        "attributes": [ATTRIBUTE],
    }
    protocol = base.protocol.model_copy(update={"n_boot": 0, "n_perm": 400})
    return base.model_copy(
        update={"measurements": [people.model_copy(update=changes)], "views": ["global"], "random_subsets": 0, "local_draws": 0,
                "protocol": protocol}
    )  # fmt: skip


def inputs_of(part: Part, rows: np.ndarray | None = None) -> dict[str, list]:
    """Return the inputs of each kind; harm has one per level: the roles tied to it count as harmful.

    The labour shares of the world are equal ones, since its people are.
    """
    mask = None if rows is None else np.isin(np.arange(len(part.images)), rows)
    inputs = part.inputs(ATTRIBUTE, mask)
    ranking, named = inputs["ranking"], inputs["classification"]
    assert isinstance(ranking, Ranking)
    assert isinstance(named, Classification)
    groups = len(ranking.coded[1])
    inputs["ranking"] = replace(ranking, world=np.full((len(ranking.probes), groups), 1 / groups))
    every: dict[str, list] = {kind: [given] for kind, given in inputs.items()}
    ties = world.ties(ATTRIBUTE)
    every["harm"] = [
        replace(named, y_true=None, harmful=[role for role, tie in ties.items() if tie == level])
        for level in dict.fromkeys(ties.values())
    ]
    return every


def rows_of(name: str, given: list, protocol: Protocol) -> list[dict]:
    """Return the rows of one metric; what is harmful stands for a probe, named by its level."""
    if name.startswith("harm"):
        levels = dict.fromkeys(world.ties(ATTRIBUTE).values())
        return [
            {**row, "probe": f"tied to {level}"}
            for level, one in zip(levels, given, strict=True)
            for row in inference.evaluate(name, one, protocol=protocol, each=False)
        ]
    rows = inference.evaluate(name, given[0], protocol=protocol)
    if name != "sc_weat":
        return rows
    # Positive is closer to the first group: written as one row for each group, as metrics with a value per group are.
    return [
        {**row, "group": group, "value": sign * row["value"]}
        for row in rows
        for group, sign in zip(sorted(world.LEVELS[ATTRIBUTE]), (1.0, -1.0), strict=True)
    ]


def fires(m: Metric, given, protocol: Protocol) -> float:
    """Return the share of 5 % tests that fire on fresh labels."""
    fresh = protocol.model_copy(update={"n_perm": FRESH, "seed": 77})
    drawn, null = (
        m.kernel(given.tally("permuted", p, m))
        for p in (fresh, protocol.model_copy(update={"n_perm": FRESH}))
    )
    if drawn.ndim == 2:
        drawn, null = drawn[..., None], null[..., None]
    # Over all classes, how often each is named has no freedom left: half of them are taken.
    probes = drawn.shape[1] if m.name not in ("selection_rate", "selection_gap") else drawn.shape[1] // 2
    hits: list[bool] = []
    for g in range(drawn.shape[2]):
        values, base = (
            inference._mean_over_probes(np.where(np.isfinite(a), a, np.nan)[:, :probes, g])
            for a in (drawn, null)
        )
        found = [inference._null(float(v), base, m.worse) for v in values[np.isfinite(values)]]
        hits += [f["p"] <= 0.05 for f in found if np.isfinite(f.get("z", np.nan))]
    return float(np.mean(hits)) if hits else np.nan


def correlated(strength: pd.Series, values: pd.DataFrame) -> dict:
    """Return the rank correlations of a line."""
    values = values.dropna()
    rho = strength.reindex(values.index).to_numpy()
    try:
        found = correlate(rho, values["value"].to_numpy())
        unsigned = correlate(rho, values["unsigned"].to_numpy()).estimate
    except StatusError as problem:
        return {"reason": problem.reason}
    return {
        "spearman": found.estimate, "ci_low": found.ci_low, "ci_high": found.ci_high, "n_models": len(values),
        "spearman_unsigned": unsigned,
    }  # fmt: skip


def repeated(wide: pd.DataFrame) -> dict:
    """Return the split-half reliability of models (or samples) x items."""
    wide = wide.replace([np.inf, -np.inf], np.nan).dropna(axis=1)
    try:
        return {"reliability": reliability(wide.to_numpy(), splits=100, bootstrap=0).value}
    except StatusError as problem:
        return {"reason": f"no reliability: {problem.reason}"}


def off(m: Metric, rows: pd.DataFrame) -> pd.Series:
    """Return the distance to the ideal; of a share without one, to the mean over groups."""
    if np.isnan(m.ideal):
        return (rows["value"] - rows.groupby(["model", "part", "probe"])["value"].transform("mean")).abs()
    return (rows["value"] - m.ideal).abs()


def measured(models: list[str]) -> tuple[pd.DataFrame, pd.Series, dict[str, list[float]]]:
    """Measure every metric of models.

    Returns
    -------
    rows : DataFrame
        Rows with ``model, metric, part``: part -1 is all images, the others are parts of them, for metrics of one number.
    strength : Series
        Planted strength by model.
    rates : dict
        False positive rates of the models without a planted bias, by metric.
    """
    asked, start = recipe(), time.time()
    bare = asked.protocol.model_copy(update={"n_perm": 0})
    frames, strength, rates = [], {}, {}
    for model in models:
        loaded = load_model(model)
        facts, measurement = model_facts(loaded.metadata), asked.measurements[0]
        if facts["planted_strength"] is None or facts["planted_context"]:
            continue
        part = Part(
            Unit(model, asked), measurement, image_sets.load(measurement), loaded, None, EmbeddingCache()
        )
        strength[model] = facts["planted_strength"]
        scenes = part.images.table["scene"].to_numpy()
        order = np.random.default_rng(0).permutation(np.unique(scenes))
        pieces = [np.flatnonzero(np.isin(scenes, own)) for own in np.array_split(order, PARTS)]
        for number, rows in enumerate([None, *pieces], start=-1):
            inputs = inputs_of(part, rows)
            for name, m in registry().items():
                given = inputs.get(input_of(name))
                if m.needs == "labels" or given is None or (number >= 0 and not one_number(m)):
                    continue
                frames.append(
                    pd.DataFrame(rows_of(name, given, bare)).assign(model=model, metric=name, part=number)
                )
                if number < 0 and strength[model] == 0:
                    rates.setdefault(name, []).append(mean([fires(m, one, asked.protocol) for one in given]))
        print(f"{model}: {time.time() - start:.0f} s", flush=True)
    constant = {"image_set": part.images.name, "attribute": ATTRIBUTE, "view": "global", "stage": "pre"}
    return pd.concat(frames, ignore_index=True).assign(**constant), pd.Series(strength), rates


def mean(rates: list[float]) -> float:
    """Return the mean over the tests that there are."""
    known = [rate for rate in rates if np.isfinite(rate)]
    return float(np.mean(known)) if known else np.nan


def one_number(m: Metric) -> bool:
    """Whether a metric has no probes to split."""
    return m.needs == "targets" or m.name == "weat" or m.name.startswith("harm")


def model_lines(models: list[str]) -> Iterator[dict]:
    """Return the lines of metrics of a model."""
    rows, strength, rates = measured(models)
    whole = rows[rows["part"] < 0]
    by_probe = [n for n, m in registry().items() if m.needs not in ("targets", "labels") and n != "weat"]
    asked = question()
    settings = asked.model_copy(
        update={"metrics": by_probe, "also": [], "direction": asked.direction | SIBLINGS}
    )
    tied = world.ties(ATTRIBUTE) | {f"tied to {level}": level for level in world.LEVELS[ATTRIBUTE]}
    # A metric that names its direction by another needs that one's rows; a value per group needs no name.
    directed = summaries(whole[whole["metric"].isin(by_probe)], settings, tied=tied)
    for name, m in registry().items():
        if m.needs == "labels":
            continue
        own = whole[(whole["metric"] == name) & (whole["status"] == "ok")]
        line = {"metric": name, "what": "zoo", "reason": ""}
        if own.empty:
            why = whole.loc[whole["metric"] == name, "reason"]
            yield {**line, "reason": why.iloc[0] if len(why) else "the world has no input for it"}
            continue
        if name in by_probe:
            values = directed[directed["metric"] == name].set_index("model")[["value", "unsigned"]]
        else:
            away = own[own["probe"] == ""].set_index("model")["value"] - (0 if np.isnan(m.ideal) else m.ideal)
            values = pd.DataFrame(
                {"value": away * TOWARDS[name] if name in TOWARDS else away.abs(), "unsigned": away.abs()}
            )
        line |= correlated(strength, values)
        items = rows[(rows["metric"] == name) & (rows["status"] == "ok")]
        if one_number(m):
            items = items[
                (items["part"] >= 0) & (items["probe"].ne("") | items["metric"].isin(["weat", *targets()]))
            ]
        else:
            items = items[(items["part"] < 0) & (items["probe"] != "")]
        wide = (
            items.assign(off=off(m, items)).groupby(["model", "part", "probe"])["off"].max().unstack([1, 2])
        )
        again = repeated(wide)
        line |= {
            "reliability": again.get("reliability", np.nan),
            "reason": line["reason"] or again.get("reason", ""),
        }
        if name in rates:
            line["false_positive_rate"] = mean(rates[name])
        yield line


def targets() -> list[str]:
    """Return the metrics on two sets of targets."""
    return [n for n, m in registry().items() if m.needs == "targets"]


def sample_lines() -> Iterator[dict]:
    """Return the lines of what describes images: on samples of the world with planted ties, three for each strength."""
    protocol = recipe().protocol
    bare = protocol.model_copy(update={"n_perm": 0})
    names = [n for n, m in registry().items() if m.needs == "labels"]
    frames, strength, rates = [], {}, {}
    for rho in (0.5, 0.7, 0.85, 0.95):
        for seed in range(3):
            knobs = world.World(n=2000, seed=1000 + seed, rho=rho)
            table = world.scenes(knobs)
            key = f"{rho} {seed}"
            strength[key] = world.strength(knobs)
            part = table["scene"] % PARTS
            for name in names:
                m = registry()[name]
                # One number of a sample is taken of parts of it too. What a slice is made of has a number for each slice:
                # here each role's images.
                by = {"cramers_v": part, "effective_groups": table["role"]}.get(name)
                slices = [("", table), *(table.groupby(by) if by is not None else [])]
                for piece, one in slices:
                    given = Labels(one["role"].to_numpy(), pd.Categorical(one["gender"]))
                    found = pd.DataFrame(inference.evaluate(name, given, protocol=bare))
                    frames.append(found.assign(model=key, metric=name, part=piece))
                    if rho == 0.5 and piece == "":
                        rates.setdefault(name, []).append(fires(m, given, protocol))
    rows = pd.concat(frames, ignore_index=True)
    tie = world.ties(ATTRIBUTE)
    for name in names:
        own = rows[(rows["metric"] == name) & (rows["status"] == "ok")]
        if registry()[name].per_group:
            items = (
                own[own["probe"].map(tie) == own["group"]].set_index(["model", "probe"])["value"].unstack()
            )
        else:
            items = (
                own[(own["part"] != "") & (own["probe"] == "")]
                .set_index(["model", "part"])["value"]
                .unstack()
            )
        if name == "effective_groups":
            items = len(world.LEVELS[ATTRIBUTE]) - items
        values = pd.DataFrame({"value": items.mean(axis=1), "unsigned": items.abs().mean(axis=1)})
        line = {
            "metric": name,
            "what": "samples of the world",
            "reason": "",
            **correlated(pd.Series(strength), values),
        }
        again = repeated(items)
        line |= {
            "reliability": again.get("reliability", np.nan),
            "reason": line["reason"] or again.get("reason", ""),
        }
        yield {**line, "false_positive_rate": mean(rates[name])}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--coverage", type=Path, nargs="+", default=[], help="CSV files of benchmarks/coverage.py"
    )
    parser.add_argument("--models", nargs="+", default=[f"zoo:{name}" for name in zoo.names()])
    args = parser.parse_args()
    lines = {line["metric"]: line for line in (*model_lines(args.models), *sample_lines())}
    cells = [
        pd.read_csv(path).query("of == 'value'")[["metric", "covered_percent"]] for path in args.coverage
    ]
    covered = pd.concat(cells).groupby("metric")["covered_percent"].mean() / 100 if cells else {}
    out = pd.DataFrame([lines[name] for name in registry()], columns=list(COLUMNS))
    out["coverage"] = out["metric"].map(covered)
    known = out["metric"].map(REASONS)
    out["reason"] = out["reason"].where(known.isna(), known)
    print(out.round(3).to_string(index=False))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    out.round(4).to_csv(args.out, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
