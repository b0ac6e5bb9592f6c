"""The first screen: each section's own answer, in sentences with numbers."""

from __future__ import annotations

from clipbias.reports.blocks import Answers, Content, Facts
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.measured import picture_counts


@section("verdict")
def verdict(ctx: Context) -> Content:
    """Return the counts of the run and the answers that the other sections gave, in page order."""
    rows = ctx.tables["intrinsic"]
    models = (set(rows["model"]) | set(ctx.tables["models"]["model"])) - {""}
    counts = [
        (len(models), "models"),
        (sum(picture_counts(ctx).values()), "pictures"),
        (rows["view"].nunique(), "views"),
        (rows["metric"].nunique(), "metrics"),
        (len(rows), "values"),
    ]
    blocks: list[object] = [Facts(tuple((f"{n:,}", label) for n, label in counts if n))]
    if ctx.answers:
        blocks.append(Answers(ctx.answers))
    return Content({"answers": len(ctx.answers)}, tuple(blocks))
