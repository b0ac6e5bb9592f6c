"""Whether bias transfers: the primary pair, all pairs together, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from clipbias.analysis.answers.base import (
    Answer,
    cell_series,
    matches,
    mean_row,
    missing_tables,
    primary_pair,
    side_table,
    side_values,
    split_row,
    words,
)
from clipbias.analysis.answers.repeatability import add_agreement, add_reliability
from clipbias.analysis.correlate import correlate
from clipbias.analysis.heterogeneity import heterogeneity
from clipbias.analysis.joint import mean_correlation
from clipbias.analysis.questions import Question
from clipbias.analysis.transfer import transfer_table
from clipbias.analysis.values import columns_of, families_of, select
from clipbias.analysis.verdicts import correlation_row, not_answered
from clipbias.errors import StatusError


def answer_transfer(
    question: Question, tables: Mapping[str, pd.DataFrame], *, ideals: Mapping[str, float], seed: int = 0
) -> Answer:
    """Answer a transfer question from an intrinsic and an extrinsic table."""
    out = Answer()
    wanted = primary_pair(question)
    gone = missing_tables(question, tables, ("intrinsic", "extrinsic"))
    if gone:
        out.verdicts.append(not_answered(question, words(wanted), "not measured", gone))
        return out
    left, right = (side_table(question, s, tables) for s in ("intrinsic", "extrinsic"))
    assert left is not None
    assert right is not None
    each = [c for c in question.test("each", []) if c in right.columns]
    kept = select(right, question.section("extrinsic").get("where", {}), name="extrinsic")
    groups: list[tuple[dict[str, object], pd.DataFrame]] = [({}, right)]
    if "mode" in kept:  # the image-blind baseline has a quality and no bias: nothing of it can be paired
        kept = kept[kept["mode"].astype(str) != "blind"]
    if each and len(kept):
        groups = []
        for values in sorted(set(zip(*(kept[c].astype(str) for c in each), strict=True))):
            named = dict(zip(each, values, strict=True))
            groups.append((named, select(right, named, name="extrinsic")))
    sides = {"intrinsic": left, "extrinsic": right}
    for side, table in sides.items():
        add_agreement(out, question, table, side, ideals, seed)
    add_reliability(out, question, sides, tables.get("views"), ideals, seed)
    for named, part in groups:
        _one_transfer(out, question, tables, left, part, named, wanted, ideals, seed)
    return out


def _one_transfer(
    out: Answer, question: Question, tables: Mapping[str, pd.DataFrame], left: pd.DataFrame, right: pd.DataFrame,
    named: Mapping[str, object], wanted: dict[str, object], ideals: Mapping[str, float], seed: int,
) -> None:  # fmt: skip
    on = [c for c in question.test("on", ["attribute"]) if c in left.columns and c in right.columns]
    x, x_keys = side_values(question, "intrinsic", left, on, ideals)
    y, y_keys = side_values(question, "extrinsic", right, on, ideals)
    subject = words({**wanted, **named})
    if len(x) == 0 or len(y) == 0:
        side = "intrinsic" if len(x) == 0 else "extrinsic"
        where = question.section(side).get("where", {})
        out.verdicts.append(
            not_answered(question, subject, "not measured", f"the {side} table has no value where {where}")
        )
        return
    shared = pd.Index(sorted(set(x["model"]) & set(y["model"])), name="model")
    models = tables.get("models")
    controls, unknown = columns_of(models, list(question.test("controls", [])), shared)
    families = families_of(models, question.test("families"), shared)
    reason = f"not partialled out, unknown or constant: {', '.join(unknown)}" if unknown else ""
    x, y = x[x["model"].isin(shared) | (len(shared) == 0)], y[y["model"].isin(shared) | (len(shared) == 0)]
    method = question.statistic if question.statistic != "kendall" else "spearman"
    found = transfer_table(
        x, y, on=on, intrinsic_keys=x_keys, extrinsic_keys=y_keys, method=method, controls=controls, families=families,
        bound=question.bound, alpha=question.alpha, resamples=question.resamples, bootstrap=499, seed=seed,
    )  # fmt: skip
    cells = found.cells.assign(**{k: str(v) for k, v in named.items()})
    out.add("transfer", cells, question)
    chosen = cells[matches(cells, wanted)] if wanted else cells
    if len(chosen) == 1:
        row = chosen.iloc[0]
        subject = words({k: row[k] for k in (*on, *_keys(x_keys, y_keys))} | dict(named))
        a, b = cell_series(x, row, "intrinsic", on, x_keys), cell_series(y, row, "extrinsic", on, y_keys)
        options = {
            "bound": question.bound,
            "alpha": question.alpha,
            "resamples": question.resamples,
            "seed": seed,
        }
        partials = [(controls, "")] if controls is None else [
            (controls, f", controlled for {', '.join(controls.columns)}"), (None, ", without controls"),
        ]  # fmt: skip
        for partial, suffix in partials:
            statistic = method if partial is not None else question.statistic
            try:
                one = correlate(a, b, method=statistic, controls=partial, families=families, **options)  # type: ignore[arg-type]
            except StatusError as error:
                out.verdicts.append(not_answered(question, subject, error.status, error.reason))
                continue
            row_of = correlation_row(
                question, subject + suffix, one, primary=partial is controls, reason=reason
            )
            out.verdicts.append(row_of | {"statistic": statistic})
    elif wanted:
        have = sorted({words({c: r[c] for c in cells.columns if c in wanted}) for _, r in cells.iterrows()})
        what = "is not in the tables" if len(chosen) == 0 else f"fits {len(chosen)} cells"
        why = f"the primary pair {what}; there are: {'; '.join(have[:6])}"
        out.verdicts.append(not_answered(question, subject, "not measured", why))
    _over_views(out, question, tables, left, right, named, on, ideals)
    if len(shared) >= 4 and len(cells) > 1:
        _overall(
            out,
            question,
            x,
            y,
            cells,
            on,
            x_keys,
            y_keys,
            method,
            controls,
            families,
            named,
            seed,
            primary=not wanted,
        )


def _keys(x_keys: list[str], y_keys: list[str]) -> list[str]:
    return [*(f"intrinsic_{k}" for k in x_keys), *(f"extrinsic_{k}" for k in y_keys)]


def _over_views(
    out: Answer, question: Question, tables: Mapping[str, pd.DataFrame], left: pd.DataFrame, right: pd.DataFrame,
    named: Mapping[str, object], on: list[str], ideals: Mapping[str, float],
) -> None:  # fmt: skip
    """Split every correlation over (model, view) into its part between and its part within views."""
    if "view" not in left.columns or "view" not in right.columns or "view" in on:
        return
    spec = dict(question.spec)
    for side in ("intrinsic", "extrinsic"):
        where = {k: v for k, v in question.section(side).get("where", {}).items() if k != "view"}
        spec[side] = {**question.section(side), "where": where}
    wide = replace(question, spec=spec)
    x, x_keys = side_values(wide, "intrinsic", left, [*on, "view"], ideals)
    y, y_keys = side_values(wide, "extrinsic", right, [*on, "view"], ideals)
    x = x.rename(columns={k: f"intrinsic_{k}" for k in x_keys})
    y = y.rename(columns={k: f"extrinsic_{k}" for k in y_keys})
    both = x.merge(y, on=["model", *on, "view"], suffixes=("", "_after"))
    views = tables.get("views")
    if views is not None and "kind" in views.columns:
        random = set(views.loc[views["kind"].astype(str) == "random", "view"].astype(str))
        both = both[~both["view"].isin(random)]
    if both["view"].nunique() < 2:
        return
    keys = [*on, *_keys(x_keys, y_keys)]
    rows = [
        dict(zip(keys, cell, strict=True))
        | {"grouping": "view", **named}
        | split_row(part["value"].to_numpy(), part["value_after"].to_numpy(), part["view"].to_numpy())
        for cell, part in both.groupby(keys)
    ]
    out.add("heterogeneity", pd.DataFrame(rows), question)


def _overall(
    out: Answer, question: Question, x: pd.DataFrame, y: pd.DataFrame, cells: pd.DataFrame, on: list[str], x_keys: list[str],
    y_keys: list[str], method: str, controls: pd.DataFrame | None, families: pd.Series | None, named: Mapping[str, object], seed: int,
    *, primary: bool,
) -> None:  # fmt: skip
    """Judge all cells together, and say whether transfer differs between attributes, views or families."""
    shared = sorted(set(x["model"]))
    a = np.column_stack(
        [cell_series(x, row, "intrinsic", on, x_keys).reindex(shared) for _, row in cells.iterrows()]
    )
    b = np.column_stack(
        [cell_series(y, row, "extrinsic", on, y_keys).reindex(shared) for _, row in cells.iterrows()]
    )
    found = mean_correlation(
        a, b, method=method, controls=controls, families=None if families is None else families.tolist(),
        bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed,
    )  # fmt: skip
    used = int(np.isfinite(found.joint.estimates).sum())
    where = f" ({words(named)})" if named else ""
    count = 0 if controls is None else controls.shape[1]
    if not used:
        return
    row = mean_row(question, f"mean over {used} pairs of measures{where}", found, len(shared), method, count)
    out.verdicts.append(row | {"primary": primary})
    rows = []
    z = np.arctanh(np.clip(found.joint.estimates, -1 + 1e-9, 1 - 1e-9))
    errors = found.cell_errors
    keys = _keys(x_keys, y_keys)
    for grouping in on:
        for pair, part in cells.groupby(keys, observed=True):
            index = part.index.to_numpy()
            row = dict(zip(keys, pair, strict=True)) | {"grouping": grouping, **named}
            try:
                h = heterogeneity(z[index], errors[index], draws=found.draws[:, index])
            except StatusError:
                continue
            names = ("q", "p_value", "i2", "tau2", "k")
            row |= {k: getattr(h, k) for k in names} | {"mean": float(np.tanh(h.mean))}
            groups = np.repeat(part[grouping].astype(str).to_numpy(), len(shared))
            rows.append(row | split_row(a[:, index].T.ravel(), b[:, index].T.ravel(), groups))
    if families is not None:
        for j, (_, cell) in enumerate(cells.iterrows()):
            row = {k: cell[k] for k in (*on, *keys)} | {"grouping": "family", **named}
            rows.append(row | split_row(a[:, j], b[:, j], families.loc[shared].to_numpy()))
    out.add("heterogeneity", pd.DataFrame(rows), question)
