"""Do the instruments see what was planted: measured against planted, the bound set before, the verdict."""

from __future__ import annotations

from typing import Any

from clipbias.reports import words
from clipbias.reports.blocks import Body, Cell, Column, Content, Row, Table
from clipbias.reports.cited import cited, value
from clipbias.reports.sections import Context, section


@section("validity")
def validity(ctx: Context) -> Content | None:
    """Return the validity table and how many instruments reached their bound."""
    frame = ctx.tables["validity"]
    if frame.empty:
        return None
    ctx.shared.add("validity", frame)
    rows = []
    for r in frame.itertuples():
        rows.append(
            Row(
                (
                    Cell(ctx.title(r.metric)), Cell(ctx.theme.attribute(r.attribute)), Cell(r.image_set),
                    Cell(words.number(r.spearman, 2), sub=tuple(s for s in (words.interval(r.ci_low, r.ci_high, 2),) if s)),
                    Cell(words.number(r.spearman_unsigned, 2)), Cell(words.number(r.bound, 2)), Cell(words.p_value(r.p)), Cell(words.percent(r.false_positive_rate)),
                    Cell(words.number(r.n_models, 0)), Cell(r.verdict, sub=(r.reason,) if r.reason else (), css="prose"),
                ),
                {"metric": r.metric, "attribute": r.attribute, "image_set": r.image_set},
            )
        )  # fmt: skip
    heads = (
        "Metric",
        "Attribute",
        "Image set",
        "Spearman",
        "Without direction",
        "Bound",
        "p",
        "False positives",
        "Models",
        "Verdict",
    )
    judged = frame.dropna(subset=["spearman", "bound"])
    reached = judged[judged["spearman"] >= judged["bound"]]
    rates = frame["false_positive_rate"].dropna()
    source = """pd.read_parquet("validity.parquet").dropna(subset=["spearman", "bound"])"""
    declared = frame[frame["bound"].notna() & frame["spearman"].isna()]
    unjudged = """pd.read_parquet("validity.parquet").query("bound == bound and spearman != spearman")"""
    facts = {
        "judged": cited(str(len(judged)), f"len({source})") if len(judged) else "",
        "reached": cited(str(len(reached)), f"""len({source}.query("spearman >= bound"))"""),
        "short": [
            {"metric": ctx.title(r.metric), "attribute": ctx.theme.attribute(r.attribute),
             "spearman": cited(words.number(r.spearman, 2), value("validity", "spearman", **_key(r))),
             "bound": cited(words.number(r.bound, 2), value("validity", "bound", **_key(r)))}
            for r in judged[judged["spearman"] < judged["bound"]].itertuples()
        ],
        "unjudged": cited(words.count(len(declared), "instrument"), f"len({unjudged})") if len(declared) else "",
        "false_positives": cited(
            words.percent(float(rates.max())), """100 * pd.read_parquet("validity.parquet")["false_positive_rate"].max()"""
        ) if len(rates) else "",
    }  # fmt: skip
    table = Table(
        id="validity-table", caption="Measured against planted, per instrument", bodies=(Body(tuple(rows)),),
        source="validity",
        columns=tuple(Column(h, kind="number" if h in heads[3:9] else "text") for h in heads),
    )  # fmt: skip
    return Content(facts, (table,))


def _key(row: Any) -> dict[str, str]:
    return {"metric": row.metric, "attribute": row.attribute, "image_set": row.image_set}
