"""Chart forms of what came after adaptation: clouds of models, lines over a dose, matrices, changes per layer.

Each reads the columns it names from ``rows``; ``on`` is false for marks that stand back while one model is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from clipbias.reports.charts import named, tooltip
from clipbias.reports.theme import Theme

# Not in the theme: these lie on coloured cells, which are the same in light and dark.
_ON_PALE, _ON_DEEP = "#111418", "#fdfdfd"


def _series(theme: Theme, names: Sequence[str]) -> tuple[alt.Scale, alt.Scale]:
    colours = [theme.series[i % len(theme.series)] for i in range(len(names))]
    shapes = [theme.shapes[i % len(theme.shapes)] for i in range(len(names))]
    return alt.Scale(domain=list(names), range=colours), alt.Scale(domain=list(names), range=shapes)


def cloud(
    theme: Theme, *, x: str, y: str, groups: Sequence[str], group: str = "family", labels: str = ""
) -> dict[str, Any]:
    """Return points with intervals both ways (``x, x_low, x_high, value, low, high``); filled where ``solid`` is true.

    ``labels`` is the column of what is written beside a mark, to its left where ``right`` is true.
    """
    base = alt.Chart(alt.NamedData("rows"))
    colours, shapes = _series(theme, groups)
    seen = alt.condition("datum.on === false", alt.value(0.15), alt.value(1))
    colour = alt.Color(f"{group}:N", scale=colours)
    across = alt.X(
        "x_low:Q",
        title=x,
        scale=alt.Scale(zero=False, padding=10),
        axis=alt.Axis(tickCount=5, grid=False, labelFlush=False),
    )
    up = alt.Y(
        "low:Q", title=None, scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(minExtent=32, tickCount=5)
    )
    horizontal = base.mark_rule(strokeWidth=1.2).encode(
        x=across, x2="x_high:Q", y=alt.Y("value:Q", title=None), color=colour, opacity=seen
    )
    vertical = base.mark_rule(strokeWidth=1.2).encode(
        x=alt.X("x:Q", title=x), y=up, y2="high:Q", color=colour, opacity=seen
    )
    tips = tooltip(
        ("model", "model", ""), (group, group, ""), ("label", "system", ""), ("x", x, ".3f"), ("x_low", "from", ".3f"),
        ("x_high", "to", ".3f"), ("value", y, ".3f"), ("low", "interval from", ".3f"), ("high", "to", ".3f"), ("n", "n", ","),
        ("state", "", ""),
    )  # fmt: skip
    dots = base.mark_point(size=64, strokeWidth=1.6, filled=False).encode(
        x="x:Q", y=alt.Y("value:Q", title=None), shape=alt.Shape(f"{group}:N", scale=shapes), stroke=colour,
        fill=alt.Fill(f"{group}:N", scale=colours), opacity=seen,
        fillOpacity=alt.condition("datum.solid === false", alt.value(0), alt.value(0.85)), tooltip=tips,
    )  # fmt: skip
    layers = [horizontal, vertical, dots]
    if labels:
        # Towards the middle and at most half as wide as the chart, so that no name leaves it.
        sides: tuple[tuple[Literal["left", "right"], int, str], ...] = (
            ("left", 7, "!datum.right"),
            ("right", -7, "datum.right"),
        )
        for side, dx, where in sides:
            text = base.mark_text(align=side, dx=dx, dy=-6, limit=115, fontSize=9, fill=theme.light["muted"])
            layers.append(
                text.encode(
                    x="x:Q", y=alt.Y("value:Q", title=None), text=f"{labels}:N", opacity=seen
                ).transform_filter(where)
            )
    return named(alt.layer(*layers).properties(width=246, height=200))


def lines(
    theme: Theme, *, x: str, y: str, groups: Sequence[str], log: bool = False, zero: bool = True
) -> dict[str, Any]:
    """Return one line per ``series`` in the order of ``place``, with intervals (``x, value, low, high``).

    ``zero`` draws a line there, for what is fair at zero.
    """
    base = alt.Chart(alt.NamedData("rows"))
    colours, shapes = _series(theme, groups)
    seen = alt.condition("datum.on === false", alt.value(0.15), alt.value(1))
    scale = alt.Scale(type="log", base=2) if log else alt.Scale(zero=False, padding=10)
    across = alt.X("x:Q", title=x, scale=scale, axis=alt.Axis(tickCount=5, grid=False, labelFlush=False))
    colour = alt.Color("series:N", scale=colours)
    fair = base.mark_rule(stroke=theme.light["faint"], strokeDash=[3, 3], aria=False).encode(y=alt.datum(0))
    line = base.mark_line(strokeWidth=1.8).encode(
        x=across, y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)), color=colour,
        detail=alt.Detail(["series:N", "model:N"]), order="place:Q", opacity=seen,
    )  # fmt: skip
    whisker = base.mark_rule(strokeWidth=1.2).encode(
        x=across, y=alt.Y("low:Q", title=None, axis=alt.Axis(minExtent=32, tickCount=5)), y2="high:Q", color=colour, opacity=seen
    )  # fmt: skip
    dots = base.mark_point(size=52, filled=True).encode(
        x=across, y=alt.Y("value:Q", title=None), shape=alt.Shape("series:N", scale=shapes), color=colour, opacity=seen,
        tooltip=tooltip(
            ("model", "model", ""), ("series", "", ""), ("x", x, ".3~f"), ("value", y, ".3f"), ("low", "interval from", ".3f"),
            ("high", "to", ".3f"), ("n", "n", ","), ("label", "", ""),
        ),
    )  # fmt: skip
    layers = [*([fair] if zero else []), line, whisker, dots]
    return named(alt.layer(*layers).properties(width=246, height=190))


def matrix(
    theme: Theme,
    *,
    what: str,
    diverging: bool,
    cells: int,
    label_width: int = 120,
    largest: float = 1.0,
    n: str = "n",
    order: str | None = None,
) -> dict[str, Any]:
    """Return a matrix of ``row`` by ``column`` with the number in each cell; ``mark`` stands before it.

    ``diverging`` values lie in [-largest, largest] around 0, others in [0, largest]. ``order`` sorts rows and columns,
    which else stand as in the data: a pair without a number would move its column to where the first number is.
    """
    base = alt.Chart(alt.NamedData("rows"))
    numbers = cells <= 16
    side = max(12, min(34, 300 // max(cells, 1)))
    scale = (
        alt.Scale(scheme="purpleorange", domain=[largest, -largest]) if diverging else alt.Scale(scheme="blues", domain=[0, largest])
    )  # fmt: skip
    axis: dict[str, Any] = {"labelLimit": label_width, "grid": False, "ticks": False}
    x = alt.X("column:N", title=None, sort=order, axis=alt.Axis(labelAngle=-60, **axis))
    y = alt.Y("row:N", title=None, sort=order, axis=alt.Axis(**axis))
    seen = alt.condition("datum.on === false", alt.value(0.25), alt.value(1))
    tips = tooltip(
        ("row", "", ""), ("column", "", ""), ("value", what, ".3f"), ("low", "interval from", ".3f"), ("high", "to", ".3f"),
        ("n", n, ","), ("p", "p", ".3f"), ("detectable", "smallest detectable", ".2f"), ("state", "verdict", ""),
    )  # fmt: skip
    tiles = base.mark_rect().encode(
        x=x, y=y, fill=alt.Fill("value:Q", scale=scale), opacity=seen, tooltip=tips
    )
    layers = [tiles]
    if numbers:
        deep = f"abs(datum.value) > {0.6 * largest:.4g}"
        layers.append(
            base.transform_calculate(
                shown="(datum.mark || '') + (isValid(datum.value) ? format(datum.value, '.2f') : '')"
            )
            .mark_text(fontSize=8.5, aria=False)
            .encode(
                x=x,
                y=y,
                text="shown:N",
                opacity=seen,
                color=alt.condition(deep, alt.value(_ON_DEEP), alt.value(_ON_PALE)),
            )  # fmt: skip
        )
    return named(alt.layer(*layers).properties(width=alt.Step(side), height=alt.Step(max(14, side - 8))))


def ranks(theme: Theme, *, x: str, label_width: int = 120) -> dict[str, Any]:
    """Return correlations with intervals, one per ``row``, beside the most that each could ``reach``."""
    base = alt.Chart(alt.NamedData("rows"))
    c = theme.light
    y = alt.Y(
        "row:N", title=None, sort=None,
        axis=alt.Axis(minExtent=label_width, maxExtent=label_width, labelLimit=label_width - 8, grid=False),
    )  # fmt: skip
    across = alt.X("low:Q", title=x, scale=alt.Scale(domain=[-1, 1]), axis=alt.Axis(tickCount=5))
    zero = base.mark_rule(stroke=c["faint"], strokeDash=[3, 3], aria=False).encode(x=alt.datum(0))
    tips = tooltip(
        ("row", "view", ""), ("value", "correlation", ".3f"), ("low", "interval from", ".3f"), ("high", "to", ".3f"),
        ("reach", "could reach", ".3f"), ("models", "models", ","),
    )  # fmt: skip
    whisker = base.mark_rule(stroke=c["s1"], strokeWidth=2).encode(x=across, x2="high:Q", y=y)
    reach = base.mark_point(
        size=54, shape="triangle-up", filled=False, stroke=c["s2"], strokeWidth=1.6
    ).encode(x="reach:Q", y=y, tooltip=tips)
    dot = base.mark_point(size=58, filled=True, fill=c["s1"]).encode(x="value:Q", y=y, tooltip=tips)
    return named(
        alt.layer(zero, whisker, reach, dot).properties(width=330 - label_width, height=alt.Step(19))
    )


def changes(theme: Theme, *, x: str, bound: float, label_width: int = 120) -> dict[str, Any]:
    """Return changes with intervals, one per ``row``, beside the change of the control (``control``) and a band of ± bound."""
    base = alt.Chart(alt.NamedData("rows"))
    c = theme.light
    y = alt.Y(
        "row:N", title=None, sort=None,
        axis=alt.Axis(minExtent=label_width, maxExtent=label_width, labelLimit=label_width - 8, grid=False),
    )  # fmt: skip
    band = base.transform_calculate(least=str(-bound), most=str(bound)).mark_bar(height=15, fill=c["band"])
    band = band.encode(x=alt.X("least:Q", title=x), x2="most:Q", y=y)
    rule = base.mark_rule(stroke=c["faint"], strokeDash=[3, 3], aria=False).encode(x=alt.datum(0))
    whisker = base.mark_rule(stroke=c["s1"], strokeWidth=2).encode(
        x=alt.X("low:Q", title=x), x2="high:Q", y=y
    )
    tips = tooltip(
        ("row", "", ""), ("value", "change", ".3f"), ("low", "interval from", ".3f"), ("high", "to", ".3f"), ("p", "p", ".3f"),
        ("n", "models", ","), ("control", "untrained control", ".3f"), ("ceiling", "same model, two seeds", ".3f"), ("state", "verdict", ""),
    )  # fmt: skip
    dot = base.mark_point(size=58, filled=True, fill=c["s1"]).encode(x="value:Q", y=y, tooltip=tips)
    control = base.mark_point(size=54, shape="triangle-up", filled=False, stroke=c["s2"], strokeWidth=1.6)
    control = control.encode(x="control:Q", y=y, tooltip=tips)
    return named(
        alt.layer(band, rule, whisker, dot, control).properties(width=360 - label_width, height=alt.Step(22))
    )
