"""From tables to the report's content: sections, their texts, and the answers of the first screen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from clipbias.errors import DataError, nearest
from clipbias.reports import markup, words
from clipbias.reports.blocks import Body, Cell, Column, Content, Row, Table
from clipbias.reports.cited import Cited
from clipbias.reports.markup import SectionFile
from clipbias.reports.sections import Answer, Context, builder
from clipbias.reports.shared import Shared
from clipbias.reports.tables import Tables
from clipbias.reports.theme import Theme

FILTERS = (
    ("model", "Model"), ("image_set", "Image set"), ("attribute", "Attribute"), ("view", "View"), ("metric", "Metric"),
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A section: its file, the facts for its texts, the texts as HTML, and its blocks."""

    file: SectionFile
    facts: dict[str, Any]
    text: Markup
    notes: Markup
    blocks: tuple[Any, ...]

    @property
    def id(self) -> str:
        """Its anchor."""
        return self.file.id

    @property
    def title(self) -> str:
        """Its heading."""
        return self.file.title

    @property
    def nav(self) -> str:
        """Its name in the list of sections."""
        return self.file.nav or self.file.title


@dataclass(frozen=True)
class Report:
    """All that a report says, before it is written in a format."""

    context: Context
    env: jinja2.Environment
    sections: list[Section]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What the first screen answers, in its order."""
        return self.context.answers

    def label(self, key: str, value: str) -> str:
        """Return how a value of a filter is called."""
        if key == "metric":
            return self.context.title(value)
        return self.context.theme.attribute(value) if key == "attribute" else value

    def names(self) -> list[str]:
        """Return every name that comes from the data (models, views, sets, metrics, groups), longest first."""
        tables, found = self.context.tables, set()
        for frame in tables.frames.values():
            for column in ("model", "view", "image_set", "metric", "group", "probe", "layer", "study"):
                found |= set(frame[column].astype(str)) if column in frame else set()
        found |= {self.context.title(m) for m in found} | {self.context.theme.attribute(a) for a in found}
        return sorted(found - {""}, key=lambda n: (-len(n), n))


def assemble(tables: Tables) -> Report:
    """Return the content of a report.

    Raises
    ------
    DataError
        A file in ``reports/`` that does not parse.
    """
    env = markup.environment()
    context = Context(tables, Theme.load(), Shared())
    return Report(context, env, _sections(context, env))


def only(tables: Tables, models: list[str]) -> Tables:
    """Return the tables with the rows of the named models (tables without a model column stay whole).

    Raises
    ------
    DataError
        A model is not in the run.
    """
    known = set(tables["intrinsic"]["model"]) | set(tables["models"]["model"])
    for name in models:
        if name not in known:
            raise DataError(f"This run has no model {name!r}.{nearest(name, known)}")
    wanted = {*models, ""}
    frames = dict(tables.frames)
    for name, frame in frames.items():
        for column in ("model", "model_a", "model_b"):
            if column in frame:
                frame = frame[frame[column].isin(wanted)]
        frames[name] = frame
    return Tables(frames, tables.manifest, tuple(models))


def _sections(context: Context, env: jinja2.Environment) -> list[Section]:
    """Build the sections; those that gather the others' answers are built last and shown in their place."""
    files = markup.sections()
    built: dict[str, Section] = {}
    answers: list[tuple[float, Answer]] = []
    for file in sorted(files, key=lambda f: f.gathers):
        context.options, context.answers = (
            file.options,
            tuple(a for _, a in sorted(answers, key=lambda p: p[0])),
        )
        parts = _contents(context, file)
        if parts is None:
            if file.absent:
                built[file.id] = _section(file, Content(), env, text=file.absent)
            continue
        built[file.id] = _section(file, parts, env, text=file.text)
        if file.question and file.answer:
            proofs: list[Cited] = []
            html = markup.rendered(
                file.answer, parts.facts, env=env, where=str(file.path), inline=True, trail=proofs
            )
            if html.strip():
                place = file.options.get("answer_order", file.order)
                answers.append((place, Answer(file.question, html, file.id, tuple(proofs))))
    return [built[f.id] for f in files if f.id in built]


def _contents(context: Context, file: SectionFile) -> Content | None:
    if not all(context.tables.has(name) for name in file.needs):
        return None
    parts: Content | None = Content()
    if file.builder:
        parts = builder(file.builder)(context)
    if parts is None:
        return None
    declared = [_declared(context, file, t, i) for i, t in enumerate(file.tables)]
    return replace(parts, blocks=(*parts.blocks, *(d for d in declared if d)))


def _section(file: SectionFile, parts: Content, env: jinja2.Environment, *, text: str) -> Section:
    def html(source: str) -> Markup:
        return markup.rendered(source, parts.facts, env=env, where=str(file.path)) if source else Markup()

    notes = html(file.notes) if text is file.text else Markup()
    return Section(file, parts.facts, html(text), notes, parts.blocks)


def _declared(context: Context, file: SectionFile, spec: dict[str, Any], place: int) -> Table | None:
    """Return a table that a section file declares by itself: ``[[tables]] table=, caption=, columns=, max_rows=``."""
    name = spec.get("table", "")
    if not context.tables.has(name):
        return None
    frame = context.tables[name]
    columns = list(spec.get("columns", frame.columns))
    for column in columns:
        if column not in frame:
            raise DataError(
                f"{file.path}: table {name!r} has no column {column!r}.{nearest(column, frame.columns)}"
            )
    context.shared.add(name, frame)
    limit = int(spec.get("max_rows", 200))
    numeric = {c for c in columns if pd.api.types.is_numeric_dtype(frame[c])}
    decimals = {c: words.decimals_for(frame[c].dropna().astype(float)) for c in numeric}
    rows = []
    for record in frame.head(limit).to_dict("records"):
        cells = tuple(_plain_cell(record[c], decimals.get(c)) for c in columns)
        rows.append(Row(cells, {k: str(record[k]) for k, _ in FILTERS if k in record and record[k]}))
    return Table(
        id=f"{file.id}-{place}", caption=spec.get("caption", words.capital(name.replace("_", " "))),
        columns=tuple(Column(words.capital(c.replace("_", " ")), kind="number" if c in numeric else "text") for c in columns),
        bodies=(Body(tuple(rows)),), source=name, tall=True,
        notes=(f"{limit} of {len(frame):,} rows are shown; the CSV holds all.",) if len(frame) > limit else (),
    )  # fmt: skip


def _plain_cell(value: Any, decimals: int | None) -> Cell:
    if value is None or pd.isna(value):
        return Cell(words.DASH)
    if decimals is None or isinstance(value, str):
        return Cell(str(value))
    return Cell(words.number(float(value), 0 if float(value).is_integer() else decimals))
