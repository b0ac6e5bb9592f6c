"""How result objects show themselves in a notebook: one table of their fields, long parts folded.

A mixin for the frozen dataclasses of metrics and analysis. It needs nothing but the standard library: frames show themselves
through their own ``_repr_html_``, arrays by their shape.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from html import escape
from typing import Any


class Shown:
    """Gives a dataclass ``_repr_html_``: what a notebook shows in place of ``repr``."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        lines: list[tuple[str, object]] = (
            [(f.name, getattr(self, f.name)) for f in fields(self) if f.repr] if is_dataclass(self) else []
        )
        body = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th><td style="text-align:left">{cell(value)}</td></tr>'
            for name, value in _joined(lines)
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption><tbody>{body}</tbody></table>"


def _joined(lines: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Put the ends of an interval into one line."""
    values = dict(lines)
    if {"ci_low", "ci_high"} <= set(values):
        low, high = values.pop("ci_low"), values.pop("ci_high")
        return [
            ("interval", f"[{_short(low)}, {_short(high)}]") if name == "ci_low" else (name, values[name])
            for name, _ in lines
            if name == "ci_low" or name in values
        ]
    return lines


def cell(value: Any) -> str:
    """Return one value as HTML; texts are escaped, frames and long mappings folded."""
    show = getattr(value, "_repr_html_", None)
    if callable(show):
        return _folded(
            f"{type(value).__name__}, {len(value)} rows"
            if hasattr(value, "__len__")
            else type(value).__name__,
            show(),
        )
    shape = getattr(value, "shape", None)
    if shape:
        return escape(f"array {'×'.join(map(str, shape))}")
    if isinstance(value, dict):
        rows = "".join(
            f'<tr><th scope="row">{escape(str(k))}</th><td>{cell(v)}</td></tr>' for k, v in value.items()
        )
        table = f"<table><tbody>{rows}</tbody></table>"
        return table if len(value) <= 8 else _folded(f"{len(value)} entries", table)
    if isinstance(value, (list, tuple)) and len(value) > 12:
        return _folded(f"{len(value)} values", escape(", ".join(_short(v) for v in value)))
    if isinstance(value, (list, tuple)):
        return escape(", ".join(_short(v) for v in value))
    return escape(_short(value))


def _short(value: Any) -> str:
    if hasattr(value, "item") and not getattr(value, "shape", None):
        value = value.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _folded(head: str, html: str) -> str:
    return f"<details><summary>{escape(head)}</summary>{html}</details>"
