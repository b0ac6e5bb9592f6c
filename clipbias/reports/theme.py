"""Colours, names and chart settings, all read from ``reports/theme.toml``.

Charts are drawn in the light colours. The stylesheet then maps each of those exact colours to the page's
variable, so one SVG is legible in light, dark and print alike.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from clipbias import content
from clipbias.errors import DataError


@dataclass(frozen=True)
class Theme:
    """Colours by role (light and dark), the series' colours and shapes, and how attributes are called."""

    light: dict[str, str]
    dark: dict[str, str]
    series: tuple[str, ...]
    shapes: tuple[str, ...]
    attributes: dict[str, str]
    primary: tuple[str, ...]
    metrics: dict[str, str]

    @classmethod
    def load(cls) -> Theme:
        """Read the theme from the content folder.

        Raises
        ------
        DataError
            The file is no TOML or lacks an entry.
        """
        path = content.find("reports", "theme.toml")
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(
                light=raw["light"],
                dark=raw["dark"],
                series=tuple(raw["series"]["colours"]),
                shapes=tuple(raw["series"]["shapes"]),
                attributes=raw["attributes"],
                primary=tuple(raw["primary"]["metrics"]),
                metrics=raw.get("metrics", {}),
            )
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"{path} is not valid TOML: {error}.") from error
        except KeyError as error:
            raise DataError(f"{path} lacks the entry {error}; compare it with the shipped theme.") from error

    def attribute(self, name: str) -> str:
        """Return how an attribute is spoken of; labels are perceived, so that is what they are called."""
        return self.attributes.get(name, f"perceived {name}" if name else "all attributes")

    def metric(self, name: str, title: str = "") -> str:
        """Return the short name of a metric: the theme's, else its own title if that is short, else its name."""
        if " in " in name:  # a metric and the view that it was taken in
            metric, _, view = name.partition(" in ")
            return f"{self.metric(metric)} in {view}"
        own = title if 0 < len(title) <= 24 else name.replace("_", " ")
        return self.metrics.get(name, own[:1].upper() + own[1:])

    def config(self) -> dict[str, Any]:
        """Return the Vega-Lite config shared by every chart."""
        c = self.light
        axis = {
            "labelColor": c["muted"], "titleColor": c["muted"], "gridColor": c["grid"], "domainColor": c["rule"],
            "tickColor": c["rule"], "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
            "labelPadding": 5, "tickSize": 4, "domain": False,
        }  # fmt: skip
        return {
            "background": c["card"],
            "font": "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif",
            "view": {"stroke": None},
            "axis": axis,
            "axisY": {"ticks": False},
            "legend": {"disable": True},
            "padding": 4,
        }

    def css(self) -> str:
        """Return the custom properties for light and dark, and the mapping of chart colours to them."""
        light = "".join(f"--{k}:{v};" for k, v in self.light.items())
        dark = "".join(f"--{k}:{v};" for k, v in self.dark.items())
        maps = []
        for role, colour in self.light.items():
            for paint in ("fill", "stroke"):
                maps.append(f'svg [{paint}="{colour}" i]{{{paint}:var(--{role})}}')
        return (
            f":root{{{light}color-scheme:light}}\n"
            f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}color-scheme:dark}}}}\n"
            + "\n".join(maps)
        )
