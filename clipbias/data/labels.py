"""Labels: levels are explicit, unknown is a level of its own, and a wrong level is an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest

# What tables write where nobody gave a label.
NO_LABEL = ("", "unknown", "na", "n/a", "nan")


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV or parquet file with every value as text; blanks stay blank.

    Raises
    ------
    DataError
        The file is missing, empty or no such file.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).astype(object).where(lambda t: t.notna(), "").astype(str)
        separator = "\t" if path.suffix == ".tsv" else ","
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} was not found.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}). Save it as CSV UTF-8."
        ) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if table.empty:
        raise DataError(f"{path} has no rows.")
    return table.rename(columns=str.strip)


def need_columns(table: pd.DataFrame, columns: Collection[str], where: str) -> None:
    """Raise a DataError that names the first missing column and the nearest one there is."""
    for column in columns:
        if column not in table:
            raise DataError(f"{where} has no column {column!r}." + nearest(column, table.columns))


def categorical(
    values: pd.Series,
    *,
    levels: Sequence[str] | None = None,
    where: str,
    no_label: Collection[str] = NO_LABEL,
) -> pd.Categorical:
    """Turn text labels into a column with explicit levels.

    Parameters
    ----------
    values : pandas.Series of str
    levels : sequence of str, optional
        The allowed levels, in order; those that no row has stay as declared, empty levels. Default: what is
        there, sorted.
    where : str
        File and column for messages.
    no_label : collection of str
        What stands for "not labelled", compared without case: becomes the level ``"unknown"``. A declared
        level of that spelling stays a level.

    Raises
    ------
    DataError
        A value is no level: the message names value, row (1 = first row below the header) and levels.
    """
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    known = set(levels or ())
    blank = text.str.casefold().isin({word.casefold() for word in no_label}) & ~text.isin(known)
    text = text.mask(blank, UNKNOWN)
    if levels is None:
        levels = sorted(set(text) - {UNKNOWN})
    wrong = ~blank & ~text.isin(list(levels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = text.iloc[row]
        more = f" ({int(wrong.sum())} rows in all)" if wrong.sum() > 1 else ""
        raise DataError(
            f"{where}: {value!r} in row {row + 1}{more} is no allowed level." + _hint(value, levels)
            + f" Allowed: {', '.join(levels)}."
        )  # fmt: skip
    if blank.any() and UNKNOWN not in levels:
        levels = [*levels, UNKNOWN]
    made: pd.Categorical = pd.Categorical(text.astype(object), categories=list(levels))
    return made


def label_columns(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    levels: Mapping[str, Sequence[str]] | None,
    where: str,
    no_label: Collection[str] = NO_LABEL,
) -> pd.DataFrame:
    """Return the table with some columns made categorical; see :func:`categorical`."""
    levels = dict(levels or {})
    need_columns(table, columns, where)
    for column in levels:
        if column not in columns:
            raise DataError(
                f"levels are declared for {column!r}, which is no column asked for."
                + nearest(column, columns)
            )
    made = {
        column: categorical(
            table[column], levels=levels.get(column), where=f"{where}, column {column!r}", no_label=no_label
        )
        for column in columns
    }
    return table.assign(**made)


def _hint(value: str, levels: Sequence[str]) -> str:
    said = nearest(value, levels)
    return said if said.startswith(" Did") else ""
