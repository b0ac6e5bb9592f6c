"""Which metrics measure the same thing over models, and how far each repeats itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from clipbias.analysis.answers.base import Answer, primary_pair, several, side_values
from clipbias.analysis.questions import Question
from clipbias.analysis.reliability import disattenuate, icc, reliability
from clipbias.analysis.transfer import agreement
from clipbias.analysis.values import bias_values
from clipbias.errors import StatusError


def add_agreement(
    out: Answer, question: Question, table: pd.DataFrame, side: str, ideals: Mapping[str, float], seed: int
) -> None:
    """Add the correlations of the metrics of one side with each other, for each attribute."""
    on = ["attribute"] if "attribute" in table.columns else []
    values, keys = side_values(question, side, table, on, ideals)
    if not keys or len(values) == 0:
        return
    values = values.assign(_metric=values[keys].agg(" / ".join, axis=1))
    for attribute, part in values.groupby("attribute") if on else [("", values)]:
        wide = part.pivot(index="model", columns="_metric", values="value")
        if wide.shape[0] >= 4 and wide.shape[1] >= 2:
            found = agreement(wide, resamples=min(question.resamples, 1999), seed=seed)
            out.add("agreement", found.assign(side=side, attribute=attribute), question)


NUMBERS = ("half", "value", "ci_low", "ci_high")


def add_reliability(
    out: Answer,
    question: Question,
    sides: Mapping[str, pd.DataFrame],
    views: pd.DataFrame | None,
    ideals: Mapping[str, float],
    seed: int,
) -> None:
    """Add split-half reliability over probes, ICC over random subsets, and the corrected primary correlation."""
    rows: list[dict[str, object]] = []
    wanted = primary_pair(question)
    primary: dict[str, list[tuple[dict[str, object], pd.DataFrame]]] = {"intrinsic": [], "extrinsic": []}
    for side, table in sides.items():
        on = ["attribute"] if "attribute" in table.columns else []
        rows += _over_random_views(question, side, table, on, views, ideals)
        if "probe" not in table.columns:
            continue
        single, keys = side_values(question, side, table, on, ideals, items=True)
        for cell, part in single.groupby([*on, *keys]):
            named = dict(zip([*on, *keys], cell, strict=True))
            wide = part.pivot(index="model", columns="probe", values="value").dropna(axis=1)
            row = {**named, "side": side, "over": "probes", "items": wide.shape[1], "models": wide.shape[0]}
            try:
                found = reliability(wide.to_numpy(), splits=100, bootstrap=200, seed=seed)
            except StatusError as error:
                rows.append(row | {"status": error.status, "reason": error.reason})
                continue
            numbers = {k: getattr(found, k) for k in NUMBERS}
            rows.append(row | numbers | {"status": "ok", "reason": ""})
            own = {k: wanted.get(k if k in on else f"{side}_{k}") for k in named}
            if all(str(v) in map(str, several(own[k])) for k, v in named.items()):
                primary[side].append((named, wide))
    for _, before in primary["intrinsic"]:
        for named, after in primary["extrinsic"]:
            rows.append(named | _corrected(before, after, seed))
    # Rows without a number (two models, say) still have its columns: readers of the table count on them.
    bare: dict[str, object] = dict.fromkeys(NUMBERS, math.nan)
    out.add("reliability", pd.DataFrame([bare | row for row in rows]), question)


def _over_random_views(
    question: Question,
    side: str,
    table: pd.DataFrame,
    on: list[str],
    views: pd.DataFrame | None,
    ideals: Mapping[str, float],
) -> list[dict[str, object]]:
    """Return the intraclass correlation of each metric over random subsets of the images."""
    if views is None or "kind" not in views.columns or "view" not in table.columns:
        return []
    random = set(views.loc[views["kind"].astype(str) == "random", "view"].astype(str))
    table = table[table["view"].astype(str).isin(random)]
    if len(table) == 0:
        return []
    spec = question.section(side)
    keys = [k for k in spec.get("keys", ["metric"]) if k in table.columns]
    where = {k: v for k, v in spec.get("where", {}).items() if k != "view"}
    values = bias_values(
        table, keys=[*on, *keys, "view"], where=where, transform=spec.get("transform", "distance"), ideals=ideals, name=side
    )  # fmt: skip
    rows = []
    for cell, part in values.groupby([*on, *keys]):
        wide = part.pivot(index="model", columns="view", values="value").dropna(axis=1)
        row: dict[str, object] = dict(zip([*on, *keys], cell, strict=True))
        row |= {"side": side, "over": "random subsets", "items": wide.shape[1], "models": wide.shape[0]}
        try:
            found = icc(wide.to_numpy())
            rows.append(row | {"half": found["ICC2"], "value": found["ICC2k"], "status": "ok", "reason": ""})
        except StatusError as error:
            rows.append(row | {"status": error.status, "reason": error.reason})
    return rows


def _corrected(x: pd.DataFrame, y: pd.DataFrame, seed: int) -> dict[str, object]:
    """Return the primary correlation corrected for attenuation, where that is admissible."""
    shared = x.index.intersection(y.index)
    row: dict[str, object] = {"side": "both", "over": "attenuation", "models": len(shared)}
    try:
        found = disattenuate(x.loc[shared].to_numpy(), y.loc[shared].to_numpy(), bootstrap=200, seed=seed)
    except StatusError as error:
        return row | {"status": error.status, "reason": error.reason}
    return row | {
        "half": found.observed,
        "value": found.corrected,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "status": "ok" if found.admissible else "not admissible",
        "reason": found.reason,
    }
