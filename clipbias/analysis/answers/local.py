"""Whether local views rank the models as the whole set does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from clipbias.analysis.answers.base import (
    Answer,
    matches,
    mean_row,
    side_table,
    side_values,
    words,
)
from clipbias.analysis.heterogeneity import heterogeneity
from clipbias.analysis.mean import mean_correlation
from clipbias.analysis.questions import Question
from clipbias.analysis.values import families_of
from clipbias.analysis.verdicts import not_answered
from clipbias.errors import StatusError


def answer_global_local(
    question: Question, tables: Mapping[str, pd.DataFrame], *, ideals: Mapping[str, float], seed: int = 0
) -> Answer:
    """Answer whether local views rank the models as the whole set does."""
    out = Answer()
    wanted = dict(question.section("primary"))
    table = side_table(question, "intrinsic", tables)
    whole = str(question.test("whole", "global"))
    if table is None or "view" not in table.columns:
        out.verdicts.append(
            not_answered(question, words(wanted), "not measured", "there is no intrinsic table with views")
        )
        return out
    views = tables.get("views")
    leave: set[str] = set()
    if views is not None and "kind" in views.columns:
        leave = set(
            views.loc[
                views["kind"].astype(str).isin(list(question.test("exclude_kinds", []))), "view"
            ].astype(str)
        )
    on = [c for c in ("image_set", "attribute") if c in table.columns]
    values, keys = side_values(question, "intrinsic", table, [*on, "view"], ideals)
    rows, seen = [], False
    method = question.statistic if question.statistic != "kendall" else "spearman"
    for cell, part in values.groupby([*on, *keys], observed=True):
        named = dict(zip([*on, *keys], cell, strict=True))
        primary = bool(matches(pd.DataFrame([named]), wanted).iloc[0])
        wide = part.pivot(index="model", columns="view", values="value")
        local = [v for v in wide.columns if v != whole and v not in leave]
        if whole not in wide.columns or not local or len(wide) < 4:
            continue
        families = families_of(tables.get("models"), question.test("families"), wide.index)
        x = np.column_stack([wide[whole]] * len(local))
        found = mean_correlation(
            x, wide[local].to_numpy(), method=method, families=None if families is None else families.tolist(),
            bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed,
        )  # fmt: skip
        if not np.isfinite(found.estimate):
            continue
        z = np.arctanh(np.clip(found.joint.estimates, -1 + 1e-9, 1 - 1e-9))
        row: dict[str, object] = {
            **named,
            "grouping": "view",
            "mean": found.estimate,
            "mean_p": found.p_value,
        }
        try:
            h = heterogeneity(z, found.cell_errors, draws=found.draws)
            row |= {k: getattr(h, k) for k in ("q", "p_value", "i2", "tau2", "k")}
        except StatusError as error:
            row |= {"status": error.status, "reason": error.reason}
        rows.append({"status": "ok", "reason": ""} | row)
        rows += [
            {**named, "grouping": "one view", "view": v, "total": r, "p_value": p, "p_max": m, "n": int(n), "status": "ok" if np.isfinite(r) else "not defined",
             "reason": "" if np.isfinite(r) else "fewer than 4 models or a constant column"}
            for v, r, p, m, n in zip(local, found.joint.estimates, found.joint.p_values, found.joint.p_max, found.joint.n, strict=True)
        ]  # fmt: skip
        if primary:
            seen = True
            lowest = local[int(np.nanargmin(found.joint.estimates))]
            verdict = mean_row(
                question,
                f"{words(named)}: {whole} against {len(local)} local views",
                found,
                len(wide),
                method,
            )
            reason = f"least alike: {lowest} ({np.nanmin(found.joint.estimates):+.2f}); "
            out.verdicts.append(verdict | {"primary": True, "reason": reason + str(verdict["reason"])})
    out.add("heterogeneity", pd.DataFrame(rows), question)
    if not seen:
        out.verdicts.append(
            not_answered(
                question,
                words(wanted),
                "not measured",
                f"no view {whole!r} beside local views for {words(wanted)} in 4 models",
            )
        )
    return out
