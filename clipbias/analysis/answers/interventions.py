"""Whether changes made upstream show downstream."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from clipbias.analysis.answers.base import (
    Answer,
    cell_series,
    matches,
    missing_tables,
    primary_pair,
    side_table,
    side_values,
    words,
)
from clipbias.analysis.correlate import correlate
from clipbias.analysis.questions import Question
from clipbias.analysis.transfer import transfer_table
from clipbias.analysis.verdicts import correlation_row, not_answered
from clipbias.errors import StatusError


def answer_interventions(
    question: Question, tables: Mapping[str, pd.DataFrame], *, ideals: Mapping[str, float], seed: int = 0
) -> Answer:
    """Answer whether changes made upstream show downstream, over (model, intervention)."""
    out = Answer()
    wanted = primary_pair(question)
    gone = missing_tables(question, tables, ("intrinsic", "extrinsic"))
    baseline = str(question.test("baseline", ""))
    sides = {}
    for side in ("intrinsic", "extrinsic") if not gone else ():
        table = side_table(question, side, tables)
        assert table is not None
        if "intervention" not in table.columns or set(table["intervention"].astype(str)) <= {baseline}:
            gone = f"the {side} table has no intervention beside {baseline!r}"
            break
        on = [c for c in question.test("on", ["attribute"]) if c in table.columns]
        values, keys = side_values(question, side, table, [*on, "intervention"], ideals)
        base = values[values["intervention"] == baseline].drop(columns="intervention")
        joined = values[values["intervention"] != baseline].merge(
            base, on=["model", *on, *keys], suffixes=("", "_base")
        )
        joined["value"] = joined["value"] - joined["value_base"]
        joined["model"] = joined["model"] + " | " + joined["intervention"]
        sides[side] = (joined.drop(columns=["value_base", "intervention"]), on, keys)
    if gone:
        out.verdicts.append(not_answered(question, words(wanted), "not measured", gone))
        return out
    (x, on, x_keys), (y, _, y_keys) = sides["intrinsic"], sides["extrinsic"]
    shared = pd.Index(sorted(set(x["model"]) & set(y["model"])))
    if len(shared) == 0:
        out.verdicts.append(
            not_answered(
                question, words(wanted), "not measured", "no model has an intervention on both sides"
            )
        )
        return out
    x, y = x[x["model"].isin(shared)], y[y["model"].isin(shared)]
    families = pd.Series([m.rsplit(" | ", 1)[0] for m in shared], index=shared)
    unit = "model × intervention"
    found = transfer_table(
        x, y, on=on, intrinsic_keys=x_keys, extrinsic_keys=y_keys, families=families, bound=question.bound, alpha=question.alpha,
        method=question.statistic if question.statistic != "kendall" else "spearman", resamples=question.resamples, bootstrap=499,
        seed=seed, unit=unit,
    )  # fmt: skip
    out.add("transfer", found.cells, question)
    chosen = found.cells[matches(found.cells, wanted)]
    if len(chosen) != 1:
        out.verdicts.append(
            not_answered(
                question, words(wanted), "not measured", f"the primary pair fits {len(chosen)} cells"
            )
        )
        return out
    row = chosen.iloc[0]
    try:
        one = correlate(
            cell_series(x, row, "intrinsic", on, x_keys), cell_series(y, row, "extrinsic", on, y_keys), method=question.statistic,
            families=families, bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed, unit=unit,
        )  # fmt: skip
        out.verdicts.append(
            correlation_row(
                question, f"change of {words(wanted)}", one, reason="labels permuted within models"
            )
        )
    except StatusError as error:
        out.verdicts.append(not_answered(question, words(wanted), error.status, error.reason))
    return out
