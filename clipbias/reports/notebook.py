"""The report's charts for a notebook: returned as altair objects, not drawn."""

from __future__ import annotations

from typing import Any

import altair as alt

from clipbias.errors import DataError, nearest
from clipbias.reports.blocks import Figure, Grid
from clipbias.reports.render import assembled


def chart(run_folder_or_tables: Any, name: str = "", *, models: list[str] | None = None) -> Any:
    """Return a chart of the report, with its data, to be shown or changed further.

    Parameters
    ----------
    run_folder_or_tables : RunFolder, path or mapping of str to DataFrame
    name : str
        Name of the chart, for example ``"forest-0"``; empty for the names that there are.
    models : list of str, optional
        Only these models.

    Returns
    -------
    altair.Chart, or dict of name -> what the chart shows

    Raises
    ------
    DataError
        No such run, or no chart of that name in it.
    """
    report = assembled(run_folder_or_tables, models=models)
    figures: dict[str, Figure] = {
        figure.id: figure
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Grid)
        for figure in block.figures
    }
    if not name:
        return {key: figure.finding for key, figure in figures.items()}
    if name not in figures:
        raise DataError(f"The report of this run has no chart {name!r}." + nearest(name, figures))
    figure, shared = figures[name], report.context.shared
    spec = {
        **shared.specs[figure.spec],
        "$schema": alt.SCHEMA_URL,
        "config": report.context.theme.config(),
        "datasets": {"rows": shared.records(figure.source, figure.where | figure.default)},
        "title": figure.title,
    }
    return alt.Chart.from_dict(spec)
