"""``clipbias models``: every model that can be named, and which weights are on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipbias.commands.common import command_parser, run_command

if TYPE_CHECKING:
    import pandas as pd

# What fits a terminal; --csv and --json hold every column.
_SHOWN = (
    "spec",
    "family",
    "parameters",
    "image_size",
    "pretraining_data",
    "imagenet",
    "planted_rho",
    "local",
)


def main(argv: Sequence[str] | None = None) -> int:
    """List the models; see ``clipbias models --help``."""
    parser = command_parser(
        "models",
        "List the shipped zoo and every open_clip model with what is known of it.",
        examples=["clipbias models", "clipbias models --local", "clipbias models --csv > models.csv"],
    )
    parser.add_argument("--local", action="store_true", help="only models whose weights are on this machine")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print JSON, one object for each model, every column"
    )
    form.add_argument("--csv", action="store_true", help="print CSV, every column")
    options = parser.parse_args(argv)
    return run_command(lambda: _list(options))


def _list(options: argparse.Namespace) -> int:
    from clipbias.models import list_models

    table = list_models()
    if options.local:
        table = table[table["local"].astype(bool)].reset_index(drop=True)
    if options.json:
        print(table.to_json(orient="records", indent=2))
    elif options.csv:
        table.to_csv(sys.stdout, index=False)
    else:
        _show(table)
    return 0


def _show(table: pd.DataFrame) -> None:
    """Print what fits a terminal."""
    from clipbias.commands.tables import print_table

    if table.empty:
        print("No weights are on this machine. `clipbias models` lists what can be named.")
        return
    shown = table[[name for name in _SHOWN if name in table]].dropna(axis="columns", how="all")
    print_table(shown, title=f"{len(table)} models, weights of {int(table['local'].sum())} on this machine")
