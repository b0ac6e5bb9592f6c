"""Does bias transfer: the verdicts, the matrix of correlations with intervals, power and equivalence."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid, Table
from clipbias.reports.cited import cited, value, values
from clipbias.reports.sections import Context, section
from clipbias.reports.tabular import Show, table

MARKS = {"related": "\u25cf ", "undecided": "", "equivalent": "\u25cb "}
_CELL = ("attribute", "mode", "task", "head", "intervention")


def verdict_facts(ctx: Context, kind: str) -> list[dict[str, Any]]:
    """Return the primary verdicts of a kind of question, their numbers with the code that gives them."""
    frame = ctx.tables["verdicts"]
    if frame.empty:
        return []
    frame = frame[(frame["kind"] == kind) & frame["primary"].astype(bool)]
    out = []
    for r in frame.to_dict("records"):
        key = {"question": r["question"], "subject": r["subject"], "statistic": r["statistic"]}
        told: dict[str, Any] = {
            k: str(r[k])
            for k in ("question", "subject", "statistic", "to_decide", "status", "reason", "unit")
        }
        verdict = words.capital(str(r["verdict"]))
        bounded = any(ch.isdigit() for ch in verdict)
        told["reason"] = told["reason"].rstrip(".")
        told["verdict"] = cited(verdict, value("verdicts", "bound", **key)) if bounded else verdict
        told["subject"] = spoken(ctx, str(r["subject"]))
        told["called"] = words.capital(told["statistic"].replace("spearman", "Spearman"))
        told["ok"] = r["status"] == "ok"
        way = re.search(r"spaces are (closer|further apart)", str(r["reason"]))
        told["way"] = way[1] if way else ""
        if told["ok"]:
            told["n"] = cited(words.number(float(r["n"]), 0), value("verdicts", "n", **key))
            for name in ("estimate", "minimum_detectable", "bound", "excluded_bound"):
                d = 2 if kind != "convergence" else 3
                told[name] = (
                    "" if pd.isna(r[name]) else cited(words.number(r[name], d), value("verdicts", name, **key))
                )  # fmt: skip
            told["p"] = _p(r["p"], value("verdicts", "p", **key))
            told["interval"] = (
                ""
                if pd.isna(r["ci_low"])
                else cited(words.interval(r["ci_low"], r["ci_high"], 2 if kind != "convergence" else 3), values("verdicts", ["ci_low", "ci_high"], **key))
            )  # fmt: skip
        out.append(told)
    return out


def spoken(ctx: Context, subject: str) -> str:
    """Return the subject of a verdict on transfer or convergence as a phrase; other subjects as they are."""
    layer = _LAYER.fullmatch(subject)
    if layer:
        study, measure, name = layer.groups()
        return f"{words.adaptation(study)}, layer {name}, {_SIMILARITY.get(measure, measure)}"
    found = (_PART.fullmatch(part) for part in subject.split(", "))
    parts = {one[1]: one[2] for one in found if one}
    if not {"intrinsic metric", "extrinsic metric"} <= set(parts):
        metric, against, planted = subject.partition(" against planted")
        return f"{ctx.title(metric)}{against}{planted}" if against else subject
    sides = []
    for side, when in (("intrinsic", "before"), ("extrinsic", "after")):
        place = words.acronyms(parts.get(f"{side} image set") or parts.get(f"{side} task", ""))
        sides.append(f"{ctx.title(parts[f'{side} metric'])} {when}" + (f" ({place})" if place else ""))
    more = [
        f"{p.removeprefix('mode ')} tower" if p.startswith("mode ") else p
        for p in subject.split(", ")
        if p.startswith(("mode ", "mean over", "controlled", "without"))
    ]
    who = [ctx.theme.attribute(parts["attribute"])] if "attribute" in parts else []
    return ", ".join([" and ".join(sides), *who, *more])


_LAYER = re.compile(r"(\S+ \S+ \S+ \S+): (\S+) in layer (\S+)")
_SIMILARITY = {"cka_debiased": "debiased CKA", "cka_biased": "biased CKA", "mutual_knn": "mutual neighbours"}
_PART = re.compile(r"(attribute|mode|(?:intrinsic|extrinsic) (?:image set|metric|task)) (.+)")


def _p(p: float, code: str) -> str:
    if pd.isna(p):
        return ""
    return cited(f"p {words.p_value(p)}", f"max(.001, {code})" if p < 0.001 else code)


def verdict_table(ctx: Context, kinds: tuple[str, ...], *, id: str) -> Table | None:
    """Return the verdict rows of some kinds of question as a table."""
    frame = ctx.tables["verdicts"]
    if frame.empty:
        return None
    if "verdicts" not in ctx.shared.frames:
        ctx.shared.add("verdicts", frame)
    frame = frame[frame["kind"].isin(kinds)].assign(
        statistic=lambda f: f["statistic"].str.replace("spearman", "Spearman")
    )
    if frame.empty:
        return None
    shows = [
        Show("subject", "What was compared", "prose", note="question", say=lambda s: words.capital(spoken(ctx, s))), Show("verdict", "Verdict", note="statistic"),
        Show("estimate", "Estimate", "number", ("ci_low", "ci_high"), decimals=2), Show("p", "p", "p"), Show("n", "n", "count", note="unit"),
        Show("minimum_detectable", "Smallest detectable", "number", decimals=2), Show("bound", "Bound", "number", decimals=2),
        Show("equivalence_p", "Equivalence p", "p"), Show("excluded_bound", "Bound excluded", "number", decimals=2),
        Show("to_decide", "What would decide it", "prose"), Show("reason", "Notes", "prose"),
    ]  # fmt: skip
    return table(
        frame,
        shows,
        id=id,
        caption=f"Verdicts on {words.joined(list(kinds))}, as analysis/*.toml asks",
        source="verdicts",
        tall=len(frame) > 12,
    )


@section("transfer")
def transfer(ctx: Context) -> Content | None:
    """Return the verdicts and, per attribute and mode, the matrix of intrinsic against downstream measures."""
    cells, told = ctx.tables["transfer"], verdict_facts(ctx, "transfer")
    if cells.empty and not told:
        return None
    blocks: list[Any] = [verdict_table(ctx, ("transfer",), id="transfer-verdicts")]
    facts: dict[str, Any] = {"verdicts": told, "cells": len(cells), "related": 0}
    if len(cells):
        drawn = _drawn(ctx, cells)
        facts["related"] = int((drawn["verdict"] == "related").sum())
        blocks += [_matrices(ctx, drawn), _cells(ctx, drawn)]
    return Content(facts, tuple(b for b in blocks if b is not None))


def _drawn(ctx: Context, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with what the matrix draws: row, column, value, interval, mark."""
    frame = cells.copy()
    if "question" in frame:
        frame = frame[frame["question"] != "interventions"]
    # A filter by metric is one of the intrinsic metric.
    metric = next((c for c in ("intrinsic_metric", "metric") if c in frame), None)
    if metric:
        frame["metric"] = frame[metric].astype(str)
    frame["row"] = [_measure(ctx, r, "intrinsic") for r in frame.to_dict("records")]
    frame["column"] = [_measure(ctx, r, "extrinsic") for r in frame.to_dict("records")]
    for column in _CELL:
        frame[column] = frame[column].fillna("").astype(str) if column in frame else ""
    verdict = (frame["verdict"] if "verdict" in frame else pd.Series("", index=frame.index)).fillna(
        "undecided"
    )
    missing = pd.Series(float("nan"), index=frame.index)
    frame = frame.assign(
        verdict=verdict, state=verdict, mark=[MARKS.get(str(v).split()[0], "") for v in verdict], value=frame.get("estimate", missing),
        low=frame.get("ci_low", missing), high=frame.get("ci_high", missing), p=frame.get("p_value", missing),
        detectable=frame.get("minimum_detectable", missing),
    )  # fmt: skip
    order = {m: i for i, m in enumerate(ctx.metrics(frame))} if metric else {}
    frame["rank"] = frame["metric"].map(order) if metric else 0
    frame = frame.sort_values(["mode", "attribute", "rank", "row", "column"], kind="stable").drop(
        columns="rank"
    )
    # What is drawn under another name is not stored twice.
    again = ("estimate", "ci_low", "ci_high", "p_value", "minimum_detectable")
    ctx.shared.add("transfer", frame.drop(columns=[c for c in again if c in frame]))
    return ctx.shared.frames["transfer"]


def _measure(ctx: Context, record: dict[Any, Any], side: str) -> str:
    parts = [str(v) for k, v in record.items() if str(k).startswith(f"{side}_") and not str(k).endswith("metric") and v not in ("", None)]  # fmt: skip
    return words.acronyms(" \u00b7 ".join([ctx.title(str(record.get(f"{side}_metric", side))), *parts]))


def _matrices(ctx: Context, frame: pd.DataFrame) -> Grid:
    figures: list[Figure] = []
    limit = int(ctx.options.get("max_charts", 8))
    groups = sorted(
        frame.groupby(["attribute", "mode"]),
        key=lambda g: (ctx.attributes(frame).index(g[0][0]), g[0][1] != "frozen", g[0][1]),
    )
    for (attribute, mode), part in groups[:limit]:
        known = part[part["value"].notna()]
        if known.empty:
            continue
        cells = max(part["column"].nunique(), part["row"].nunique() // 2)
        spec = forms.matrix(ctx.theme, what="Spearman", diverging=True, cells=cells, label_width=170)
        top = known.loc[known["value"].abs().idxmax()]
        related = int((known["verdict"] == "related").sum())
        where = f"{words.capital(ctx.theme.attribute(attribute))}" + (f", {mode} tower" if mode else "")
        figures.append(
            ctx.draw(
                spec, id=f"transfer-{len(figures)}", title=where,
                note=f"{related} of {words.count(len(known), 'pair')} related; {words.number(float(known['n'].max()), 0)} models",
                finding=(
                    f"{where}: {related} of {len(known)} pairs are related; the strongest is {top['row']} with {top['column']}, "
                    f"{words.number(top['value'], 2)} {words.interval(top['low'], top['high'], 2)}."
                ),
                source="transfer", where={"attribute": str(attribute), "mode": str(mode)}, wide=True,
            )
        )  # fmt: skip
    legend = (
        ("before a number: related", "circle", ctx.theme.light["ink"]),
        ("before a number: equivalent to none", "open-circle", ctx.theme.light["ink"]),
        ("no mark: undecided", "rule", ctx.theme.light["faint"]),
    )
    return Grid(tuple(figures), heading="Correlations over models", legend=legend)


def _cells(ctx: Context, frame: pd.DataFrame) -> Table:
    shows = [
        Show("row", "Before"), Show("column", "After"), Show("attribute", "Attribute", say=ctx.theme.attribute), Show("mode", "Tower"),
        Show("value", "Correlation", "number", ("low", "high"), decimals=2), Show("p", "p", "p"), Show("q", "q (all pairs)", "p"),
        Show("n", "Models", "count"), Show("detectable", "Smallest detectable", "number", decimals=2),
        Show("equivalence_p", "Equivalence p", "p"), Show("excluded_bound", "Bound excluded", "number", decimals=2),
        Show("verdict", "Verdict"),
    ]  # fmt: skip
    ranked = frame.assign(
        order=frame["verdict"].ne("related"), size=frame["value"].abs().fillna(-1)
    ).sort_values(["order", "size"], ascending=[True, False], kind="stable")
    return table(
        ranked, shows, id="transfer-table", caption="Every pair of measures, related ones first", source="transfer",
        folded=f"All pairs of measures ({len(frame):,})", tall=True, limit=int(ctx.options.get("max_rows", 300)),
    )  # fmt: skip
