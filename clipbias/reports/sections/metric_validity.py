"""What is known of each metric of the run from planted truth."""

from __future__ import annotations

from clipbias.reports.blocks import Content
from clipbias.reports.sections import Context, section
from clipbias.reports.tabular import Show, table


@section("metric_validity")
def metric_validity(ctx: Context) -> Content | None:
    """Return one line for each metric: does it follow, repeat itself, stay quiet, cover."""
    frame = ctx.tables["metric_validity"]
    if frame.empty:
        return None
    ctx.shared.add("metric_validity", frame)
    shows = [
        Show("metric", "Metric", say=ctx.title), Show("what", "Measured on"),
        Show("spearman", "Spearman", "number", ("ci_low", "ci_high"), decimals=2),
        Show("spearman_unsigned", "Unsigned", "number", decimals=2), Show("n_models", "n", "count"),
        Show("reliability", "Reliability", "number", decimals=2), Show("false_positive_rate", "False positives", "number", decimals=3),
        Show("coverage", "Coverage", "number", decimals=3), Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    made = table(
        frame,
        shows,
        id="metric-validity",
        caption="Each metric on planted truth",
        source="metric_validity",
        tall=True,
    )
    return Content({}, (made,))
