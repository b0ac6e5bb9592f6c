"""How far the numbers repeat themselves: reliability, heterogeneity over views, and which metrics agree."""

from __future__ import annotations

from typing import Any

import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid, Table
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.transfer import verdict_table
from clipbias.reports.tabular import Show, table


@section("reliability")
def reliability(ctx: Context) -> Content | None:
    """Return the reliability and heterogeneity tables and the agreement of metrics as matrices."""
    blocks = [
        verdict_table(ctx, ("global-local", "validity"), id="reliability-verdicts"),
        _reliability(ctx),
        _heterogeneity(ctx),
        _agreement(ctx),
    ]
    kept = tuple(b for b in blocks if b is not None)
    frame = ctx.tables["reliability"]
    good = frame[(frame["over"] == "probes") & frame["value"].notna()] if "value" in frame else frame
    facts: dict[str, Any] = {
        "metrics": len(good),
        "low": int((good["value"] < 0.7).sum()) if len(good) else 0,
    }
    return Content(facts, kept) if kept else None


def _reliability(ctx: Context) -> Table | None:
    frame = ctx.tables["reliability"]
    if frame.empty:
        return None
    ctx.shared.add("reliability", frame)
    shows = [
        Show("side", "Side"), Show("image_set", "Image set"), Show("task", "Task"), Show("metric", "Metric", say=ctx.title),
        Show("attribute", "Attribute", say=lambda a: ctx.theme.attribute(str(a)) if isinstance(a, str) and a else words.DASH),
        Show("over", "Repeated over"), Show("value", "Reliability", "number", ("ci_low", "ci_high"), decimals=2),
        Show("half", "One half, or one subset", "number", decimals=2), Show("items", "Items", "count"), Show("models", "Models", "count"),
        Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    return table(
        frame, shows, id="reliability-table", caption="How far each metric orders the models alike when it is measured again",
        source="reliability", folded=f"Reliability of each metric ({len(frame):,})", tall=True,
    )  # fmt: skip


def _heterogeneity(ctx: Context) -> Table | None:
    frame = ctx.tables["heterogeneity"]
    if frame.empty or "q" not in frame:
        return None
    shown = frame[frame["q"].notna()]
    if shown.empty:
        return None
    ctx.shared.add("heterogeneity", shown)
    shows = [
        Show("question", "Question"), Show("grouping", "Over"), Show("image_set", "Image set"),
        Show("attribute", "Attribute", say=lambda a: ctx.theme.attribute(str(a)) if isinstance(a, str) and a else words.DASH),
        Show("metric", "Metric", say=lambda m: ctx.title(m) if isinstance(m, str) and m else words.DASH),
        Show("mean", "Mean correlation", "number", decimals=2), Show("q", "Q", "number", decimals=1), Show("p_value", "p", "p"),
        Show("i2", "I\u00b2", "percent"), Show("k", "Cells", "count"), Show("status", "Status"), Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    return table(
        shown, shows, id="heterogeneity-table", caption="Whether the correlation is the same everywhere (Cochran's Q)",
        source="heterogeneity", folded=f"Heterogeneity ({len(shown):,})", tall=True,
    )  # fmt: skip


def _agreement(ctx: Context) -> Grid | None:
    frame = ctx.tables["agreement"]
    pair = next(
        (p for p in (("a", "b"), ("metric_a", "metric_b"), ("x", "y")) if set(p) <= set(frame.columns)), None
    )
    number = next((c for c in ("estimate", "value", "spearman", "correlation") if c in frame), None)
    if frame.empty or pair is None or number is None:
        return None
    for column in ("side", "attribute"):
        frame = frame.assign(**{column: frame[column].fillna("").astype(str) if column in frame else ""})
    missing = pd.Series(float("nan"), index=frame.index)
    one = frame.assign(
        row=frame[pair[0]].map(lambda t: _called(ctx, t)), column=frame[pair[1]].map(lambda t: _called(ctx, t)), value=frame[number],
        low=frame.get("ci_low", missing), high=frame.get("ci_high", missing), p=frame.get("p_value", frame.get("p", missing)),
        n=frame.get("n", missing), mark="", state="",
    )  # fmt: skip
    keep = ["side", "attribute", "row", "column", "value", "low", "high", "p", "n", "mark", "state"]
    both = pd.concat([one[keep], one.rename(columns={"row": "column", "column": "row"})[keep]])
    both = both.drop_duplicates(["side", "attribute", "row", "column"]).sort_values(
        ["side", "attribute", "row", "column"], kind="stable"
    )
    ctx.shared.add("agreement", both)
    figures: list[Figure] = []
    for (side, attribute), part in list(both.groupby(["side", "attribute"], sort=True))[:6]:
        good = part[part["value"].notna()]
        if good.empty:
            continue
        spec = forms.matrix(
            ctx.theme, what="Spearman", diverging=True, cells=part["row"].nunique(), label_width=160
        )
        who = ctx.theme.attribute(attribute)
        median = float(good["value"].median())
        figures.append(
            ctx.draw(
                spec, id=f"agreement-{len(figures)}", title=f"{words.capital(side)}, {who}", note=f"median {words.number(median, 2)}",
                finding=f"{side} metrics for {who}: the median correlation of two metrics over models is {words.number(median, 2)}.",
                source="agreement", where={"side": str(side), "attribute": str(attribute)}, wide=True,
            )
        )  # fmt: skip
    return Grid(tuple(figures), heading="Which metrics agree over models", folded=True) if figures else None


def _called(ctx: Context, text: object) -> str:
    first, slash, last = str(text).rpartition(" / ")
    return f"{ctx.title(last)} \u00b7 {first}" if slash else ctx.title(last)
