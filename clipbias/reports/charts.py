"""The chart forms of the report, each as one spec that reads a named data set.

A chart carries no data of its own: the page's loader gives it the filtered rows, and the static SVG is drawn
from the same rows here. Titles are HTML, beside the chart, so that equal charts share one spec.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert

from clipbias.reports.blocks import Figure
from clipbias.reports.shared import Shared
from clipbias.reports.theme import Theme

VL_VERSION = "6.4"
_ARIA = re.compile(r' (?:aria-[\w-]+|role)="[^"]*"')
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
_ID = re.compile(r"\b(id=\"|url\(#|href=\"#)([A-Za-z_][\w-]*)")


def bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that leaves only ``window.vegaEmbed`` behind."""
    return "(()=>{" + vl_convert.javascript_bundle(vl_version=VL_VERSION) + "})()"  # type: ignore[call-arg]


def draw(
    shared: Shared,
    theme: Theme,
    spec: dict[str, Any],
    *,
    id: str,
    title: str,
    finding: str,
    source: str,
    note: str = "",
    where: dict[str, str] | None = None,
    default: dict[str, str] | None = None,
    highlight: tuple[str, ...] = (),
    wide: bool = False,
) -> Figure:
    """Return a figure: the spec stored once, and the SVG of its own rows."""
    where, default = where or {}, default or {}
    records = shared.records(source, where | default)
    full = {**spec, "config": theme.config(), "datasets": {"rows": records}}
    svg = vl_convert.vegalite_to_svg(full, vl_version=VL_VERSION, allowed_base_urls=[])
    return Figure(
        id=id, title=title, finding=finding, spec=shared.add_spec(spec), source=source, note=note,
        svg=clean_svg(svg, prefix=id), where=where, default=default, highlight=highlight, wide=wide,
    )  # fmt: skip


def clean_svg(svg: str, *, prefix: str) -> str:
    """Return an SVG safe to inline: well-formed, no scripts or handlers, ids of its own and numbered anew."""
    root = ElementTree.fromstring(svg)
    for node in root.iter():
        name = node.tag.rpartition("}")[2].lower()
        if name in {"script", "foreignobject", "a"} or any(k.lower().startswith("on") for k in node.attrib):
            raise ValueError(f"chart {prefix!r}: the drawn SVG holds active content ({name})")
    order: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return match[1] + order.setdefault(match[2], f"{prefix}-{len(order)}")

    def lean(tag: re.Match[str]) -> str:
        # The whole chart is one picture with one text for a screen reader; hundredths of a pixel are enough.
        text = _DIGITS.sub(lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), _ARIA.sub("", tag[0]))
        return _ID.sub(renamed, text)

    # The renderer numbers clip paths per process; numbering anew keeps pages equal byte for byte.
    return re.sub(r"(<[^>]*>)", lean, svg)


def named(chart: Any) -> dict[str, Any]:
    """Return a chart over named data as a spec without data and config: the page has one copy of each."""
    spec = chart.to_dict()
    spec.pop("config", None)
    spec.pop("datasets", None)
    return spec


def shortened(characters: int) -> str:
    """Return the expression of an axis label that keeps both ends of a long name: views differ in their last letters."""
    head = characters // 2 - 1
    tail = characters - head - 1
    return f"length(datum.label) > {characters} ? slice(datum.label, 0, {head}) + '\u2026' + slice(datum.label, -{tail}) : datum.label"


def tooltip(*fields: tuple[str, str, str]) -> list[alt.Tooltip]:
    """Return tooltips of (field, title, number format or "" for text)."""
    return [
        alt.Tooltip(field=f, type="quantitative", title=t, format=kind)
        if kind
        else alt.Tooltip(field=f, type="nominal", title=t)
        for f, t, kind in fields
    ]


def planted(theme: Theme, *, families: list[str]) -> dict[str, Any]:
    """Return value with interval over planted strength; one shape and colour per architecture."""
    base = alt.Chart(alt.NamedData("rows"))
    x = alt.X(
        "place:Q",
        title="planted \u03c1",
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(grid=False, format=".2~f", tickCount=5, labelFlush=False),
    )
    seen = alt.condition("datum.on === false", alt.value(0.15), alt.value(1))
    colours = alt.Scale(
        domain=families, range=[theme.series[i % len(theme.series)] for i in range(len(families))]
    )
    colour = alt.Color("family:N", scale=colours)
    shape = alt.Shape(
        "family:N",
        scale=alt.Scale(
            domain=families, range=[theme.shapes[i % len(theme.shapes)] for i in range(len(families))]
        ),
    )
    tips = tooltip(
        ("model", "model", ""), ("family", "architecture", ""), ("planted_rho", "planted \u03c1", ".2f"),
        ("where", "planted", ""), ("shown", "measured", ".3f"), ("shown_low", "interval from", ".3f"),
        ("shown_high", "to", ".3f"), ("n", "pictures", ","),
    )  # fmt: skip
    ideal = base.mark_rule(stroke=theme.light["faint"], strokeDash=[3, 3], aria=False).encode(
        y=alt.Y("mean(ideal):Q", title=None)
    )
    whisker = base.mark_rule(strokeWidth=1.5).encode(
        x=x,
        y=alt.Y(
            "bar_low:Q", title=None, axis=alt.Axis(minExtent=32, tickCount=5), scale=alt.Scale(zero=False)
        ),
        y2="bar_high:Q",
        color=colour,
        opacity=seen,
    )
    dots = base.mark_point(size=64, strokeWidth=1.6, filled=False).encode(
        x=x,
        y=alt.Y("shown:Q", title=None),
        shape=shape,
        stroke=colour,
        fill=alt.Fill("family:N", scale=colours),
        fillOpacity=alt.condition("datum.where === 'everywhere'", alt.value(0.85), alt.value(0)),
        opacity=seen,
        tooltip=tips,
    )
    return named(alt.layer(ideal, whisker, dots).properties(width=246, height=170))


def local_views(theme: Theme, *, label_width: int) -> dict[str, Any]:
    """Return one model's views as dots on the band of random subsets, with a rule at the global value."""
    base = alt.Chart(alt.NamedData("rows"))
    c = theme.light
    y = alt.Y(
        "view:N",
        title=None,
        axis=alt.Axis(
            minExtent=label_width,
            maxExtent=label_width,
            labelLimit=label_width,
            labelExpr=shortened(label_width // 6),
            grid=False,
        ),
    )
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    outside = "datum.finding === 'outside'"
    # Every model's panel spans the range of all models, so that panels can be compared by eye.
    extent = base.mark_rule(opacity=0, aria=False).encode(x=alt.X("span_low:Q", title=None), x2="span_high:Q")
    band = base.mark_bar(height=9, fill=c["band"], cornerRadius=2).encode(x="q_low:Q", x2="q_high:Q", y=y)
    rule = base.mark_rule(stroke=c["ink"], strokeWidth=1.2, aria=False).encode(x="mean(global_value):Q")
    whisker = base.mark_rule(stroke=c["muted"], strokeWidth=1).encode(x="ci_low:Q", x2="ci_high:Q", y=y)
    dot = base.mark_point(size=46, strokeWidth=1.5, filled=True).encode(
        x=x,
        y=y,
        shape=alt.condition(outside, alt.value("diamond"), alt.value("circle")),
        fill=alt.condition(outside, alt.value(c["s2"]), alt.value(c["card"])),
        stroke=alt.condition(outside, alt.value(c["s2"]), alt.value(c["muted"])),
        size=alt.condition(outside, alt.value(76), alt.value(38)),
        tooltip=tooltip(
            ("view", "view", ""), ("value", "local", ".3f"), ("ci_low", "interval from", ".3f"), ("ci_high", "to", ".3f"),
            ("q_low", "random subsets from", ".3f"), ("q_high", "to", ".3f"), ("global_value", "global", ".3f"),
            ("size", "pictures", ","), ("finding", "finding", ""),
        ),
    )  # fmt: skip
    layers = alt.layer(extent, band, rule, whisker, dot)
    return named(layers.properties(width=300 - label_width, height=alt.Step(17)))


def forest(theme: Theme, *, label_width: int = 128) -> dict[str, Any]:
    """Return the models as dots with intervals, the strongest on top, and a rule at the ideal."""
    base = alt.Chart(alt.NamedData("rows"))
    c = theme.light
    y = alt.Y(
        "model:N",
        title=None,
        sort=alt.EncodingSortField(field="distance", op="max", order="descending"),
        axis=alt.Axis(minExtent=label_width, maxExtent=label_width, labelLimit=label_width - 8, grid=False),
    )
    seen = alt.condition("datum.on === false", alt.value(0.2), alt.value(1))
    ideal = base.mark_rule(stroke=c["faint"], strokeDash=[3, 3], aria=False).encode(
        x=alt.X("mean(ideal):Q", title=None)
    )
    line = base.mark_rule(stroke=c["s1"], strokeWidth=2).encode(
        x=alt.X("ci_low:Q", title=None, axis=alt.Axis(tickCount=5)), x2="ci_high:Q", y=y, opacity=seen
    )
    dot = base.mark_point(size=58, filled=True, fill=c["s1"], stroke=c["s1"]).encode(
        x="value:Q", y=y, opacity=seen,
        tooltip=tooltip(
            ("model", "model", ""), ("value", "measured", ".3f"), ("ci_low", "interval from", ".3f"),
            ("ci_high", "to", ".3f"), ("worst", "farthest group", ""), ("n", "pictures", ","),
        ),
    )  # fmt: skip
    return named(alt.layer(ideal, line, dot).properties(width=330 - label_width, height=alt.Step(21)))
