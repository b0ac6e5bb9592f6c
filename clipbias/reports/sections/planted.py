"""Measured bias over planted bias: the test of the instruments on models whose bias is known."""

from __future__ import annotations

import math

import pandas as pd

from clipbias.reports import charts, words
from clipbias.reports.blocks import Content, Figure, Grid
from clipbias.reports.cited import Cited, cited, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.scores import shared_headline
from clipbias.reports.summary import rank_correlation


@section("planted")
def planted(ctx: Context) -> Content | None:
    """Return one chart per metric, attribute and image set of the models with a planted strength."""
    frame = shared_headline(ctx)
    frame = frame[frame["planted_rho"].notna() & frame["shown"].notna()]
    if frame["planted_rho"].nunique() < 2:
        return None
    families = sorted(set(frame["family"]))
    spec = charts.planted(ctx.theme, families=families)
    cells = _cells(ctx, frame)
    limit = int(ctx.options.get("max_charts", 24))
    groups: dict[tuple[str, str], list[Figure]] = {}
    for number, cell in enumerate(cells[:limit]):
        figure = charts.draw(
            ctx.shared, ctx.theme, spec, id=f"planted-{number}",
            title=ctx.title(cell["metric"]), finding=_finding(ctx, cell), note=_with_n(cell), source="headline",
            where={k: cell[k] for k in ("metric", "attribute", "image_set")}, highlight=("model",),
        )  # fmt: skip
        groups.setdefault((cell["attribute"], cell["image_set"]), []).append(figure)
    legend = tuple(
        (f, ctx.theme.shapes[i % len(ctx.theme.shapes)], ctx.theme.series[i % len(ctx.theme.series)])
        for i, f in enumerate(families)
    )
    if (frame["planted_context"] != "").any():
        legend += (("planted in one context only", "open-circle", ctx.theme.light["muted"]),)
    blocks = tuple(
        Grid(
            tuple(figures),
            heading=f"{words.capital(ctx.theme.attribute(attribute))} \u00b7 {image_set}",
            folded=place > 0,
            legend=legend,
        )
        for place, ((attribute, image_set), figures) in enumerate(groups.items())
    )
    known = [c for c in cells if not math.isnan(c["spearman"])]
    best = max(known, key=lambda c: c["spearman"], default=None)
    lead_models = {c["models"] for c in cells if c["validated"]}
    facts = {
        "models": cited(
            words.count(max(lead_models), "model"), """int(pd.read_parquet("validity.parquet")["n_models"].max())"""
        ) if lead_models else "",
        "local_models": words.count(frame.loc[frame["planted_context"] != "", "model"].nunique(), "model"),
        "any_local": bool((frame["planted_context"] != "").any()),
        "strengths": words.joined([f"{r:.2f}" for r in sorted(frame["planted_rho"].unique())], limit=8),
        "best": best and {"metric": ctx.title(best["metric"]), "rho": _rho(best), "attribute": ctx.theme.attribute(best["attribute"])},
        "lead": [
            {"metric": ctx.title(c["metric"]), "rho": _proof(c, "spearman"), "interval": _proof(c, "ci_low", "ci_high")}
            for c in known
            if c["validated"] and (c["attribute"], c["image_set"]) == (cells[0]["attribute"], cells[0]["image_set"])
        ],
        "lead_attribute": ctx.theme.attribute(cells[0]["attribute"]),
        "lead_set": cells[0]["image_set"],
        "left_out": max(0, len(cells) - limit),
    }  # fmt: skip
    return Content(facts, blocks)


def _cells(ctx: Context, frame: pd.DataFrame) -> list[dict]:
    """Return metric × attribute × image set with its rank correlation, those of the validity table first."""
    validity = ctx.tables["validity"]
    known = {
        (r.metric, r.attribute, r.image_set): r for r in validity.itertuples() if not math.isnan(r.spearman)
    }
    attributes, metrics, sets = ctx.attributes(frame), ctx.metrics(frame), ctx.image_sets(frame)
    cells = []
    for (metric, attribute, image_set), part in frame.groupby(["metric", "attribute", "image_set"]):
        row = known.get((metric, attribute, image_set))
        everywhere = part[part["planted_context"] == ""]
        cells.append(
            {
                "metric": metric, "attribute": attribute, "image_set": image_set, "models": int(row.n_models) if row and row.n_models == row.n_models else len(everywhere),
                "spearman": row.spearman if row else rank_correlation(everywhere["planted_rho"], everywhere["strength"]),
                "low": row.ci_low if row else math.nan, "high": row.ci_high if row else math.nan,
                "validated": row is not None,
            }
        )  # fmt: skip
    tested = {(c["attribute"], c["image_set"]) for c in cells if c["validated"]}
    return sorted(
        cells,
        key=lambda c: (
            (c["attribute"], c["image_set"]) not in tested,
            attributes.index(c["attribute"]),
            sets.index(c["image_set"]),
            metrics.index(c["metric"]),
        ),
    )


def _proof(cell: dict, *columns: str) -> Cited:
    """Return numbers of the validity table with their code."""
    where = {k: cell[k] for k in ("metric", "attribute", "image_set")}
    if len(columns) == 1:
        return cited(words.number(cell[columns[0]], 2), value("validity", columns[0], **where))
    return cited(words.interval(cell["low"], cell["high"], 2), values("validity", columns, **where))


def _rho(cell: dict) -> str:
    if math.isnan(cell["spearman"]):
        return "Spearman not defined (too few or no spread)"
    return (
        f"Spearman {words.number(cell['spearman'], 2)} {words.interval(cell['low'], cell['high'], 2)}".strip()
    )


def _with_n(cell: dict) -> str:
    return f"{_rho(cell)}, {words.count(cell['models'], 'model')}"


def _finding(ctx: Context, cell: dict) -> str:
    return (
        f"{ctx.title(cell['metric'])} over planted strength, {ctx.theme.attribute(cell['attribute'])}, "
        f"{cell['image_set']}: {_with_n(cell)}."
    )
