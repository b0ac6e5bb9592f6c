"""A table of the page from a frame and a list of what its columns show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clipbias.reports import words
from clipbias.reports.blocks import Body, Cell, Column, Row, Table

TAGS = ("model", "image_set", "attribute", "view", "metric")


@dataclass(frozen=True)
class Show:
    """One column of a table.

    Attributes
    ----------
    column : str
        Of the frame.
    label : str
        The heading.
    kind : {"text", "prose", "number", "count", "p", "percent"}
    interval : (str, str), optional
        Columns of the ends, shown below the number.
    note : str
        Column with a smaller line below.
    say : callable, optional
        Turns the value into text.
    """

    column: str
    label: str
    kind: str = "text"
    interval: tuple[str, str] | None = None
    note: str = ""
    say: Callable[[Any], str] | None = None
    decimals: int | None = None


def table(
    frame: pd.DataFrame,
    shows: Sequence[Show],
    *,
    id: str,
    caption: str,
    source: str,
    by: str = "",
    limit: int = 400,
    folded: str = "",
    tall: bool = False,
    notes: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> Table:
    """Return a table block; a row whose ``status`` is not ok says so where its first number would stand.

    Parameters
    ----------
    frame : DataFrame
        One row per row.
    shows : sequence of Show
        Columns that the frame lacks are left out.
    by : str
        Column whose values head groups of rows.
    tags : mapping, optional
        Filter key -> column, for columns that are not called like the filter.
    """
    shows = [s for s in shows if s.column in frame]
    decimals = {
        s.column: s.decimals if s.decimals is not None else words.decimals_for(frame[s.column].dropna().astype(float))
        for s in shows
        if s.kind == "number"
    }  # fmt: skip
    keys = {k: k for k in TAGS if k in frame} | dict(tags or {})
    cut = frame.head(limit)
    groups = cut.groupby(by, sort=False) if by else [("", cut)]
    bodies = tuple(
        Body(tuple(_row(r, shows, decimals, keys) for r in part.to_dict("records")), str(name))
        for name, part in groups
    )
    more = (f"{limit} of {len(frame):,} rows are shown; the CSV holds all.",) if len(frame) > limit else ()
    columns = tuple(Column(s.label, kind="text" if s.kind in ("text", "prose") else "number") for s in shows)
    return Table(
        id=id, caption=caption, columns=columns, bodies=bodies, source=source, folded=folded, tall=tall, notes=(*notes, *more)
    )  # fmt: skip


def _row(
    record: dict[Any, Any], shows: Sequence[Show], decimals: Mapping[str, int], keys: Mapping[str, str]
) -> Row:
    tags = {k: str(record[c]) for k, c in keys.items() if record.get(c) not in (None, "")}
    failed = str(record.get("status") or "ok") != "ok"
    cells = []
    for show in shows:
        cell = _cell(record, show, decimals.get(show.column))
        if failed and show.kind not in ("text", "prose") and cell.text == words.DASH:
            cell, failed = (
                Cell(str(record["status"]), sub=_lines(str(record.get("reason") or "")), css="status"),
                False,
            )
        cells.append(cell)
    return Row(tuple(cells), tags)


def _cell(record: dict[Any, Any], show: Show, decimals: int | None) -> Cell:
    value = record[show.column]
    sub = _lines(str(record.get(show.note) or "")) if show.note else ()
    css = "prose" if show.kind == "prose" else ""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return Cell(words.DASH, sub=sub, css=css)
    if show.say is not None:
        return Cell(show.say(value), sub=sub, css=css)
    if show.kind == "number":
        if show.interval:
            low, high = (float(record.get(c, float("nan"))) for c in show.interval)
            sub = (*_lines(words.interval(low, high, decimals)), *sub)
        return Cell(words.number(float(value), decimals), sub=sub)
    if show.kind == "count":
        return Cell(words.number(float(value), 0), sub=sub)
    if show.kind == "p":
        return Cell(words.p_value(float(value)), sub=sub)
    if show.kind == "percent":
        return Cell(words.percent(float(value)), sub=sub)
    return Cell(str(value), sub=sub, css=css)


def _lines(text: str) -> tuple[str, ...]:
    return (text,) if text else ()
