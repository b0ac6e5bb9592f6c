"""Global against local: whether a view's value is one that a random subset of its size could have given."""

from __future__ import annotations

import math

import pandas as pd

from clipbias.reports import charts, words
from clipbias.reports.blocks import Body, Cell, Column, Content, Figure, Grid, Row, Table
from clipbias.reports.cited import cited, table, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.scores import cell_key
from clipbias.reports.summary import primary

COLUMNS = [
    "model", "image_set", "view", "kind", "size", "attribute", "metric", "probe", "group", "value", "ci_low", "ci_high",
    "global_value", "q_low", "q_high", "finding", "status", "reason",
]  # fmt: skip


@section("local")
def local(ctx: Context) -> Content | None:
    """Return one chart per model and the table of all local values, findings first."""
    frame = ctx.local()
    if frame.empty:
        return None
    key = ["image_set", "attribute", "metric"]
    # The axis spans what is finite: the skew of an absent group is −inf.
    finite = frame.where(frame != -math.inf)
    low = finite[["value", "q_low", "ci_low", "global_value"]].min(axis=1).groupby([frame[k] for k in key])
    high = finite[["value", "q_high", "ci_high", "global_value"]].max(axis=1).groupby([frame[k] for k in key])
    ctx.shared.add(
        "local",
        frame[COLUMNS].assign(
            span_low=low.transform("min").round(4), span_high=high.transform("max").round(4)
        ),
    )
    tested = frame[frame["finding"] != "no band"]
    outside = tested[tested["finding"] == "outside"]
    banded = _banded(ctx)
    facts = {
        "tested": cited(f"{len(tested):,}", f"len({banded})") if len(tested) else "",
        "outside": cited(f"{len(outside):,}", f"len({banded}.query('value < q_low or value > q_high'))"),
        "share": cited(
            words.percent(len(outside) / len(tested)), f"100 * {banded}.eval('value < q_low or value > q_high').mean()"
        ) if len(tested) else "",
        "by_chance": cited(f"{round(0.05 * len(tested)):,}", f".05 * len({banded})"),
        "chance": len(outside) <= 0.05 * len(tested),
        "differ": len(outside) >= 0.10 * len(tested),
        "views": cited(
            words.count(frame["view"].nunique(), "view"),
            f"""{table("intrinsic", ctx.tables.chosen)}.query("view != 'global'")["view"].nunique()""",
        ),
        "models": words.count(frame["model"].nunique(), "model"),
        "no_band": len(frame) - len(tested),
        "largest": _largest(ctx, outside),
        "places": _places(outside),
    }  # fmt: skip
    return Content(facts, (*_grids(ctx, frame), _table(ctx, frame)))


def _banded(ctx: Context) -> str:
    """Return the code of all local values that have a band of random subsets, beside that band."""
    keys = ["model", "image_set", "view", "attribute", "probe", "metric"]
    bands = """pd.read_parquet("null_bands.parquet").dropna(subset=["q_low"])"""
    local_rows = (
        f"""{table("intrinsic", ctx.tables.chosen)}.query("stage != 'post'").dropna(subset=["value"])"""
    )
    return f"{local_rows}.merge({bands}[{[*keys, 'q_low', 'q_high']!r}], on={keys!r})"


def _largest(ctx: Context, outside: pd.DataFrame) -> dict[str, str] | None:
    """Return the finding farthest outside its band, measured in band widths (units differ between metrics)."""
    outside = outside[
        outside["value"].abs() != math.inf
    ]  # an absent group is beyond every band, however small the view
    if outside.empty:
        return None
    row = outside.loc[_beyond(outside).idxmax()]
    d = words.decimals_for([row["value"], row["q_high"]])
    return {
        "model": row["model"], "view": row["view"], "metric": ctx.title(row["metric"]),
        "attribute": ctx.theme.attribute(row["attribute"]), "value": cited(words.number(row["value"], d), value("intrinsic", "value", **cell_key(row))),
        "band": cited(words.interval(row["q_low"], row["q_high"], d), values("null_bands", ["q_low", "q_high"], **{
            k: row[k] for k in ("model", "image_set", "view", "attribute", "probe", "metric")
        })), "global": words.number(row["global_value"], d),
        "size": words.count(row["size"], "picture"),
    }  # fmt: skip


def _places(outside: pd.DataFrame) -> list[dict[str, str]]:
    counts = outside.groupby("view").agg(n=("model", "size"), models=("model", "nunique"))
    counts = counts.sort_values(["n", "models"], ascending=False, kind="stable").head(3)
    return [
        {"view": v, "n": str(r.n), "models": words.count(r.models, "model")} for v, r in counts.iterrows()
    ]


def _beyond(frame: pd.DataFrame) -> pd.Series:
    width = (frame["q_high"] - frame["q_low"]).clip(lower=1e-9)
    off = pd.concat([frame["q_low"] - frame["value"], frame["value"] - frame["q_high"]], axis=1).max(axis=1)
    return off / width


def _grids(ctx: Context, frame: pd.DataFrame) -> list[Grid]:
    banded = frame[(frame["finding"] != "no band") & frame["value"].notna()]
    show = banded if len(banded) else frame[frame["value"].notna()]
    if show.empty:
        return []
    metric = primary(ctx.metrics(show), list(ctx.options.get("metrics", [])))
    show = show[show["metric"] == metric]
    outside = show[show["finding"] == "outside"]
    busiest = outside if len(outside) else show
    attribute = busiest["attribute"].mode().iloc[0]
    image_set = busiest.loc[busiest["attribute"] == attribute, "image_set"].mode().iloc[0]
    longest = max(len(v) for v in frame["view"])
    spec = charts.local_views(ctx.theme, label_width=min(130, max(60, 14 + 6 * longest)))
    default = {"metric": metric, "attribute": attribute, "image_set": image_set}
    figures: list[Figure] = []
    limit = int(ctx.options.get("max_charts", 24))
    models = list(dict.fromkeys(frame["model"]))
    for model in models[:limit]:
        part = show[
            (show["model"] == model) & (show["attribute"] == attribute) & (show["image_set"] == image_set)
        ]
        known = part[part["finding"] != "no band"]
        out = known[known["finding"] == "outside"]
        note = (
            f"{len(out)} of {words.count(len(known), 'view')} outside"
            if len(known)
            else "no band of random subsets"
        )
        named = f": {words.joined(list(out['view']), limit=3)}" if len(out) else ""
        figures.append(
            charts.draw(
                ctx.shared,
                ctx.theme,
                spec,
                id=f"local-{len(figures)}",
                title=model,
                note=note,
                finding=f"{model}, {ctx.title(metric)}, {ctx.theme.attribute(attribute)}, {image_set}: {note}{named}.",
                source="local",
                where={"model": model},
                default=default,
            )  # fmt: skip
        )
    return [Grid(tuple(figures), heading="Views per model", current=tuple(default.items()), legend=_LEGEND)]


_LEGEND = (
    ("value outside the band", "diamond", "#d55e00"),
    ("value inside", "open-circle", "#5a636c"),
    ("95\u202f% of random subsets of the same size", "band", "#ccd8e0"),
    ("global value", "rule", "#1d2227"),
)
_ORDER = {"outside": 0, "inside": 1, "no band": 2}
_WORDS = {"outside": "\u25c6 outside", "inside": "inside", "no band": "no band"}


def _table(ctx: Context, frame: pd.DataFrame) -> Table:
    ranked = frame.assign(order=frame["finding"].map(_ORDER), beyond=_beyond(frame))
    ranked = ranked.sort_values(["order", "beyond"], ascending=[True, False], kind="stable")
    limit = int(ctx.options.get("max_rows", 600))
    rows = []
    decimals = {m: words.decimals_for(part["value"]) for m, part in frame.groupby("metric")}
    for r in ranked.head(limit).itertuples():
        d = decimals[r.metric]
        value = Cell(
            words.number(r.value, d) if r.status == "ok" else r.status,
            sub=tuple(s for s in (words.interval(r.ci_low, r.ci_high, d),) if s),
            css="" if r.status == "ok" else "status",
        )
        rows.append(
            Row(
                (
                    Cell(r.model), Cell(r.view, sub=(r.image_set,)), Cell(ctx.theme.attribute(r.attribute)),
                    Cell(ctx.title(r.metric)), value, Cell(words.interval(r.q_low, r.q_high, d) or words.DASH),
                    Cell(words.number(r.global_value, d)), Cell(words.number(r.size, 0)),
                    Cell(_WORDS[r.finding], css=f"finding-{r.finding.replace(' ', '-')}"),
                ),
                {
                    "model": r.model, "view": r.view, "image_set": r.image_set, "attribute": r.attribute,
                    "metric": r.metric,
                },
            )
        )  # fmt: skip
    heads = [
        "Model",
        "View",
        "Attribute",
        "Metric",
        "Local value",
        "Random subsets",
        "Global",
        "Pictures",
        "Finding",
    ]
    numeric = {"Local value", "Random subsets", "Global", "Pictures"}
    more = (
        f"The {limit} strongest of {len(frame):,} rows are shown; the CSV holds all."
        if len(frame) > limit
        else ""
    )
    return Table(
        id="local-table", caption="Local values beside their band of random subsets, findings first",
        columns=tuple(Column(h, kind="number" if h in numeric else "text") for h in heads),
        bodies=(Body(tuple(rows)),), source="local", notes=(more,) if more else (), tall=True,
        folded=f"All local values ({len(frame):,})",
    )  # fmt: skip
