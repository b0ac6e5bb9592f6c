"""What each metric means, as the metric itself declares it."""

from __future__ import annotations

import math

from clipbias.reports import words
from clipbias.reports.blocks import Body, Cell, Column, Content, Row, Table
from clipbias.reports.sections import Context, section


@section("methods")
def methods(ctx: Context) -> Content | None:
    """Return the glossary of metrics; the caveats are the section's text."""
    frame = ctx.tables["metrics"].drop_duplicates("metric")
    used = set(ctx.tables["intrinsic"]["metric"])
    frame = frame[frame["metric"].isin(used)] if used else frame
    tests = int(ctx.tables["intrinsic"]["p"].notna().sum())
    facts = {
        "metrics": len(frame),
        "tests": f"{tests:,}" if tests else "",
        "small": f"{int((ctx.tables['intrinsic']['p'] < 0.05).sum()):,}",
        "by_chance": f"{round(0.05 * tests):,}",
    }
    if frame.empty:
        return Content(facts)
    ctx.shared.add("metrics", frame)
    rows = tuple(
        Row(
            (
                Cell(r.title or r.metric, sub=(r.metric,)),
                Cell(f"{_end(r.range_low)} to {_end(r.range_high)}"),
                Cell(words.number(r.ideal)), Cell(r.unit), Cell(r.sign, css="prose"), Cell(r.direction, css="prose"),
                Cell(r.interval, css="prose"), Cell(r.reference, css="prose"),
            ),
            {"metric": r.metric},
        )
        for r in frame.itertuples()
    )  # fmt: skip
    heads = ("Metric", "Range", "Ideal", "Unit", "Sign", "Direction", "Interval", "Reference")
    numeric = {"Range", "Ideal"}
    table = Table(
        id="metrics-table", caption="The metrics, as they declare themselves", bodies=(Body(rows),), source="metrics",
        columns=tuple(Column(h, kind="number" if h in numeric else "text") for h in heads), tall=True,
    )  # fmt: skip
    return Content(facts, (table,))


def _end(value: float) -> str:
    return "unbounded" if math.isnan(value) or math.isinf(value) else words.number(value)
