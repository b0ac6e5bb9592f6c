"""Tables in, one self-contained HTML page out."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

import clipbias
from clipbias import content
from clipbias.errors import DataError
from clipbias.reports import charts, markup, words
from clipbias.reports.blocks import Body, Cell, Column, Content, Grid, Pictures, Row, Table, Words
from clipbias.reports.markup import SectionFile
from clipbias.reports.sections import Answer, Context, builder
from clipbias.reports.shared import Shared, escaped_json
from clipbias.reports.tables import Tables, read
from clipbias.reports.theme import Theme

FILTERS = (
    ("model", "Model"), ("image_set", "Image set"), ("attribute", "Attribute"), ("view", "View"), ("metric", "Metric"),
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A section ready for the page."""

    id: str
    title: str
    nav: str
    text: Markup
    notes: Markup
    blocks: tuple[Any, ...]


def render(
    run_folder_or_tables: Any,
    out_path: str | Path,
    *,
    title: str = "Bias report",
    models: list[str] | None = None,
) -> Path:
    """Write the report of a run as one HTML file that needs no network.

    Parameters
    ----------
    run_folder_or_tables : RunFolder, path or mapping of str to DataFrame
        Every table may be missing; its sections then do not appear.
    out_path : str or Path
        The file to write. It is written whole or not at all.
    title : str
        The page's heading.
    models : list of str, optional
        Only these models; all when left out.

    Returns
    -------
    Path
        ``out_path``.

    Raises
    ------
    DataError
        No such run folder, no results in it, or a file in ``reports/`` that does not parse.
    """
    tables = read(run_folder_or_tables)
    if models:
        tables = only(tables, models)
    page = build(tables, title=title)
    out = Path(out_path)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(page)
        os.chmod(part, 0o644)
        os.replace(part, out)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return out


def only(tables: Tables, models: list[str]) -> Tables:
    """Return the tables with the rows of the named models (tables without a model column stay whole).

    Raises
    ------
    DataError
        A model is not in the run.
    """
    from clipbias.errors import nearest

    known = set(tables["intrinsic"]["model"]) | set(tables["models"]["model"])
    for name in models:
        if name not in known:
            raise DataError(f"This run has no model {name!r}.{nearest(name, known)}")
    wanted = {*models, ""}
    frames = {n: f[f["model"].isin(wanted)] if "model" in f else f for n, f in tables.frames.items()}
    return Tables(frames, tables.manifest)


def build(tables: Tables, *, title: str) -> str:
    """Return the page as text; the same tables and content give the same text."""
    theme, shared, env = Theme.load(), Shared(), markup.environment()
    context = Context(tables, theme, shared)
    sections = _sections(context, env)
    env.globals["label_of"] = lambda key, value: _label(context, key, value)
    blocks = [b for s in sections for b in s.blocks]
    drawn = any(isinstance(b, Grid) and b.figures for b in blocks)
    page = env.get_template("page.html.j2").render(
        title=title,
        kicker=_kicker(tables),
        version=clipbias.__version__,
        sections=sections,
        filters=_filters(context),
        offensive=_covers(blocks),
        theme_css=Markup(theme.css()),
        style=Markup(_file("style.css")),
        script=Markup(_file("page.js")),
        bundle=Markup(charts.bundle()) if drawn else "",
        page_data=Markup(
            escaped_json({"data": shared.packed(), "specs": shared.specs, "config": theme.config()})
        ),
    )
    return page


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
            html = markup.rendered(file.answer, parts.facts, env=env, where=str(file.path), inline=True)
            if html.strip():
                answers.append(
                    (file.options.get("answer_order", file.order), Answer(file.question, html, file.id))
                )
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
    return Section(file.id, file.title, file.nav or file.title, html(text), notes, parts.blocks)


def _declared(context: Context, file: SectionFile, spec: dict[str, Any], place: int) -> Table | None:
    """Return a table that a section file declares by itself: ``[[tables]] table=, caption=, columns=, max_rows=``."""
    name = spec.get("table", "")
    if not context.tables.has(name):
        return None
    frame = context.tables[name]
    columns = list(spec.get("columns", frame.columns))
    for column in columns:
        if column not in frame:
            from clipbias.errors import nearest

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


def _label(context: Context, key: str, value: str) -> str:
    if key == "metric":
        return context.title(value)
    return context.theme.attribute(value) if key == "attribute" else value


def _filters(context: Context) -> list[dict[str, Any]]:
    """Return the filters that have something to choose between."""
    rows = context.tables["intrinsic"]
    if rows.empty:
        return []
    order = {
        "metric": context.metrics(rows),
        "attribute": context.attributes(rows),
        "image_set": context.image_sets(rows),
        "view": sorted(set(context.local()["view"])) if context.tables.has("views") else [],
        "model": sorted(set(rows["model"])),
    }
    return [
        {"key": key, "label": label, "options": [(v, _label(context, key, v)) for v in order[key] if v]}
        for key, label in FILTERS
        if len([v for v in order[key] if v]) > 1
    ]


def _covers(blocks: list[Any]) -> bool:
    for block in blocks:
        if isinstance(block, Words) and block.offensive:
            return True
        if isinstance(block, Pictures) and any(r["offensive"] for r in block.rows):
            return True
    return False


def _kicker(tables: Tables) -> str:
    made = str(tables.manifest.get("started", ""))[:10]
    return " \u00b7 ".join(p for p in ("clipbias", made) if p)


def _file(name: str) -> str:
    return content.find("reports", name).read_text(encoding="utf-8")
