"""After adaptation: how well each model does its task, and how biased it is while doing it, side by side."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Body, Cell, Column, Content, Figure, Grid, Row, Table
from clipbias.reports.cited import cited, rows, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.summary import primary

UNIT = ["model", "task", "head", "mode", "intervention", "seed"]
_COMPETENT = {"yes": "\u2713 competent", "no": "\u2717 not competent", "": "not judged"}


def adapted_bias(ctx: Context) -> pd.DataFrame:
    """Return every bias of every plainly adapted model on all images, beside its quality; stored as ``adapted_bias``.

    One row per model, task, head, mode, seed, attribute, metric and probe: ``x, x_low, x_high`` are the quality that
    competence is judged by, ``value, low, high`` the bias.
    """
    if "adapted_bias" in ctx.shared.frames:
        return ctx.shared.frames["adapted_bias"]
    units, found = ctx.tables["adapted"], ctx.tables["extrinsic"]
    whole = found[(found["view"] == "global") & (found["group"] == "") & (found["intervention"] == "")]
    bias = whole[(whole["attribute"] != "") & (whole["mode"] != "blind")]
    quality = whole[(whole["attribute"] == "") & (whole["probe"] == "")]
    quality = quality[[*UNIT, "metric", "value", "ci_low", "ci_high"]].rename(
        columns={"metric": "quality_metric", "value": "x", "ci_low": "x_low", "ci_high": "x_high"}
    )
    judged = units.drop_duplicates(UNIT)[[*UNIT, "metric", "blind", "competent"]]
    judged = judged.rename(columns={"metric": "quality_metric"}).merge(
        quality, on=[*UNIT, "quality_metric"], how="left"
    )
    frame = bias.merge(judged, on=UNIT, how="left")
    models = ctx.tables["models"].drop_duplicates("model")[
        ["model", "family", "planted_rho", "planted_context"]
    ]
    frame = frame.merge(models, on="model", how="left").fillna(
        {"family": "", "planted_context": "", "competent": ""}
    )
    frame = frame.rename(columns={"ci_low": "low", "ci_high": "high"})
    for end in ("low", "high"):
        frame[end] = frame[end].fillna(frame["value"])
        frame[f"x_{end}"] = frame[f"x_{end}"].fillna(frame["x"])
    keep = [
        *UNIT, "image_set", "attribute", "metric", "probe", "value", "low", "high", "n", "p", "status", "reason", "quality_metric",
        "x", "x_low", "x_high", "blind", "competent", "family", "planted_rho", "planted_context",
    ]  # fmt: skip
    frame = frame[keep].assign(
        solid=frame["competent"] != "no",
        state=frame["competent"].map(_COMPETENT),
        label="",
        series=frame["mode"],
    )
    order = ["task", "head", "mode", "model", "seed", "attribute", "metric", "probe"]
    ctx.shared.add("adapted_bias", frame.sort_values(order, kind="stable"))
    return ctx.shared.frames["adapted_bias"]


@section("adapted")
def adapted(ctx: Context) -> Content | None:
    """Return quality against bias per task and mode, and a table per task."""
    if not (ctx.tables.has("adapted") and ctx.tables.has("extrinsic")):
        return None
    frame = adapted_bias(ctx)
    units = ctx.tables["adapted"]
    units = units[(units["mode"] != "blind") & (units["intervention"] == "")]
    if units.empty:
        return None
    good = frame[frame["value"].notna() & (frame["probe"] == "")]
    metric = primary(ctx.metrics(good), list(ctx.options.get("metrics", []))) if len(good) else ""
    plain = "intervention == '' and mode != 'blind'"
    source = rows("adapted", ctx.tables.chosen) + f".query({plain!r})"
    competent = units[units["competent"] == "yes"]
    facts = {
        "units": cited(words.count(len(units), "adaptation"), f"len({source})"),
        "models": cited(words.count(units["model"].nunique(), "model"), f"""{source}["model"].nunique()"""),
        "tasks": words.joined([words.acronyms(t) for t in sorted(units["task"].unique())]),
        "modes": words.joined(sorted(units["mode"].unique())),
        "competent": cited(str(len(competent)), f"""({source}["competent"] == "yes").sum()"""),
        "frozen": bool((units["mode"] == "frozen").all()),
        "strongest": _strongest(ctx, good, metric),
        "metric": ctx.title(metric) if metric else "",
    }
    blocks: list[object] = []
    if metric:
        blocks.append(_clouds(ctx, good, metric))
    blocks += [_table(ctx, frame, units, task) for task in sorted(units["task"].unique())]
    return Content(facts, tuple(blocks))


def _strongest(ctx: Context, good: pd.DataFrame, metric: str) -> list[dict[str, str]]:
    """Return the most and the least biased model of every task and mode, by the primary metric."""
    out = []
    part = good[(good["metric"] == metric) & (good["competent"] != "no")]
    for (task, mode), own in part.groupby(["task", "mode"], sort=True):
        attribute = ctx.attributes(own)[0]
        own = own[own["attribute"] == attribute].sort_values("value", kind="stable")
        told = {
            "task": words.acronyms(str(task)),
            "mode": mode,
            "metric": ctx.title(metric),
            "attribute": ctx.theme.attribute(attribute),
        }
        decimals = words.decimals_for(own["value"])
        for name, row in (("low", own.iloc[0]), ("high", own.iloc[-1])):
            key = {k: row[k] for k in (*UNIT, "image_set", "attribute", "metric")} | {
                "view": "global",
                "group": "",
                "probe": "",
            }
            told[f"{name}_model"] = row["model"]
            told[name] = cited(words.number(row["value"], decimals), value("extrinsic", "value", **key))
            told[f"{name}_interval"] = cited(
                words.interval(row["low"], row["high"], decimals), values("extrinsic", ["ci_low", "ci_high"], **key)
            )  # fmt: skip
        out.append(told)
    return out


def _clouds(ctx: Context, good: pd.DataFrame, metric: str) -> Grid:
    families = sorted(set(good["family"]))
    attribute = ctx.attributes(good[good["metric"] == metric])[0]
    default = {"metric": metric, "attribute": attribute}
    figures: list[Figure] = []
    for (task, head, mode), part in good.groupby(["task", "head", "mode"], sort=True):
        now = part[(part["metric"] == metric) & (part["attribute"] == attribute)]
        if now.empty or now["x"].isna().all():
            continue
        quality = str(part["quality_metric"].iloc[0])
        spec = forms.cloud(ctx.theme, x=ctx.title(quality), y="bias", groups=families)
        ends = now.sort_values("value").iloc[[0, -1]]
        d = words.decimals_for(now["value"])
        figures.append(
            ctx.draw(
                spec, id=f"adapted-{len(figures)}", title=f"{words.capital(task)}, {mode} tower",
                note=f"{head}; bias upwards, {ctx.title(quality)} to the right",
                finding=(
                    f"{task}, {mode} tower: {ctx.title(metric)} from {words.number(ends['value'].iloc[0], d)} ({ends['model'].iloc[0]}) "
                    f"to {words.number(ends['value'].iloc[1], d)} ({ends['model'].iloc[1]}), against {ctx.title(quality)} from "
                    f"{words.number(now['x'].min())} to {words.number(now['x'].max())}."
                ),
                source="adapted_bias", where={"task": str(task), "head": str(head), "mode": str(mode), "probe": ""}, default=default,
                highlight=("model",),
            )
        )  # fmt: skip
    legend = (*ctx.legend(families), ("not competent", "open-circle", ctx.theme.light["muted"]))
    return Grid(tuple(figures), heading="Bias against quality", current=tuple(default.items()), legend=legend)


def _table(ctx: Context, frame: pd.DataFrame, units: pd.DataFrame, task: str) -> Table:
    mine, bias = units[units["task"] == task], frame[(frame["task"] == task) & (frame["probe"] == "")]
    wanted = list(ctx.options.get("metrics", []))
    metrics = [m for m in wanted if m in set(bias["metric"])] or ctx.metrics(bias)[:6]
    decimals = {m: words.decimals_for(bias.loc[bias["metric"] == m, "value"].dropna()) for m in metrics}
    quality = str(mine["metric"].iloc[0])
    d = words.decimals_for(mine["quality"].dropna())
    columns = [
        Column("Model"), Column(ctx.title(quality), note="quality", kind="number"), Column("Image-blind", note=ctx.title(quality), kind="number"),
        Column("Competence"), *(Column(ctx.title(m), note="bias", kind="number", tags={"metric": m}) for m in metrics),
    ]  # fmt: skip
    bodies = []
    for attribute in ctx.attributes(bias):
        for (head, mode), part in mine.groupby(["head", "mode"], sort=True):
            lines = [
                _line(ctx, unit, bias[bias["attribute"] == attribute], metrics, decimals, d, attribute)
                for _, unit in part.sort_values(["model", "seed"], kind="stable").iterrows()
            ]
            who = words.capital(ctx.theme.attribute(attribute))
            bodies.append(Body(tuple(lines), f"{mode} tower \u00b7 {head} \u00b7 {who}"))
    return Table(
        id=f"adapted-table-{task}", caption=f"{words.capital(task)}: quality and bias of every adapted model, on all test images",
        columns=tuple(columns), bodies=tuple(bodies), source="adapted_bias", tall=True,
    )  # fmt: skip


def _line(
    ctx: Context,
    unit: pd.Series,
    bias: pd.DataFrame,
    metrics: list[str],
    decimals: dict[str, int],
    d: int,
    attribute: str,
) -> Row:
    own = bias[np.logical_and.reduce([bias[k] == unit[k] for k in UNIT])]
    by_metric = {r["metric"]: r for _, r in own.iterrows()}
    first = next(iter(by_metric.values()), None)
    ends = words.interval(first["x_low"], first["x_high"], d) if first is not None else ""
    seed = (f"seed {unit['seed']}",) if unit["seed"] not in ("", "0") else ()
    cells = [
        Cell(str(unit["model"]), sub=seed),
        Cell(words.number(unit["quality"], d), sub=(ends,) if ends else ()),
        Cell(words.number(unit["blind"], d)),
        Cell(
            _COMPETENT.get(str(unit["competent"]), str(unit["competent"])),
            sub=(str(unit["reason"]),) if unit["competent"] == "no" else (),
            css="prose" if unit["competent"] == "no" else "",
        ),
    ]
    for metric in metrics:
        row = by_metric.get(metric)
        if row is None:
            cells.append(Cell("", css="empty"))
        elif row["status"] != "ok" or math.isnan(row["value"]):
            cells.append(Cell(str(row["status"]), css="status"))
        else:
            m = decimals[metric]
            ends = words.interval(row["low"], row["high"], m)
            cells.append(Cell(words.number(row["value"], m), sub=(ends,) if ends else ()))
    return Row(tuple(cells), {"model": str(unit["model"]), "attribute": attribute})
