"""Whether bias transfers: the primary pair, all pairs together, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from clipbias.analysis.answers.base import (
    Answer,
    mean_row,
    missing_tables,
    primary_pair,
    side_table,
    side_values,
    split_row,
    words,
)
from clipbias.analysis.answers.pairs import Pairs, pairs_of, primary_cells
from clipbias.analysis.answers.repeatability import add_agreement, add_reliability
from clipbias.analysis.correlate import correlate
from clipbias.analysis.heterogeneity import heterogeneity
from clipbias.analysis.mean import mean_correlation
from clipbias.analysis.questions import Question
from clipbias.analysis.transfer import transfer_table
from clipbias.analysis.values import select
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
    pairs = pairs_of(question, tables, left, right, ideals)
    subject = words({**wanted, **named})
    for side, values in (("intrinsic", pairs.x), ("extrinsic", pairs.y)):
        if len(values) == 0:
            where = question.section(side).get("where", {})
            why = f"the {side} table has no value where {where}"
            out.verdicts.append(not_answered(question, subject, "not measured", why))
            return
    method = question.statistic if question.statistic != "kendall" else "spearman"
    found = transfer_table(
        pairs.x, pairs.y, on=pairs.on, intrinsic_keys=pairs.x_keys, extrinsic_keys=pairs.y_keys, method=method,
        controls=pairs.controls, families=pairs.families, bound=question.bound, alpha=question.alpha,
        resamples=question.resamples, bootstrap=499, seed=seed,
    )  # fmt: skip
    cells = found.cells.assign(**{k: str(v) for k, v in named.items()})
    out.add("transfer", cells, question)
    if wanted or len(cells) == 1:
        _primary(out, question, pairs, cells, named, wanted, method, seed)
    _over_views(out, question, tables, left, right, named, pairs, ideals)
    if len(pairs.shared) >= 4 and len(cells) > 1:
        _overall(out, question, pairs, cells, named, method, seed, primary=not wanted)


def _primary(
    out: Answer, question: Question, pairs: Pairs, cells: pd.DataFrame, named: Mapping[str, object],
    wanted: Mapping[str, object], method: str, seed: int,
) -> None:  # fmt: skip
    """Judge the primary pair, or the mean over several; beside it each pair, and all models without controls."""
    chosen, gone = primary_cells(cells, wanted)
    subject = words({**wanted, **named})
    if len(chosen) == 0:
        columns = [c for c in cells.columns if c in wanted]
        have = sorted({words({c: r[c] for c in columns}) for _, r in cells.iterrows()})
        why = f"the primary pair is not in the tables; there are: {'; '.join(have[:6])}"
        out.verdicts.append(not_answered(question, subject, "not measured", why))
        return
    reasons = (
        [f"not partialled out, unknown or constant: {', '.join(pairs.unknown)}"] if pairs.unknown else []
    )
    reasons += [f"not in the tables: {', '.join(gone)}"] if gone else []
    given = [
        *([] if pairs.controls is None else pairs.controls.columns),
        *([] if pairs.families is None else ["families"]),
    ]
    suffix = f", controlled for {' and '.join(given)}" if given else ""
    together = len(chosen) > 1
    if together:
        a, b = pairs.matrices(chosen)
        try:
            found = mean_correlation(
                a, b, method=method, controls=pairs.controls, families=None if pairs.families is None else pairs.families.tolist(),
                bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed,
            )  # fmt: skip
            if not np.isfinite(found.joint.estimates).any():
                some = f"{len(pairs.shared)} models with {found.partialled} degrees of freedom for controls and families"
                raise StatusError("too few models", f"{some}; at least {4 + found.partialled} are needed.")
            row = mean_row(
                question, f"{subject}, mean over {len(chosen)} pairs{suffix}", found, int(found.joint.n.max()), method,
                primary=True, reason="; ".join(reasons),
            )  # fmt: skip
            out.verdicts.append(row)
        except StatusError as error:
            out.verdicts.append(_too_few(question, subject, error, len(pairs.shared)))
    for _, cell in chosen.iterrows():
        one = words({k: cell[k] for k in (*pairs.on, *pairs.keys)} | dict(named))
        _pair(
            out,
            question,
            pairs,
            cell,
            one + suffix,
            method,
            seed,
            primary=not together,
            reason="; ".join(reasons),
        )
        if given:
            bare = replace(pairs, controls=None, families=None)
            name = f"{one}, without controls or families"
            _pair(out, question, bare, cell, name, question.statistic, seed)


def _too_few(question: Question, subject: str, error: StatusError, n: int) -> dict[str, object]:
    """Return the row of what could not be computed; with too few models, nothing can be found and nothing excluded."""
    row = not_answered(question, subject, error.status, error.reason)
    if error.status != "too few models":
        return row
    nothing = dict.fromkeys(("minimum_detectable", "excluded_bound", "detectable_bound"), 1.0)
    return row | nothing | {"n": n}


def _pair(
    out: Answer, question: Question, pairs: Pairs, cell: pd.Series, subject: str, method: str, seed: int,
    *, primary: bool = False, reason: str = "",
) -> None:  # fmt: skip
    """Judge one pair."""
    a, b = pairs.series(cell)
    try:
        found = correlate(
            a, b, method=method, controls=pairs.controls, families=pairs.families, bound=question.bound, alpha=question.alpha,
            resamples=question.resamples, seed=seed,
        )  # fmt: skip
    except StatusError as error:
        row = _too_few(question, subject, error, len(a)) | {"primary": primary}
    else:
        row = correlation_row(question, subject, found, primary=primary, reason=reason)
    out.verdicts.append(row | {"statistic": method})


def _over_views(
    out: Answer, question: Question, tables: Mapping[str, pd.DataFrame], left: pd.DataFrame, right: pd.DataFrame,
    named: Mapping[str, object], pairs: Pairs, ideals: Mapping[str, float],
) -> None:  # fmt: skip
    """Split every correlation over (model, view) into its part between and its part within views."""
    on = pairs.on
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
    keys = [*on, *pairs.keys]
    rows = [
        dict(zip(keys, cell, strict=True))
        | {"grouping": "view", **named}
        | split_row(part["value"].to_numpy(), part["value_after"].to_numpy(), part["view"].to_numpy())
        for cell, part in both.groupby(keys)
    ]
    out.add("heterogeneity", pd.DataFrame(rows), question)


def _overall(
    out: Answer, question: Question, pairs: Pairs, cells: pd.DataFrame, named: Mapping[str, object], method: str, seed: int,
    *, primary: bool,
) -> None:  # fmt: skip
    """Judge all cells together, and say whether transfer differs between attributes, views or families."""
    a, b = pairs.matrices(cells)
    families, shared = pairs.families, pairs.shared
    found = mean_correlation(
        a, b, method=method, controls=pairs.controls, families=None if families is None else families.tolist(),
        bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed,
    )  # fmt: skip
    used = int(np.isfinite(found.joint.estimates).sum())
    where = f" ({words(named)})" if named else ""
    if not used:
        return
    row = mean_row(
        question, f"mean over {used} pairs of measures{where}", found, len(shared), method, primary=primary
    )
    out.verdicts.append(row)
    rows = []
    z = np.arctanh(np.clip(found.joint.estimates, -1 + 1e-9, 1 - 1e-9))
    errors = found.cell_errors
    for grouping in pairs.on:
        for pair, part in cells.groupby(pairs.keys, observed=True):
            index = part.index.to_numpy()
            row = dict(zip(pairs.keys, pair, strict=True)) | {"grouping": grouping, **named}
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
            row = {k: cell[k] for k in (*pairs.on, *pairs.keys)} | {"grouping": "family", **named}
            rows.append(row | split_row(a[:, j], b[:, j], families.loc[shared].to_numpy()))
    out.add("heterogeneity", pd.DataFrame(rows), question)
