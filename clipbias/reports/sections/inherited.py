"""Planted bias downstream: does more of what was planted in pretraining come out of the adapted model, per mode."""

from __future__ import annotations

import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid
from clipbias.reports.cited import cited, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.adapted import adapted_bias
from clipbias.reports.summary import primary
from clipbias.reports.tabular import Show, table

MODES = ("frozen", "lora", "full", "scratch")


@section("inherited")
def inherited(ctx: Context) -> Content | None:
    """Return bias after adaptation over planted strength, one chart per task, and the table of slopes."""
    if not (ctx.tables.has("adapted") and ctx.tables.has("extrinsic")):
        return None
    frame = adapted_bias(ctx)
    frame = frame[frame["value"].notna() & (frame["competent"] != "no") & (frame["probe"] == "")]
    frame = frame[frame["planted_rho"].notna() & (frame["planted_context"] == "")]
    if frame["planted_rho"].nunique() < 2:
        return None
    metric = primary(ctx.metrics(frame), list(ctx.options.get("metrics", [])))
    attribute = ctx.attributes(frame[frame["metric"] == metric])[0]
    default = {"metric": metric, "attribute": attribute}
    modes = [m for m in MODES if m in set(frame["mode"])]
    # Drawn from rows of its own: x is the planted strength here and the quality in the chart before.
    moved = {m: (i - (len(modes) - 1) / 2) * 0.006 for i, m in enumerate(modes)}
    place = frame["planted_rho"] + frame["mode"].map(moved)
    cut = frame.assign(x=place, x_low=place, x_high=place, place=frame["planted_rho"], ideal=0.0, label=frame["family"])  # fmt: skip
    ctx.shared.add("planted_after", cut)
    spec = forms.cloud(ctx.theme, x="planted \u03c1 of the pretraining", y="bias", groups=modes, group="mode")
    slopes = ctx.tables["planted_transfer"] if ctx.tables.has("planted_transfer") else pd.DataFrame()
    figures: list[Figure] = []
    for task, part in cut.groupby("task", sort=True):
        now = part[(part["metric"] == metric) & (part["attribute"] == attribute)]
        if now.empty:
            continue
        figures.append(
            ctx.draw(
                spec.copy(), id=f"inherited-{len(figures)}", title=words.capital(str(task)),
                note=_note(slopes, str(task), metric), finding=_finding(ctx, now, str(task), metric), source="planted_after",
                where={"task": str(task)}, default=default, highlight=("model",),
            )
        )  # fmt: skip
    blocks: list[object] = [
        Grid(
            tuple(figures),
            heading="Planted strength and what comes out",
            current=tuple(default.items()),
            legend=ctx.legend(modes),
        )
    ]
    if len(slopes):
        ctx.shared.add("planted_transfer", slopes)
        blocks.append(_slopes(ctx, slopes))
    facts = {
        "slopes": _told(slopes, metric),
        "apart": _told(slopes, metric, MODES[0]),
        "metric": ctx.title(metric),
    }
    return Content(facts, tuple(blocks))


def _finding(ctx: Context, now: pd.DataFrame, task: str, metric: str) -> str:
    parts = []
    for mode, own in now.groupby("mode", sort=True):
        means = own.groupby("place")["value"].mean()
        parts.append(
            f"{mode}: {words.number(means.iloc[0])} at \u03c1 {means.index[0]:.2f}, "
            f"{words.number(means.iloc[-1])} at \u03c1 {means.index[-1]:.2f}"
        )
    return f"{task}, {ctx.title(metric)} over planted strength; {'; '.join(parts)}."


def _slope_rows(slopes: pd.DataFrame, metric: str, compared: str = "") -> pd.DataFrame:
    """Return the slopes of a metric over all test images; with ``compared``, of the difference from that mode."""
    if slopes.empty or not {"task", "mode", "slope"} <= set(slopes.columns):
        return pd.DataFrame()
    own = slopes[slopes["metric"] == metric] if "metric" in slopes else slopes
    own = own[own["slope"].notna()]
    if "compared_with" in own:
        own = own[own["compared_with"] == compared]
    elif compared:
        return pd.DataFrame()
    for column in ("view", "intervention", "term"):
        if column in own and own[column].nunique() > 1:
            own = own[own[column].isin(["global", "", "slope"])]
    return own


def _note(slopes: pd.DataFrame, task: str, metric: str) -> str:
    own = _slope_rows(slopes, metric)
    if own.empty:
        return ""
    own = own[own["task"] == task]
    return "slopes: " + ", ".join(f"{r.mode} {words.number(r.slope, 2)}" for r in own.itertuples())


def _told(slopes: pd.DataFrame, metric: str, compared: str = "") -> list[dict[str, str]]:
    """Return the slopes for the text, each with its code, where the key in the table finds one row."""
    own = _slope_rows(slopes, metric, compared)
    keys = [
        c
        for c in (
            "task",
            "mode",
            "head",
            "metric",
            "attribute",
            "intervention",
            "view",
            "evaluation",
            "image_set",
            "compared_with",
        )
        if c in own
    ]
    if own.empty or own.duplicated(keys).any():
        return []
    ends = next(
        (p for p in (("slope_low", "slope_high"), ("ci_low", "ci_high")) if set(p) <= set(own.columns)), None
    )
    out = []
    for r in own.to_dict("records"):
        key = {k: r[k] for k in keys}
        told = {"task": words.acronyms(str(r["task"])), "mode": r["mode"]}
        told["slope"] = cited(words.number(r["slope"], 2), value("planted_transfer", "slope", **key))
        told["interval"] = (
            cited(words.interval(r[ends[0]], r[ends[1]], 2), values("planted_transfer", ends, **key))
            if ends
            else ""
        )
        out.append(told)
    return out


def _slopes(ctx: Context, slopes: pd.DataFrame):
    ends = next(
        (p for p in (("slope_low", "slope_high"), ("ci_low", "ci_high")) if set(p) <= set(slopes.columns)),
        None,
    )
    named = {"task", "mode", "head", "attribute", "metric", "slope", *(ends or ())}
    say = {"task": words.capital, "attribute": ctx.theme.attribute, "metric": ctx.title}
    shows = [
        Show(c, words.capital(c), say=say.get(c)) for c in ("task", "mode", "head", "attribute", "metric")
    ]
    shows.append(Show("slope", "Slope", "number", ends))
    for c in slopes.columns:
        # What is empty throughout says nothing: there was no intervention, or nothing to compare with.
        empty = not (slopes[c].notna() & (slopes[c].astype(str) != "")).any()
        if c not in named and not empty and not c.endswith(("_low", "_high")):
            numeric = pd.api.types.is_numeric_dtype(slopes[c]) and not pd.api.types.is_bool_dtype(slopes[c])
            kind = "count" if c in ("n", "doses") else "number" if numeric else "prose"
            shows.append(Show(c, words.capital(c.replace("_", " ")), kind, _ends(slopes, c)))
    return table(
        slopes,
        shows,
        id="slopes-table",
        caption="Slope of bias after adaptation on planted strength",
        source="planted_transfer",
    )


def _ends(frame: pd.DataFrame, column: str) -> tuple[str, str] | None:
    return (f"{column}_low", f"{column}_high") if f"{column}_low" in frame else None
