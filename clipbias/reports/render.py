"""Tables in, one self-contained HTML page out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

import clipbias
from clipbias import content
from clipbias.reports import charts
from clipbias.reports.assemble import FILTERS, Report, assemble, only
from clipbias.reports.blocks import Grid, Pictures, Words
from clipbias.reports.cited import PREFACE
from clipbias.reports.files import write
from clipbias.reports.shared import escaped_json
from clipbias.reports.tables import Tables, read


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
    report = assembled(run_folder_or_tables, models=models)
    return write(page_of(report, title=title), out_path)


def assembled(run_folder_or_tables: Any, *, models: list[str] | None = None) -> Report:
    """Return the content of a report, to be written in one or several formats; see `render` for the parameters."""
    tables = read(run_folder_or_tables)
    return assemble(only(tables, models) if models else tables)


def build(tables: Tables, *, title: str) -> str:
    """Return the page as text; the same tables and content give the same text."""
    return page_of(assemble(tables), title=title)


def page_of(report: Report, *, title: str) -> str:
    """Return a report as one HTML page."""
    context, env = report.context, report.env
    shared = context.shared
    env.globals |= {"preface": PREFACE, "label_of": report.label}
    blocks = [b for s in report.sections for b in s.blocks]
    drawn = any(isinstance(b, Grid) and b.figures for b in blocks)
    data = {"data": shared.packed(), "specs": shared.specs, "config": context.theme.config()}
    return env.get_template("page.html.j2").render(
        title=title,
        kicker=_kicker(context.tables),
        version=clipbias.__version__,
        sections=report.sections,
        filters=_filters(report),
        offensive=_covers(blocks),
        theme_css=Markup(context.theme.css()),
        style=Markup(_file("style.css")),
        script=Markup(_file("page.js")),
        bundle=Markup(charts.bundle()) if drawn else "",
        page_data=Markup(escaped_json(data)),
    )


def _filters(report: Report) -> list[dict[str, Any]]:
    """Return the filters that have something to choose between."""
    context = report.context
    rows = pd.concat([context.tables["intrinsic"], context.tables["extrinsic"]], ignore_index=True)
    if rows.empty:
        return []
    views = (
        set(context.local()["view"])
        if context.tables.has("views") and context.tables.has("intrinsic")
        else set()
    )
    order = {
        "metric": context.metrics(rows),
        "attribute": context.attributes(rows),
        "image_set": context.image_sets(rows),
        "view": sorted(views),
        "model": sorted(set(rows["model"])),
    }
    return [
        {"key": key, "label": label, "options": [(v, report.label(key, v)) for v in order[key] if v]}
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
