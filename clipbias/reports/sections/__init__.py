"""The section functions, one file each, registered by name.

A section is a file ``reports/sections/NAME.toml`` (order, title, texts, the tables it needs) and, unless it is
text only, one function here::

    @section("planted")
    def planted(ctx: Context) -> Content | None: ...

It returns facts for the texts and blocks to draw, or None when it has nothing to show.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from clipbias.errors import DataError, nearest
from clipbias.reports import charts, summary
from clipbias.reports.blocks import Content, Figure
from clipbias.reports.cited import Cited
from clipbias.reports.shared import Shared
from clipbias.reports.tables import Tables
from clipbias.reports.theme import Theme

Builder = Callable[["Context"], Content | None]
_BUILDERS: dict[str, Builder] = {}


@dataclass(frozen=True)
class Answer:
    """One line of the first screen: a question, its answer as HTML, the section it comes from, and what proves its numbers."""

    question: str
    html: str
    anchor: str
    proofs: tuple[Cited, ...] = ()


@dataclass
class Context:
    """All that a section function may look at."""

    tables: Tables
    theme: Theme
    shared: Shared
    options: dict[str, Any] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    cache: dict[str, pd.DataFrame] = field(default_factory=dict)

    def headline(self) -> pd.DataFrame:
        """Return ``summary.headline`` of the run, computed once per page."""
        if "headline" not in self.cache:
            self.cache["headline"] = summary.headline(self.tables)
        return self.cache["headline"]

    def local(self) -> pd.DataFrame:
        """Return ``summary.local`` of the run, computed once per page."""
        if "local" not in self.cache:
            self.cache["local"] = summary.local(self.tables)
        return self.cache["local"]

    @cached_property
    def titles(self) -> dict[str, str]:
        """The titles that metrics declare, however long."""
        metrics = self.tables["metrics"]
        return dict(zip(metrics["metric"], metrics["title"], strict=True))

    def title(self, metric: str) -> str:
        """Return a metric's short name."""
        return self.theme.metric(metric, self.titles.get(metric, ""))

    def metrics(self, frame: pd.DataFrame) -> list[str]:
        """Return the metrics of a frame, primary ones first, then as declared, then by name."""
        present = set(frame["metric"])
        order = [*self.theme.primary, *self.tables["metrics"]["metric"], *sorted(present)]
        return [m for m in dict.fromkeys(order) if m in present]

    def attributes(self, frame: pd.DataFrame) -> list[str]:
        """Return the attributes of a frame in the theme's order, then by name."""
        present = set(frame["attribute"])
        return [a for a in dict.fromkeys([*self.theme.attributes, *sorted(present)]) if a in present]

    def image_sets(self, frame: pd.DataFrame) -> list[str]:
        """Return the image sets of a frame, those with the most models first."""
        models = frame.groupby("image_set")["model"].nunique()
        return sorted(models.index, key=lambda name: (-models[name], name))

    def draw(self, spec: dict[str, Any], **what: Any) -> Figure:
        """Return a figure over the page's shared data; see `clipbias.reports.charts.draw`."""
        return charts.draw(self.shared, self.theme, spec, **what)

    def legend(self, names: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
        """Return the shape and colour of each series, in the order of the names."""
        shapes, colours = self.theme.shapes, self.theme.series
        return tuple(
            (n or "other", shapes[i % len(shapes)], colours[i % len(colours)]) for i, n in enumerate(names)
        )


def section(name: str) -> Callable[[Builder], Builder]:
    """Register a section function under the name that a section file gives as ``builder``."""

    def register(build: Builder) -> Builder:
        _BUILDERS[name] = build
        return build

    return register


def builder(name: str) -> Builder:
    """Return the section function of a name.

    Raises
    ------
    DataError
        No function of that name is registered.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if name not in _BUILDERS:
        raise DataError(f"No section function is called {name!r}." + nearest(name, _BUILDERS))
    return _BUILDERS[name]
