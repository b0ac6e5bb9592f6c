"""The run folder: a manifest and parquet tables that every command reads and writes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

import clipbias
from clipbias.errors import ClipbiasError, nearest
from clipbias.results import rows
from clipbias.results.manifest import SCHEMA, git_commit, new_manifest, now, packages

__all__ = ["RESULT_TABLES", "SCHEMA", "RunFolder", "git_commit", "new_manifest", "now", "packages"]

RESULT_TABLES = ("intrinsic", "extrinsic")


class RunFolder:
    """One run on disk.

    Making the object touches nothing; the folder appears with the first write. Every file is written whole
    under another name and then renamed, and writers in other processes wait (a lock file), so that a reader
    never sees half a table and no write is lost.

    Parameters
    ----------
    path : str or Path

    Examples
    --------
    >>> run = RunFolder("runs/default")              # doctest: +SKIP
    >>> run.read("intrinsic").query("metric == 'max_skew'")       # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tables with their sizes."""
        from html import escape

        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            f"<td>{pq.read_metadata(self.path / f'{name}.parquet').num_rows:,} rows</td></tr>"
            for name in self.tables()
        )
        return f"<table><caption>{escape(str(self.path))}</caption><tbody>{rows}</tbody></table>"

    def exists(self) -> bool:
        """Return whether a run (a manifest) is there."""
        return (self.path / "manifest.json").is_file()

    # -- manifest ---------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict:
        """The manifest.

        Raises
        ------
        ClipbiasError
            There is no run here, the manifest is damaged, or another schema version wrote it.
        """
        path = self.path / "manifest.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            state = (
                "is empty"
                if self.path.is_dir() and not any(self.path.iterdir())
                else "holds no manifest.json"
            )
            state = state if self.path.is_dir() else "does not exist"
            raise ClipbiasError(
                f"{self.path} {state}, so there is no run to read. Make one with "
                f"`python -m clipbias.measure --out {self.path}`."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ClipbiasError(
                f"{path} is damaged ({error}). Restore it, or measure again into a new folder."
            ) from error
        schema = found.get("schema_version") if isinstance(found, dict) else None
        if schema != SCHEMA:
            by = found.get("clipbias", "an unknown version") if isinstance(found, dict) else "something else"
            raise ClipbiasError(
                f"{self.path} was written by clipbias {by} with table schema {schema}; this is clipbias "
                f"{clipbias.__version__} with schema {SCHEMA}. Measure again into a new folder (--out), "
                f"or read it with clipbias {by}."
            )
        return found

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write the manifest; see :func:`new_manifest` for what it holds.

        ``schema_version`` and ``clipbias`` are always those of this installation.
        """
        body = {**manifest, "schema_version": SCHEMA, "clipbias": clipbias.__version__}
        text = json.dumps(body, indent=2, default=_plain, allow_nan=False) + "\n"
        with self._locked():
            self._replace("manifest.json", lambda file: file.write(text.encode()))

    def update_manifest(self, **changes: object) -> dict:
        """Change some keys of the manifest, safely beside other writers; returns the new one."""
        with self._locked():
            changed = {**self.manifest, **changes}
            self.write_manifest(changed)
        return self.manifest

    # -- tables -----------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the tables that are there, sorted."""
        return sorted(path.stem for path in self.path.glob("*.parquet"))

    def read(self, table: str) -> pd.DataFrame:
        """Return a table.

        Raises
        ------
        ClipbiasError
            There is no run, no such table (the nearest is named), or its file is damaged (checksums are
            verified).
        """
        _ = self.manifest  # an older schema is told before its columns surprise
        return self._read(table)

    def write(self, table: str, frame: pd.DataFrame) -> None:
        """Write a table, replacing one of that name.

        Parameters
        ----------
        table : str
            :data:`RESULT_TABLES` must have the columns of :mod:`clipbias.results.rows`, once per key. Any
            other table with exactly these columns is held to the same.
        frame : pandas.DataFrame

        Raises
        ------
        ValueError
            A result table breaks the contract.
        """
        checked = _check(table, frame)
        with self._locked():
            self._write(table, checked)

    def merge(
        self,
        table: str,
        frame: pd.DataFrame,
        *,
        unit: Sequence[str] = ("model", "image_set"),
        order: bool = True,
    ) -> pd.DataFrame:
        """Put the rows of some units into a table: they replace all rows these units had before.

        So a unit that is done again leaves no stale row behind, units of other processes stay, and the
        table does not depend on the order in which units finish (``order=True`` sorts by the key columns).

        Parameters
        ----------
        table : str
        frame : pandas.DataFrame
        unit : sequence of str
            Columns that name a unit of work.
        order : bool
            False keeps old rows first, new rows last.

        Returns
        -------
        pandas.DataFrame
            The table as written.
        """
        unit = list(unit)
        for column in unit:
            if column not in frame:
                raise ValueError(
                    f"table {table!r} has no unit column {column!r}." + nearest(column, frame.columns)
                )
        with self._locked():
            if (self.path / f"{table}.parquet").exists():
                old = self._read(table)
                # The columns in one type, as a text and a categorical of the same value are the same unit.
                mine = pd.MultiIndex.from_frame(frame[unit].astype(object))
                theirs = pd.MultiIndex.from_frame(old[unit].astype(object))
                old = old[~theirs.isin(mine)]
                frame = pd.concat([old, frame], ignore_index=True) if len(old) else frame
            checked = _check(table, frame)
            if order:
                keys = [c for c in (rows.KEY if table in RESULT_TABLES else unit) if c in checked]
                checked = checked.sort_values(keys, kind="stable", ignore_index=True)
            self._write(table, checked)
        return checked

    # -- files ------------------------------------------------------------------------------------

    def _locked(self) -> FileLock:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", is_singleton=True)  # reentrant within a process

    def _read(self, table: str) -> pd.DataFrame:
        path = self.path / f"{table}.parquet"
        if not path.is_file():
            raise ClipbiasError(f"{self.path} has no table {table!r}." + nearest(table, self.tables()))
        try:
            return pq.read_table(path, page_checksum_verification=True).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise ClipbiasError(
                f"{path} is damaged ({str(error).splitlines()[0]}). "
                "Delete it and run the command that made it again."
            ) from error

    def _write(self, table: str, frame: pd.DataFrame) -> None:
        arrow = pa.Table.from_pandas(frame, preserve_index=False)
        self._replace(f"{table}.parquet", lambda file: pq.write_table(arrow, file, write_page_checksum=True))

    def _replace(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write a file whole under another name, then rename it."""
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep a shared run folder to its writer
            os.replace(temporary, self.path / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _check(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    if table not in RESULT_TABLES and set(frame.columns) != set(rows.COLUMNS):
        return frame.reset_index(drop=True)
    missing = [name for name in rows.COLUMNS if name not in frame]
    if missing:
        raise ValueError(
            f"result table {table!r} lacks the columns {missing}; make it with clipbias.results.rows.table"
        )
    checked = rows.table(frame.to_dict("records"))
    twice = checked[checked.duplicated(list(rows.KEY))]
    if len(twice):
        raise ValueError(
            f"result table {table!r} has {len(twice)} rows with a key seen before, "
            f"first: {twice.iloc[0].to_dict()}"
        )
    return checked


def _plain(value: object) -> object:
    """Turn what JSON does not know into what it does; anything unexpected is an error."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot go into a manifest: {value!r}")
