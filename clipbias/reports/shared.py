"""The one copy of the data and of the chart specs that the whole page reads."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pandas as pd


class Shared:
    """Data sets and specs by name; charts and downloads refer to them by name only."""

    def __init__(self) -> None:
        self.frames: dict[str, pd.DataFrame] = {}
        self.specs: dict[str, dict[str, Any]] = {}

    def add(self, name: str, frame: pd.DataFrame) -> str:
        """Store a data set and return its name; numbers keep their full precision."""
        self.frames[name] = frame.reset_index(drop=True)
        return name

    def add_spec(self, spec: dict[str, Any]) -> str:
        """Store a chart spec once, however many charts share it, and return its key."""
        key = "s" + hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
        self.specs[key] = spec
        return key

    def records(self, name: str, where: dict[str, str]) -> list[dict[str, Any]]:
        """Return the rows of a data set that agree with ``where``, ready for a chart."""
        frame = self.frames[name]
        for column, value in where.items():
            frame = frame[frame[column] == value]
        columns = {c: [_plain(v) for v in frame[c]] for c in frame.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def packed(self) -> dict[str, Any]:
        """Return all data sets column by column; what repeats is stored once."""
        return {name: {c: _pack(frame[c]) for c in frame.columns} for name, frame in self.frames.items()}


def escaped_json(value: Any) -> str:
    """Return JSON that is inert inside a script element: no ``<``, ``>`` or ``&``, and never NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _pack(column: pd.Series) -> Any:
    """Return the values, or each of the few that there are once and integer codes, or one value and how often."""
    values = [_plain(v) for v in column]
    place: dict[Any, int] = {}
    # A number and a truth value that are equal are still two values.
    codes = [place.setdefault((type(v), v), len(place)) for v in values]
    levels = [v for _, v in place]
    if len(levels) == 1 and len(values) > 1:
        return {"every": levels[0], "n": len(values)}
    if len(values) > 3 and len(levels) <= 0.5 * len(values):
        return {"levels": levels, "codes": codes}
    return values
