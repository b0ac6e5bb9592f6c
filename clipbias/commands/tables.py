"""A pandas table printed for a reader: as wide as the terminal, whole when stdout is a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Wide enough for every table of ours: a file has no edge to fold lines at.
_FILE_WIDTH = 400


def print_table(table: pd.DataFrame, *, title: str = "") -> None:
    """Print a table to stdout, numbers to the right, missing values as an empty cell.

    Parameters
    ----------
    table : DataFrame
        Printed without its index.
    title : str
        One line above it.
    """
    import pandas as pd
    from rich import box
    from rich.console import Console
    from rich.table import Table

    class Page(Console):
        """Leaves a closed pipe to `run_command`, like every other write; rich would end with the code of an error."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    terminal = sys.stdout.isatty()
    if title:  # not as the title of the grid, which would fold it to the width of the columns
        print(title)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in table.columns:
        numeric = pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])
        grid.add_column(
            str(name), justify="right" if numeric else "left", overflow="fold", no_wrap=not terminal
        )
    for row in table.itertuples(index=False):
        grid.add_row(*map(cell, row), end_section=False)
    Page(file=sys.stdout, width=None if terminal else _FILE_WIDTH, highlight=False, markup=False).print(grid)


def cell(value: object) -> str:
    """Return one value as it is shown: four digits, thousands apart, yes and no, nothing for missing."""
    import numpy as np
    import pandas as pd

    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        value = float(value)
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value)
