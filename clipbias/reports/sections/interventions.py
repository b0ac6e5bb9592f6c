"""What interventions did: bias against quality, and the figures of the experiments whose tables are there.

Tables and columns are those that clipbias/tasks/interventions/tables.py names; each figure appears with its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid, Table
from clipbias.reports.cited import cited, rows
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.transfer import verdict_table
from clipbias.reports.tabular import Show, table

_ROLES = {
    "real": "intervention",
    "plain": "plain twin",
    "null": "null twin",
    "base": "plain training",
    "": "intervention",
}


@section("interventions")
def interventions(ctx: Context) -> Content | None:
    """Return the Pareto charts and one grid per experiment that has a table."""
    blocks: list[Any] = []
    facts: dict[str, Any] = {"systems": "", "checks": "", "passed": "", "missed": []}
    frame = _systems(ctx)
    if len(frame):
        pairs = _pairs(frame, _higher(ctx))
        if len(pairs):
            ctx.shared.add("pareto", pairs[[c for c in PAIR if c in pairs]])
            blocks.append(_pareto(ctx, pairs))
        blocks.append(_table(ctx, frame))
        facts["systems"] = words.count(frame["setting"].nunique(), "system")
    for name, spec in EXPERIMENTS.items():
        if ctx.tables.has(name):
            blocks += _experiment(ctx, name, **spec)
    checks = ctx.tables["intervention_checks"]
    if len(checks):
        passed = checks["passed"].astype(bool)
        source = rows("intervention_checks")
        facts["checks"] = cited(str(len(checks)), f"len({source})")
        facts["passed"] = cited(str(int(passed.sum())), f"""{source}["passed"].astype(bool).sum()""")
        facts["missed"] = [
            f"{r.check} ({r.intervention}, {words.acronyms(str(r.task))})"
            for r in checks[~passed].head(3).itertuples()
        ]
        blocks.append(_checks(ctx, checks))
    verdicts = verdict_table(ctx, ("interventions",), id="interventions-verdicts") if blocks else None
    blocks += [verdicts]
    blocks = [b for b in blocks if b is not None]
    return Content(facts, tuple(blocks)) if blocks else None


def _systems(ctx: Context) -> pd.DataFrame:
    """Return the table of systems; of a run without it, what ``extrinsic`` holds of interventions."""
    frame = ctx.tables["interventions"].copy() if ctx.tables.has("interventions") else _from_rows(ctx)
    if frame.empty:
        return frame
    for column in (
        "source",
        "world",
        "role",
        "setting",
        "intervention",
        "kind",
        "model",
        "task",
        "mode",
        "metric",
    ):
        frame[column] = frame[column].fillna("").astype(str) if column in frame else ""
    frame["setting"] = frame["setting"].where(frame["setting"] != "", frame["intervention"])
    frame["setting"] = frame["setting"].where(frame["setting"] != "", "plain training")
    ctx.shared.add("interventions", frame)
    return ctx.shared.frames["interventions"]


def _from_rows(ctx: Context) -> pd.DataFrame:
    found = ctx.tables["extrinsic"]
    keys = ["model", "task", "head", "mode"]
    touched = found[found["intervention"] != ""][keys].drop_duplicates()
    if touched.empty:
        return pd.DataFrame()
    found = found.merge(touched, on=keys)
    whole = found[(found["view"] == "global") & (found["group"] == "") & (found["probe"] == "")]
    quality = ctx.tables["adapted"].drop_duplicates(["task", "metric"])[["task", "metric"]]
    quality = quality.assign(kind="quality")
    wanted = list(ctx.options.get("metrics", []))
    named = whole.merge(quality, on=["task", "metric"], how="left")
    named["kind"] = named["kind"].where(named["attribute"] == "", None).fillna("bias")
    named = named[(named["kind"] == "quality") | (named["metric"].isin(wanted) & (named["attribute"] != ""))]
    return named.rename(columns={"ci_low": "value_low", "ci_high": "value_high"}).assign(
        setting=named["intervention"], role=np.where(named["intervention"] == "", "base", "real"), seeds=1
    )


def _higher(ctx: Context) -> set[str]:
    """Return the measures that are better when they are higher; of the others zero is fair."""
    return set(ctx.options.get("higher_is_better", []))


def _rank(ctx: Context, metric: str) -> int:
    """Return the place of a measure among those that are drawn first."""
    first = list(ctx.options.get("drawn_first", []))
    return first.index(metric) if metric in first else len(first)


# What the charts need of a pair; everything else is in the table of systems.
PAIR = (
    "world", "model", "task", "mode", "metric", "attribute", "value", "low", "high", "x", "x_low", "x_high", "family", "front", "label",
    "named", "right", "solid", "state", "n",
)  # fmt: skip


def _pairs(frame: pd.DataFrame, higher: set[str]) -> pd.DataFrame:
    """Return bias beside quality of the same system; every bias metric with the first quality of its task."""
    keys = [
        c
        for c in ("source", "world", "model", "task", "head", "mode", "setting", "role", "seed")
        if c in frame
    ]
    good = frame[frame["value"].notna()]
    quality, bias = good[good["kind"] == "quality"], good[good["kind"] == "bias"]
    if quality.empty or bias.empty:
        return pd.DataFrame()
    first = quality.drop_duplicates(["task"])[["task", "metric"]]
    quality = quality.merge(first, on=["task", "metric"])[
        [*keys, "metric", "value", "value_low", "value_high"]
    ]
    quality = quality.drop_duplicates(keys).rename(
        columns={"metric": "quality_metric", "value": "x", "value_low": "x_low", "value_high": "x_high"}
    )
    both = bias.merge(quality, on=keys).rename(columns={"value_low": "low", "value_high": "high"})
    for end in ("low", "high"):
        both[end] = both[end].fillna(both["value"])
        both[f"x_{end}"] = both[f"x_{end}"].fillna(both["x"])
    both["away"] = both["value"].abs().where(~both["metric"].isin(higher), -both["value"])
    both["family"] = both["role"].map(_ROLES).fillna("intervention")
    group = [c for c in ("source", "world", "model", "task", "mode", "metric", "attribute") if c in both]
    both["front"] = _front(both, group)
    ends = both.groupby(group, dropna=False)
    middle = (ends["x_low"].transform("min") + ends["x_high"].transform("max")) / 2
    return both.assign(
        label=both["setting"], named=both["setting"].where(both["front"], ""), right=both["x"] > middle, solid=both["front"],
        state=np.where(both["front"], "on the front", ""), n=both.get("seeds", 1),
    )  # fmt: skip


def _front(frame: pd.DataFrame, group: Sequence[str]) -> pd.Series:
    """Say which systems no other beats in quality and bias both."""
    out = pd.Series(False, index=frame.index)
    for _, part in frame.groupby(list(group), dropna=False):
        x, bias = part["x"].to_numpy(), part["away"].to_numpy()
        no_worse = (x[:, None] >= x[None, :]) & (bias[:, None] <= bias[None, :])
        better = no_worse & ((x[:, None] > x[None, :]) | (bias[:, None] < bias[None, :]))
        out.loc[part.index] = ~better.any(0)
    return out


def _pareto(ctx: Context, pairs: pd.DataFrame) -> Grid:
    roles = [r for r in dict.fromkeys(_ROLES.values()) if r in set(pairs["family"])]
    figures: list[Figure] = []
    groups = [c for c in ("world", "task", "mode", "model", "metric") if c in pairs]
    limit = int(ctx.options.get("max_charts", 12))
    higher = _higher(ctx)
    parts = [
        ({k: str(v) for k, v in zip(groups, key, strict=True)}, part)
        for key, part in pairs.groupby(groups, sort=True)
    ]
    # What was planted is known, so it comes before the data in which nothing should change.
    parts.sort(key=lambda p: (_rank(ctx, p[0]["metric"]), p[0].get("world") != "planted"))
    for where, part in parts[:limit]:
        spec = forms.cloud(
            ctx.theme, x=ctx.title(str(part["quality_metric"].iloc[0])), y=ctx.title(where["metric"]), groups=roles, labels="named"
        )  # fmt: skip
        fair = "higher is fairer" if where["metric"] in higher else "zero is fair"
        front = part[part["front"]].sort_values("x", ascending=False)
        title = ", ".join(
            v
            for v in (words.capital(where["task"]), where["mode"], where["model"], where.get("world", ""))
            if v
        )
        figures.append(
            ctx.draw(
                spec, id=f"pareto-{len(figures)}", title=title, note=f"{ctx.title(where['metric'])} upwards, {fair}; named: no other system is better in both",
                finding=f"{title}: of {len(part)} systems, {len(front)} are on the front of {ctx.title(where['metric'])} and quality: {words.joined(front['label'].tolist(), limit=4)}.",
                source="pareto", where=where, highlight=("model",),
            )
        )  # fmt: skip
    left = len(parts) - len(figures)
    heading = "Bias against quality" + (
        f" \u00b7 {len(figures)} of {len(parts)} charts, all values are in the table" if left else ""
    )
    return Grid(tuple(figures), heading=heading, legend=ctx.legend(roles))


def _table(ctx: Context, frame: pd.DataFrame) -> Table:
    shows = [
        Show("setting", "System", note="role"), Show("model", "Model"), Show("task", "Task"), Show("mode", "Tower"), Show("world", "World"),
        Show("metric", "Measure", say=ctx.title, note="kind"), Show("value", "Value", "number", ("value_low", "value_high"), decimals=3),
        Show("change", "Against its plain twin", "number", ("change_low", "change_high"), decimals=3),
        Show("change_base", "Against plain training", "number", ("change_base_low", "change_base_high"), decimals=3),
        Show("seeds", "Seeds", "count"), Show("n_used", "Images used", "count"), Show("effective", "Effective number", "count"),
        Show("seen_train", "Labels in training", "prose"),
    ]  # fmt: skip
    return table(
        frame, shows, id="interventions-table", caption="Every system: value, and its change against its twins", source="interventions",
        folded=f"All systems and measures ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 150)),
    )  # fmt: skip


# Table -> how its figure is drawn: x, y, what makes a line, what makes a chart, in which order a line runs.
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "dose_response": {
        "heading": "Dose and response", "x": "rho_pre", "x_title": "planted \u03c1 of the pretraining", "y": "value", "series": ("mode",),
        "charts": ("task", "metric", "evaluation", "rho_down", "n"), "order": "rho_pre", "over_models": True,
    },
    "overwriting": {
        "heading": "Overwriting: AUC against the difference of false-positive rates", "x": "auc", "x_title": "AUC", "y": "fpr_difference",
        "series": ("model",), "charts": ("task", "mode", "selection"), "order": "phi", "label": "\u03c6",
    },
    "inheritance": {
        "heading": "Inheritance over the size of the fine-tuning data", "x": "n", "x_title": "images of fine-tuning (log)", "y": "value",
        "series": ("model",), "charts": ("task", "mode", "metric", "phi"), "order": "n", "log": True,
    },
    "spuriosity_rank": {
        "heading": "Spuriosity rank of planted cues", "x": "planted", "x_title": "strength of the planted cue", "y": "rank",
        "series": ("model",), "charts": ("cues",), "order": "planted", "mean": True,
    },
    "artefact_sweep": {
        "heading": "Artefacts of the generator", "x": "artefact", "x_title": "artefact (grey levels)", "y": "value", "series": ("how", "stage2"),
        "charts": ("task", "mode", "model", "metric"), "order": "artefact",
    },
}  # fmt: skip


def _experiment(
    ctx: Context, name: str, *, heading: str, x: str, x_title: str, y: str, series: Sequence[str], charts: Sequence[str], order: str,
    log: bool = False, mean: bool = False, over_models: bool = False, label: str = "",
) -> list[Any]:  # fmt: skip
    given = ctx.tables[name]
    keys = [c for c in charts if c in given]
    frame = _means(given, [*keys, *dict.fromkeys((*series, "model")), x], y) if mean else given.copy()
    frame = frame[frame[y].notna() & frame[x].notna()]
    if frame.empty:
        return []
    for key in keys:
        frame[key] = [_text(v) for v in frame[key]]
    low, high = (
        frame[f"{y}_{end}"] if f"{y}_{end}" in frame else pd.Series(np.nan, index=frame.index)
        for end in ("low", "high")
    )
    frame = frame.assign(
        x=frame[x].astype(float), value=frame[y].astype(float), low=low.fillna(frame[y]), high=high.fillna(frame[y]),
        series=frame[list(series)].astype(str).agg(", ".join, axis=1), place=frame[order].astype(float),
        label=[f"{label} {_text(v)}" for v in frame[order]] if label else "",
    )  # fmt: skip
    if not over_models and "model" not in frame:
        frame["model"] = ""
    ctx.shared.add(name, frame)
    names = sorted(set(frame["series"]))
    specs = {
        zero: forms.lines(ctx.theme, x=x_title, y=y.replace("_", " "), groups=names, log=log, zero=zero)
        for zero in (True, False)
    }
    figures: list[Figure] = []
    limit = int(ctx.options.get("max_panels", 6))
    parts = [
        (dict(zip(keys, (str(k) for k in key), strict=True)), part)
        for key, part in frame.groupby(keys, sort=True)
    ]
    # The largest fine-tuning sets come first: what the size does is in the figure of inheritance.
    parts.sort(key=lambda p: (-float(p[0].get("n") or 0), _rank(ctx, p[0].get("metric", ""))))
    for where, part in parts[:limit]:
        told = [_said(ctx, k, v) for k, v in where.items() if v and (k in ("task", "mode", "metric", "cues") or frame[k].nunique() > 1)]  # fmt: skip
        spec = specs[_zero_is_fair(ctx, where.get("metric", ""), y)]
        ends = part.sort_values("place")
        finding = (
            f"{heading}, {', '.join(told)}: {y.replace('_', ' ')} from {words.number(float(ends['value'].iloc[0]))} at {x_title} "
            f"{words.number(float(ends['x'].iloc[0]))} to {words.number(float(ends['value'].iloc[-1]))} at {words.number(float(ends['x'].iloc[-1]))}."
        )
        figures.append(
            ctx.draw(
                spec, id=f"{name.replace('_', '-')}-{len(figures)}", title=words.capital(", ".join(told)), finding=finding, source=name,
                where=where, highlight=("model",),
            )
        )  # fmt: skip
    shows = [
        Show("model", "Model"), *(Show(k, _HEADS.get(k, words.capital(k)), say=ctx.title if k == "metric" else None) for k in keys),
        *(Show(k, _HEADS.get(k, words.capital(k))) for k in series if k != "model"),
        *([Show("place", label or order)] if order not in (x, *keys, *series) else []),
        Show("x", words.capital(x_title)), Show("value", words.capital(y.replace("_", " ")), "number", ("low", "high"), decimals=3),
    ]  # fmt: skip
    shown = table(
        frame, shows, id=f"{name.replace('_', '-')}-table", caption=f"{heading}: every value", source=name,
        folded=f"{heading}: all values ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 100)),
    )  # fmt: skip
    return [Grid(tuple(figures), heading=heading, legend=ctx.legend(names)), shown]


_HEADS = {
    "rho_down": "Fine-tuning \u03c1",
    "phi": "\u03c6",
    "n": "Images",
    "mode": "Tower",
    "how": "Artefact",
    "stage2": "Second stage",
}


def _said(ctx: Context, key: str, value: str) -> str:
    """Return what a chart is of, in words."""
    if key == "metric":
        return ctx.title(value)
    if key == "n":
        return f"{float(value):,.0f} images" if float(value) else "before fine-tuning"
    if key in ("phi", "rho_down"):
        return f"{_HEADS[key]} {value}"
    return words.acronyms(value.replace("_", " "))


def _zero_is_fair(ctx: Context, metric: str, y: str) -> bool:
    """Say whether a fair system has zero: of differences and rates it does, of accuracies and ranks it does not."""
    return "difference" in y or (metric != "" and metric not in _higher(ctx))


def _means(frame: pd.DataFrame, keys: list[str], y: str) -> pd.DataFrame:
    """Return the mean per cell with a normal 95 % interval over its images."""
    found = frame.groupby(keys, dropna=False)[y].agg(["mean", "std", "size"]).reset_index()
    half = 1.96 * found["std"] / np.sqrt(found["size"])
    return found.assign(**{y: found["mean"], f"{y}_low": found["mean"] - half, f"{y}_high": found["mean"] + half, "n": found["size"]})  # fmt: skip


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def _checks(ctx: Context, frame: pd.DataFrame) -> Table:
    ctx.shared.add("intervention_checks", frame)
    shows = [
        Show("intervention", "System", note="task"), Show("check", "What must hold", "prose"), Show("direction", "Must be"),
        Show("threshold", "Threshold", "number", decimals=3), Show("measured", "Measured", "number", decimals=3),
        Show("seed_sd", "sd over seeds", "number", decimals=3), Show("seeds", "Seeds", "count"),
        Show("passed", "Holds", say=lambda v: "\u2713 holds" if v else "\u2717 does not hold"), Show("explanation", "Explanation", "prose"),
    ]  # fmt: skip
    return table(
        frame,
        shows,
        id="checks-table",
        caption="What must hold of the interventions, and what was measured",
        source="intervention_checks",
        folded=f"All checks ({len(frame):,})",
        tall=True,
    )
