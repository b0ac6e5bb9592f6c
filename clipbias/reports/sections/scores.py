"""Models × metrics: every global value with its interval, its worst group and its distance to the ideal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from clipbias.reports import charts, words
from clipbias.reports.blocks import Body, Cell, Column, Content, Figure, Grid, Row, Table
from clipbias.reports.cited import cited, rows, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.summary import ideal_of, ideals, primary

COLUMNS = [
    "model", "family", "planted_rho", "planted_context", "image_set", "attribute", "probe", "metric", "group",
    "stage", "worst", "value", "ci_low", "ci_high", "distance", "strength", "n", "null_mean", "null_sd", "z", "p", "status", "reason",
]  # fmt: skip


def shared_headline(ctx: Context) -> pd.DataFrame:
    """Return the headline rows with what charts need, stored once as the page's ``headline`` data."""
    if "headline" in ctx.shared.frames:
        return ctx.shared.frames["headline"]
    frame = ctx.headline()
    ideal = ideal_of(frame, ideals(ctx.tables))
    # Where the mean over probes hides what single probes show (signs cancel, groups change), charts show the
    # strength instead; it has no interval of its own.
    hidden = hides(frame)
    shown = frame[COLUMNS].assign(
        ideal=ideal.where(~hidden, 0.0),
        shown=frame["value"].where(~hidden, frame["strength"]),
        shown_low=frame["ci_low"].where(~hidden),
        shown_high=frame["ci_high"].where(~hidden),
        where=frame["planted_context"].map(lambda c: f"only in {c}" if c else "everywhere"),
        place=frame["planted_rho"] + _dodge(frame),
    )
    # A chart in which no mark has an interval still needs an extent: the mark itself.
    bars = {f"bar_{end}": shown[f"shown_{end}"].fillna(shown["shown"]) for end in ("low", "high")}
    ctx.shared.add("headline", shown.assign(**bars))
    return ctx.shared.frames["headline"]


def hides(frame: pd.DataFrame) -> pd.Series:
    """Say for which headline rows the mean over probes (or the pick of one group) is not the strength."""
    differs = (frame["strength"] - frame["distance"]).abs() > 1e-6 * (1 + frame["distance"].abs())
    return frame["over_groups"] | (differs & frame["strength"].notna() & np.isfinite(frame["distance"]))


def _dodge(frame: pd.DataFrame) -> pd.Series:
    """Return a small shift per architecture so that intervals at one planted strength stand side by side."""
    families = sorted(set(frame["family"]))
    span = frame["planted_rho"].max() - frame["planted_rho"].min()
    step = 0.014 * (span if span and span > 0 else 1.0)
    return (
        frame["family"]
        .map({f: (i - (len(families) - 1) / 2) * step for i, f in enumerate(families)})
        .astype(float)
    )


def _shade(distance: float, largest: float) -> str:
    """Return the shade class d0..d4 of a distance, relative to the largest one of its metric."""
    if math.isnan(distance) or not largest:
        return ""
    return f"d{min(4, int(5 * distance / largest))}" if math.isfinite(distance) else "d4"


def _away(row: pd.Series) -> float:
    return float(np.fmax(row["distance"], row["strength"]))


def _cell(row: pd.Series | None, ideal: float, largest: float, decimals: int) -> Cell:
    if row is None:
        return Cell("", css="empty")
    if row["status"] != "ok" or math.isnan(row["value"]):
        return Cell(str(row["status"]), css="status")
    offset = row["value"] - ideal
    shown = words.number(row["value"], decimals)
    even = shown == words.number(ideal, decimals)
    side = "even" if even else "above" if offset > 0 else "below"
    mark = {"above": "\u25b2 ", "below": "\u25bc ", "even": ""}[side]
    sub = [words.interval(row["ci_low"], row["ci_high"], decimals), row["worst"]]
    strength = words.number(row["strength"], decimals)
    if strength not in {words.DASH, words.number(row["distance"], decimals)}:
        sub.append(f"per probe {strength}")
    return Cell(
        mark + shown,
        sub=tuple(s for s in sub if s),
        css=f"score {side} {_shade(_away(row), largest)}".strip(),
    )


def _table(ctx: Context, frame: pd.DataFrame) -> Table:
    metrics, ideal = ctx.metrics(frame), ideals(ctx.tables)
    about = ctx.tables["metrics"].drop_duplicates("metric").set_index("metric")
    away = frame[["distance", "strength"]].max(axis=1).replace(np.inf, np.nan)
    largest = away.groupby(frame["metric"]).max().to_dict()
    decimals = {m: words.decimals_for(frame.loc[frame["metric"] == m, "value"]) for m in metrics}
    columns = [Column("Model")]
    for m in metrics:
        unit = about["unit"].get(m, "") if len(about) else ""
        note = f"ideal {words.number(ideal.get(m, 0.0))}" + (f", {unit}" if unit else "")
        columns.append(Column(ctx.title(m), note=note, kind="number", tags={"metric": m}))
    bodies = []
    for image_set in ctx.image_sets(frame):
        for attribute in ctx.attributes(frame):
            part = frame[(frame["image_set"] == image_set) & (frame["attribute"] == attribute)]
            if part.empty:
                continue
            lines = []
            for model, own in part.groupby("model"):
                by_metric = {r["metric"]: r for _, r in own.iterrows()}
                cells = [
                    _cell(by_metric.get(m), ideal.get(m, 0.0), largest.get(m, 0.0), decimals[m])
                    for m in metrics
                ]
                rho = own["planted_rho"].iloc[0]
                planted = f"planted \u03c1 {rho:.2f}" if not math.isnan(rho) else ""
                context = own["planted_context"].iloc[0]
                sub = (planted + (f" only in {context}" if context else ""),) if planted else ()
                lines.append(
                    Row(
                        (Cell(str(model), sub=sub), *cells),
                        {"model": str(model), "image_set": image_set, "attribute": attribute},
                    )
                )
            bodies.append(
                Body(tuple(lines), f"{words.capital(ctx.theme.attribute(attribute))} \u00b7 {image_set}")
            )
    missing = frame[frame["status"] != "ok"].groupby(["status", "reason"]).size()
    notes = tuple(f"{words.count(k, 'value')} \u201c{s}\u201d: {r}" for (s, r), k in missing.items())
    return Table(
        id="scores-table", caption="Global value per model and metric, with its 95\u202f% interval and the group farthest from even", tall=True,
        columns=tuple(columns), bodies=tuple(bodies), source="headline", legend="distance", notes=notes,
    )  # fmt: skip


@section("scores")
def scores(ctx: Context) -> Content | None:
    """Return the models × metrics table and, for the primary metric, the models in order."""
    frame = shared_headline(ctx)
    if frame.empty:
        return None
    good = frame[frame["value"].notna()]
    facts = {
        "metrics": words.count(frame["metric"].nunique(), "metric"),
        "models": words.count(frame["model"].nunique(), "model"),
        "failed": len(frame) - len(good),
        "values": len(frame),
        "strongest": None,
        "rejected": None,
    }
    blocks: list[object] = []
    if len(good):
        metric = primary(ctx.metrics(good), list(ctx.options.get("metrics", [])))
        image_set = ctx.image_sets(good)[0]
        facts["strongest"] = [
            _extremes(ctx, good, metric, attribute)
            for attribute in ctx.attributes(good[good["metric"] == metric])
        ]
        facts["rejected"] = _rejected(ctx, good, metric)
        blocks.append(_forests(ctx, good, metric, image_set))
    blocks.append(_table(ctx, frame))
    return Content(facts, tuple(blocks))


def _extremes(ctx: Context, frame: pd.DataFrame, metric: str, attribute: str) -> dict[str, str]:
    part = frame[(frame["metric"] == metric) & (frame["attribute"] == attribute)]
    part = part.sort_values("distance", kind="stable")
    decimals = words.decimals_for(part["value"])
    out: dict[str, str] = {"metric": ctx.title(metric), "attribute": ctx.theme.attribute(attribute)}
    sets = ctx.image_sets(part)
    out["sets"] = words.joined(sets) if len(ctx.image_sets(frame)) > 1 else ""
    for name, row in (("weak", part.iloc[0]), ("strong", part.iloc[-1])):
        out[f"{name}_model"], out[f"{name}_set"] = row["model"], row["image_set"]
        key = cell_key(row)
        out[f"{name}_value"] = cited(words.number(row["value"], decimals), value("intrinsic", "value", **key))
        out[f"{name}_interval"] = cited(
            words.interval(row["ci_low"], row["ci_high"], decimals),
            values("intrinsic", ["ci_low", "ci_high"], **key),
        )
        out[f"{name}_group"] = row["worst"]
    return out


def cell_key(row: pd.Series) -> dict[str, str]:
    """Return the columns that find a headline row in the table ``intrinsic``."""
    names = ("model", "image_set", "attribute", "metric", "probe", "group", "stage")
    # The page's headline data has no column of views: a filter by view must not empty the charts of all pictures.
    return {k: row[k] for k in names} | {"view": row.get("view", "global")}


def _rejected(ctx: Context, frame: pd.DataFrame, metric: str) -> dict[str, str] | None:
    """Return in how many models the primary metric differs from relabelled pictures, for the first attribute."""
    part = frame[(frame["metric"] == metric) & frame["p"].notna()]
    if part.empty:
        return None
    first = part[part["attribute"] == ctx.attributes(part)[0]]
    row = first[first["image_set"] == ctx.image_sets(first)[-1]].iloc[0]
    where = {k: row[k] for k in ("metric", "attribute", "image_set", "probe", "stage")} | {"view": "global"}
    found = ctx.tables["intrinsic"]
    for column, wanted in where.items():
        found = found[found[column] == wanted]
    smallest = found.dropna(subset="p").groupby("model")["p"].min()
    source = (
        f"""{rows("intrinsic", ctx.tables.chosen, **where)}.dropna(subset="p").groupby("model")["p"].min()"""
    )
    return {
        "low": cited(str(int((smallest < 0.05).sum())), f"({source} < .05).sum()"),
        "models": cited(words.count(len(smallest), "model"), f"len({source})"),
        "metric": ctx.title(metric),
        "attribute": ctx.theme.attribute(row["attribute"]),
        "image_set": row["image_set"],
    }


def _forests(ctx: Context, frame: pd.DataFrame, metric: str, image_set: str) -> Grid:
    spec = charts.forest(ctx.theme)
    figures: list[Figure] = []
    part = frame[(frame["metric"] == metric) & (frame["image_set"] == image_set)]
    for attribute in ctx.attributes(part):
        ends = _extremes(ctx, part, metric, attribute)
        finding = (
            f"{ends['metric']}, {ends['attribute']}: from {ends['weak_value']} ({ends['weak_model']}) "
            f"to {ends['strong_value']} ({ends['strong_model']})."
        )
        figures.append(
            charts.draw(
                ctx.shared,
                ctx.theme,
                spec,
                id=f"forest-{len(figures)}",
                title=words.capital(ctx.theme.attribute(attribute)),
                finding=finding,
                source="headline",
                where={"attribute": attribute},
                default={"metric": metric, "image_set": image_set},
                highlight=("model",),
            )  # fmt: skip
        )
    return Grid(
        tuple(figures),
        heading="Models in order",
        current=(("metric", metric), ("image_set", image_set)),
    )
