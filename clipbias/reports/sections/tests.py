"""Every test of the run at once: how many remain when so many are made, and how small an effect they could see."""

from __future__ import annotations

from typing import Any

from clipbias.reports import words
from clipbias.reports.blocks import Content, Table
from clipbias.reports.sections import Context, section
from clipbias.reports.tabular import Show, table


@section("tests")
def tests(ctx: Context) -> Content | None:
    """Return the tests per metric and those of all pictures, the clearest first."""
    frame = ctx.tables["tests"]
    frame = frame[frame["p"].notna()]
    if frame.empty:
        return None
    facts: dict[str, Any] = {
        "tests": f"{len(frame):,}", "small": f"{int((frame['p'] < 0.05).sum()):,}", "found": f"{int(frame['found'].astype(bool).sum()):,}",
        "chance": f"{round(0.05 * len(frame)):,}",
    }  # fmt: skip
    return Content(facts, (_per_metric(ctx, frame), _global(ctx, frame)))


def _per_metric(ctx: Context, frame: Any) -> Table:
    by = frame.assign(small=frame["p"] < 0.05, found=frame["found"].astype(bool)).groupby(
        ["metric", "attribute"], sort=False
    )
    found = by.agg(tests=("p", "size"), small=("small", "sum"), found=("found", "sum"), detectable=("minimum_detectable", "median")).reset_index()  # fmt: skip
    order = {m: i for i, m in enumerate(ctx.metrics(found))}
    found = found.sort_values("metric", key=lambda c: c.map(order), kind="stable")
    ctx.shared.add("tests_per_metric", found)
    shows = [
        Show("metric", "Metric", say=ctx.title), Show("attribute", "Attribute", say=ctx.theme.attribute), Show("tests", "Tests", "count"),
        Show("small", "p < .05", "count"), Show("found", "Found (q < .05)", "count"), Show("detectable", "Smallest detectable, median", "number", decimals=3),
    ]  # fmt: skip
    return table(
        found, shows, id="tests-metrics", caption="Tests per metric and attribute", source="tests_per_metric"
    )


def _global(ctx: Context, frame: Any) -> Table:
    whole = frame[frame["view"] == "global"].sort_values(["q", "p"], kind="stable")
    kept = ["model", "stage", "image_set", "attribute", "probe", "metric", "group", "n", "z", "p", "q", "tests", "found", "minimum_detectable"]  # fmt: skip
    clearest = whole.head(
        int(ctx.options.get("max_rows", 200))
    )  # thousands of rows would be half of the page's data
    ctx.shared.add("tests", clearest[[c for c in kept if c in clearest]])
    shows = [
        Show("model", "Model"), Show("metric", "Metric", say=ctx.title, note="image_set"), Show("attribute", "Attribute", say=ctx.theme.attribute, note="group"),
        Show("probe", "Probe"), Show("z", "z", "number", decimals=1), Show("p", "p", "p"), Show("q", "q", "p"), Show("tests", "Tests beside it", "count"),
        Show("found", "Found", say=lambda v: "\u25cf found" if v else words.DASH), Show("minimum_detectable", "Smallest detectable", "number", decimals=3),
        Show("n", "Pictures", "count"),
    ]  # fmt: skip
    return table(
        clearest, shows, id="tests-table", caption="Tests on all pictures, the clearest first", source="tests",
        folded=f"Tests on all pictures: the clearest {len(clearest):,} of {len(whole):,}", tall=True,
        notes=("The others, and those of local views, are in tests.parquet of the run folder.",),
    )  # fmt: skip
