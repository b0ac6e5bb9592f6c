"""The rows of a run that a command is about: read, narrowed by column, and named for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.results.run import RunFolder


def result_rows(folder: RunFolder) -> pd.DataFrame:
    """Return the rows of both result tables, with the table's name in the column ``table``.

    Rows of image-blind baselines are left out: they are what models are compared with, and no model.

    Raises
    ------
    ClipbiasError
        There is no run, or a table is damaged.
    DataError
        The run has no results.
    """
    import pandas as pd

    from clipbias.results.rows import KEY
    from clipbias.results.run import RESULT_TABLES

    _ = folder.manifest
    parts = [folder.read(name).assign(table=name) for name in RESULT_TABLES if name in folder.tables()]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEY, "value", "table"])
    rows = rows[rows["mode"].astype(str) != "blind"].reset_index(drop=True)
    if rows.empty:
        raise DataError(f"{folder.path} has no results: measure or adapt first.")
    for name in (*KEY, "status", "reason", "protocol"):
        rows[name] = rows[name].fillna("").astype(str)
    return rows


def parse_where(words: Sequence[str] | None, *, what: str = "--where") -> dict[str, str]:
    """Return columns and levels given as ``COLUMN=LEVEL``; an empty level is the empty text.

    Raises
    ------
    DataError
        No ``=``, or no such column.
    """
    from clipbias.results.rows import KEY

    found = {}
    for word in words or ():
        column, equals, level = word.partition("=")
        if not equals:
            raise DataError(f"{what} {word!r} is not COLUMN=LEVEL, for example {KEY[0]}=zoo:vit-95.")
        if column not in KEY:
            raise DataError(f"{what} {word!r}: there is no column {column!r}." + nearest(column, KEY))
        found[column] = level
    return found


def narrow(
    rows: pd.DataFrame, where: Mapping[str, str | Sequence[str]], path: Path, *, what: str = ""
) -> pd.DataFrame:
    """Return the rows that have these levels.

    Raises
    ------
    DataError
        A level that no row has, the nearest is named; or all are there, and no row has them together.
    """
    kept = rows
    for column, given in where.items():
        levels = [given] if isinstance(given, str) else list(given)
        known = set(rows[column])
        for level in levels:
            if level not in known:
                raise DataError(
                    f"{path} has no {what or column.replace('_', ' ')} {level!r}." + nearest(level, known)
                )
        kept = kept[kept[column].isin(levels)]
    if kept.empty:
        asked = ", ".join(f"{c} {v if isinstance(v, str) else ' or '.join(v)}" for c, v in where.items())
        raise DataError(f"{path} has no row with {asked} together.")
    return kept.reset_index(drop=True)


def shown(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return those columns that tell rows apart or say anything: the ones that are all empty are left out."""
    return [c for c in columns if c in frame and (frame[c].fillna("").astype(str) != "").any()]


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV or parquet, by the ending of the name.

    Raises
    ------
    DataError
        Another ending, or the file cannot be written.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: the name must end in .csv or .parquet.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            frame.to_csv(path, index=False, lineterminator="\n")
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
    return path
