"""Local less global with paired draws, whether views differ at all, and whether they rank the models alike."""

from __future__ import annotations

from typing import Any

import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid, Table
from clipbias.reports.sections import Context, section
from clipbias.reports.summary import primary
from clipbias.reports.tabular import Show, table


@section("deviations")
def deviations(ctx: Context) -> Content | None:
    """Return heat maps of local less global value, the test of difference among views, and the order of models per view."""
    frame = ctx.tables["local"]
    good = frame[frame["delta"].notna()]
    if good.empty:
        return None
    frame = frame.assign(
        row=frame["model"], column=frame["view"], low=frame["ci_low"], high=frame["ci_high"],
        apart=(frame["ci_low"] > 0) | (frame["ci_high"] < 0),
    )  # fmt: skip
    frame["mark"] = frame["apart"].map({True: "\u25cf ", False: ""})
    frame["state"] = frame["apart"].map({True: "differs from global", False: ""})
    kept = ["model", "image_set", "grouping", "view", "attribute", "metric", "n", "value", "global", "delta", "ci_low", "ci_high", "status", "reason"]  # fmt: skip
    ctx.shared.add("local_differences", frame[kept])
    drawn = frame.assign(local=frame["value"], value=frame["delta"])
    metric = primary(ctx.metrics(good), list(ctx.options.get("metrics", [])))
    facts: dict[str, Any] = {
        "metric": ctx.title(metric),
        "n": len(good),
        "apart": int(frame["apart"].sum()),
        **_among(ctx),
        **_order(ctx),
    }
    maps = _maps(ctx, drawn[drawn["metric"] == metric], metric)
    blocks = [maps, _table(ctx, frame), _differences(ctx), _stability(ctx, metric), _orders(ctx)]
    return Content(facts, tuple(b for b in blocks if b is not None))


def _maps(ctx: Context, part: pd.DataFrame, metric: str) -> Grid:
    keep = ["model", "image_set", "attribute", "metric", "row", "column", "value", "low", "high", "n", "mark", "state"]  # fmt: skip
    ctx.shared.add("local_map", part[keep])
    figures: list[Figure] = []
    limit = int(ctx.options.get("max_charts", 6))
    largest = float(part["value"].abs().max()) or 1.0
    spec = forms.matrix(
        ctx.theme, what="local less global", diverging=True, cells=part["column"].nunique(), label_width=150, largest=largest, n="pictures"
    )  # fmt: skip
    pairs = [(s, a) for s in ctx.image_sets(part) for a in ctx.attributes(part[part["image_set"] == s])]
    for image_set, attribute in pairs[:limit]:
        own = part[
            (part["image_set"] == image_set) & (part["attribute"] == attribute) & part["value"].notna()
        ]
        if own.empty:
            continue
        apart = int((own["mark"] != "").sum())
        top = own.loc[own["value"].abs().idxmax()]
        who = words.capital(ctx.theme.attribute(attribute))
        figures.append(
            ctx.draw(
                spec, id=f"deviation-{len(figures)}", title=f"{who} \u00b7 {image_set}", note=f"{apart} of {len(own)} differ from the global value",
                finding=(
                    f"{ctx.title(metric)} for {who}, {image_set}, local less global value: {apart} of {len(own)} differ from zero; the largest is "
                    f"{words.number(top['value'], 2, sign=True)} {words.interval(top['low'], top['high'], 2)} for {top['model']} in {top['column']}."
                ),
                source="local_map", where={"image_set": str(image_set), "attribute": str(attribute), "metric": metric}, wide=True,
            )
        )  # fmt: skip
    legend = (("before a number: the 95\u202f% interval leaves out zero", "circle", ctx.theme.light["ink"]),)
    return Grid(
        tuple(figures), heading=f"{ctx.title(metric)} in each view, less its global value", legend=legend
    )


def _table(ctx: Context, frame: pd.DataFrame) -> Table:
    shows = [
        Show("model", "Model"), Show("view", "View", note="image_set"), Show("attribute", "Attribute", say=ctx.theme.attribute),
        Show("metric", "Metric", say=ctx.title), Show("delta", "Local less global", "number", ("ci_low", "ci_high"), decimals=3),
        Show("value", "Local", "number", decimals=3), Show("global", "Global", "number", decimals=3), Show("n", "Pictures", "count"),
        Show("state", "Finding"),
    ]  # fmt: skip
    ranked = frame.assign(size=frame["delta"].abs()).sort_values(
        ["apart", "size"], ascending=False, kind="stable"
    )
    return table(
        ranked, shows, id="deviations-table", caption="Local less global value with paired draws, those that differ first",
        source="local_differences", folded=f"All differences ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 300)),
    )  # fmt: skip


def _among(ctx: Context) -> dict[str, Any]:
    """Return how often the views of one rule differ among themselves."""
    frame = ctx.tables["view_differences"]
    known = frame["p_labels"].dropna() if "p_labels" in frame else pd.Series(dtype=float)
    return {"rules": len(known), "rules_differ": int((known < 0.05).sum())}


def _differences(ctx: Context) -> Table | None:
    frame = ctx.tables["view_differences"]
    if frame.empty:
        return None
    ctx.shared.add("view_differences", frame)
    shows = [
        Show("model", "Model"), Show("grouping", "Views made by", note="image_set"), Show("attribute", "Attribute", say=ctx.theme.attribute),
        Show("metric", "Metric", say=ctx.title), Show("views", "Views", "count"), Show("mean", "Mean of the views", "number", decimals=3),
        Show("i2", "I\u00b2", "percent"), Show("q", "Q", "number", decimals=1), Show("p", "p of Q", "p"),
        Show("p_labels", "p, views exchanged", "p"), Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    ranked = frame.sort_values("p_labels", kind="stable") if "p_labels" in frame else frame
    return table(
        ranked, shows, id="differences-table", caption="Do the views of one rule differ among themselves? The clearest first",
        source="view_differences", folded=f"Differences among views ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 300)),
    )  # fmt: skip


def _order(ctx: Context) -> dict[str, Any]:
    """Return how alike the views order the models as all pictures do."""
    frame = ctx.tables["stability"]
    known = frame["spearman"].dropna() if "spearman" in frame else pd.Series(dtype=float)
    if known.empty:
        return {"order": None}
    return {"order": {"median": words.number(float(known.median()), 2), "low": words.number(float(known.min()), 2), "high": words.number(float(known.max()), 2),
                      "models": words.count(int(frame["models"].max()), "model")}}  # fmt: skip


def _stability(ctx: Context, metric: str) -> Grid | None:
    frame = ctx.tables["stability"]
    if frame.empty or frame["spearman"].isna().all():
        return None
    own = frame[(frame["metric"] == metric) & frame["spearman"].notna()]
    if own.empty:
        return None
    own = own.assign(
        row=own["view"], value=own["spearman"], low=own["ci_low"], high=own["ci_high"], reach=own["ceiling"]
    )
    ctx.shared.add("stability_drawn", own)
    spec = forms.ranks(
        ctx.theme, x="rank correlation of the models, local with global", label_width=min(150, 18 + 6 * max(len(v) for v in own["view"]))
    )  # fmt: skip
    figures: list[Figure] = []
    for image_set, attribute in [
        (s, a) for s in sorted(set(own["image_set"])) for a in ctx.attributes(own[own["image_set"] == s])
    ][:6]:
        part = own[(own["image_set"] == image_set) & (own["attribute"] == attribute)]
        who = words.capital(ctx.theme.attribute(attribute))
        least = part.loc[part["value"].idxmin()]
        figures.append(
            ctx.draw(
                spec, id=f"stability-{len(figures)}", title=f"{who} \u00b7 {image_set}", note=f"{words.number(float(part['models'].max()), 0)} models",
                finding=f"{who}, {ctx.title(metric)}: the view that orders the models least like all pictures is {least['view']}, {words.number(least['value'], 2)} {words.interval(least['low'], least['high'], 2)}.",
                source="stability_drawn", where={"image_set": str(image_set), "attribute": str(attribute), "metric": metric},
            )
        )  # fmt: skip
    c = ctx.theme.light
    legend = (
        ("rank correlation with its interval", "circle", c["s1"]),
        ("the most that so noisy a measure could reach", "open-triangle", c["s2"]),
    )
    return Grid(
        tuple(figures), heading=f"Do views order the models alike? \u00b7 {ctx.title(metric)}", legend=legend
    )


def _orders(ctx: Context) -> Table | None:
    frame = ctx.tables["stability"]
    if frame.empty:
        return None
    ctx.shared.add("stability", frame)
    shows = [
        Show("view", "View", note="image_set"), Show("attribute", "Attribute", say=ctx.theme.attribute), Show("metric", "Metric", say=ctx.title),
        Show("spearman", "Rank correlation", "number", ("ci_low", "ci_high"), decimals=2), Show("reliability_global", "Reliability, global", "number", decimals=2),
        Show("reliability_view", "Reliability, view", "number", decimals=2), Show("ceiling", "Could reach", "number", decimals=2),
        Show("models", "Models", "count"), Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    return table(
        frame.sort_values("spearman", kind="stable"), shows, id="stability-table", caption="Order of the models in each view against that on all pictures, least alike first",
        source="stability", folded=f"Order of the models per view ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 300)),
    )  # fmt: skip
