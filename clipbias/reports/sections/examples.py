"""Worst groups, with the pictures that a model ranked highest for a probe."""

from __future__ import annotations

import base64
import binascii
import hashlib

import pandas as pd

from clipbias.reports import words
from clipbias.reports.blocks import Body, Cell, Column, Content, Pictures, Row, Table
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.measured import offensive_words

_PNG = b"\x89PNG\r\n\x1a\n"


@section("examples")
def examples(ctx: Context) -> Content | None:
    """Return one row of pictures per model, attribute and probe, highest score first, each picture stored once."""
    worst = _worst(ctx)
    table = ctx.tables["examples"]
    table = table[table["png"].map(is_png).astype(bool)]
    if table.empty and worst is None:
        return None
    covered = offensive_words(ctx)
    per_row, budget = int(ctx.options.get("per_row", 8)), int(ctx.options.get("max_bytes", 1_500_000))
    sheet: dict[str, str] = {}
    rows, left_out, used = [], 0, 0
    for (model, attribute, probe), part in table.groupby(["model", "attribute", "probe"], sort=True):
        part = part.sort_values("score", ascending=False, kind="stable").head(per_row)
        names = [_name(p) for p in part["png"]]
        fresh = sum(len(p) for n, p in dict(zip(names, part["png"], strict=True)).items() if n not in sheet)
        if used + fresh > budget:
            left_out += 1
            continue
        used += fresh
        sheet |= dict(zip(names, part["png"], strict=True))
        rows.append(
            {
                "model": model,
                "attribute": ctx.theme.attribute(attribute),
                "probe": probe,
                "offensive": probe in covered,
                "tags": {"model": model, "attribute": attribute},
                "lead": _lead(part["group"]),
                "pictures": [
                    {
                        "id": n,
                        "group": r.group,
                        "caption": _alt(r.caption or r.image_id, covered),
                        "score": words.number(r.score, 3),
                    }
                    for n, r in zip(names, part.itertuples(), strict=True)
                ],
            }
        )
    first = int(ctx.options.get("open_rows", 6))
    pictures = (Pictures(tuple(rows[:first]), sheet), Pictures(tuple(rows[first:]), {}))
    facts = {"rows": len(rows), "pictures": len(sheet), "left_out": left_out}
    return Content(facts, (*([worst] if worst else []), *(b for b in pictures if b.rows)))


def _worst(ctx: Context) -> Table | None:
    """Return how often each group is the farthest from even, over models, image sets and metrics."""
    frame = ctx.headline()
    frame = frame[(frame["worst"] != "") & frame["value"].notna()]
    if frame.empty:
        return None
    totals = frame.groupby("attribute").size()
    counted = frame.groupby(["attribute", "worst"]).agg(values=("value", "size"), models=("model", "nunique"))
    counted = counted.reset_index().sort_values(
        ["attribute", "values"], ascending=[True, False], kind="stable"
    )
    counted["share"] = counted["values"] / counted["attribute"].map(totals)
    ctx.shared.add("worst_groups", counted)
    rows = []
    for r in counted.itertuples():
        cells = (
            r.worst,
            ctx.theme.attribute(r.attribute),
            str(r.values),
            words.percent(r.share),
            str(r.models),
        )
        rows.append(Row(tuple(Cell(c) for c in cells), {"attribute": r.attribute}))
    return Table(
        id="worst-table", caption="How often a group is the one farthest from even, over models, image sets and metrics",
        columns=(
            Column("Group"), Column("Attribute"), Column("Values", kind="number"), Column("Share of values", kind="number"),
            Column("Models", kind="number"),
        ),
        bodies=(Body(tuple(rows)),), source="worst_groups",
    )  # fmt: skip


def _alt(caption: str, covered: set[str]) -> str:
    """Return the caption, or just "picture" where it would say a covered word."""
    spoken = caption.lower()
    return "picture" if any(w.lower() in spoken for w in covered if w) else caption


def _lead(groups: pd.Series) -> str:
    """Return ``7 of 8 woman`` for the most frequent group of a row, or just the group if there is only one."""
    counts = groups[groups != ""].value_counts()
    if len(counts) == 1:
        return str(counts.index[0])
    return f"{counts.iloc[0]} of {len(groups)} {counts.index[0]}" if len(counts) else ""


def is_png(text: str) -> bool:
    """Say whether a text is base64 of a PNG: only that is put into the page as a picture."""
    try:
        return base64.b64decode(text, validate=True).startswith(_PNG)
    except (binascii.Error, ValueError):
        return False


def _name(png: str) -> str:
    return "p" + hashlib.sha256(png.encode()).hexdigest()[:10]
