"""Labels in file and folder names: a pattern says which part of a path is what."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import label_columns
from clipbias.data.regions import IMAGE_SUFFIXES
from clipbias.data.registry import reader
from clipbias.data.table import from_files
from clipbias.errors import DataError, nearest


@reader("names")
def read_names(
    folder: str | Path,
    images: str | Path | None = None,
    *,
    pattern: str,
    attributes: Sequence[str],
    contexts: Sequence[str] = (),
    levels: Mapping[str, Sequence[str]] | None = None,
    name: str | None = None,
    licence: str = "not stated",
    source: str = "",
) -> ImageSet:
    """Read a folder of images whose labels stand in their names.

    Parameters
    ----------
    folder : str or Path
        Searched with all its subfolders.
    images : optional
        Not used; all readers are called with it.
    pattern : str
        Path below ``folder`` without its ending, fields in braces, for example
        ``"{section}/{scenario}/{skin}_{gender}"``. A field holds neither "/" nor, if it is followed by another
        character in the pattern, that character. ``*`` stands for anything but "/".
    attributes, contexts : sequence of str
        Fields of the pattern.
    levels : mapping of field to levels, optional
    name, licence, source : str

    Returns
    -------
    ImageSet
        ``image_id`` is the path below ``folder``. Files that are no images or do not fit the pattern are in
        ``left_out``.

    Raises
    ------
    DataError
        No such folder, a field that the pattern lacks, a wrong level, or no file that fits.
    """
    folder = Path(folder)
    fields, expression = compile_pattern(pattern)
    for field in (*attributes, *contexts):
        if field not in fields:
            raise DataError(f"the pattern {pattern!r} has no field {field!r}." + nearest(field, fields))
    table, left = walk(folder, expression, f"its name does not fit {pattern!r}")
    table = label_columns(table, [*attributes, *contexts], levels=levels, where=str(folder))
    return from_files(
        table, folder, name=name or folder.name, attributes=attributes, contexts=contexts, left=left,
        licence=licence, source=source,
    )  # fmt: skip


def compile_pattern(pattern: str) -> tuple[list[str], re.Pattern[str]]:
    """Return the fields of a pattern and the expression that a path without its ending must fit.

    Raises
    ------
    DataError
        The pattern has no field, one twice, or cannot be read.
    """
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise DataError(f"the pattern {pattern!r} cannot be read: {error}.") from error
    fields = [field for _, field, _, _ in parts if field is not None]
    wrong = next((field for field in fields if not field.isidentifier()), None)
    if not fields or wrong is not None or len(set(fields)) < len(fields):
        raise DataError(
            f"the pattern {pattern!r} needs named fields in braces, each once, such as {{gender}}."
        )
    out = ""
    for position, (text, field, _, _) in enumerate(parts):
        out += re.escape(text).replace(r"\*", "[^/]*")
        if field is not None:
            after = parts[position + 1][0][:1] if position + 1 < len(parts) else ""
            stop = re.escape(after) if after and after != "*" else ""
            out += f"(?P<{field}>[^/{stop}]+)"
    return fields, re.compile(out)


def walk(folder: Path, expression: re.Pattern[str], reason: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images below a folder with the fields of their names, and what was left out.

    Parameters
    ----------
    folder : Path
    expression : re.Pattern
        Matched against the whole path below the folder, without its ending.
    reason : str
        Why a name that does not match is left out.

    Returns
    -------
    table : pandas.DataFrame
        ``image_id, path`` and one column per named group.
    left : pandas.DataFrame
        ``item, reason``.

    Raises
    ------
    DataError
        The folder does not exist, or nothing in it matches.
    """
    if not folder.is_dir():
        raise DataError(f"the image folder {folder} does not exist.")
    rows: list[dict[str, str]] = []
    misfits: list[str] = []
    others: list[str] = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if not path.is_file():
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES or any(
            p.startswith((".", "__MACOSX")) for p in place.parts
        ):
            others.append(place.as_posix())
            continue
        found = expression.fullmatch(place.with_suffix("").as_posix())
        if found is None:
            misfits.append(place.as_posix())
        else:
            rows.append({"image_id": place.as_posix(), "path": place.as_posix(), **found.groupdict()})
    if not rows:
        example = f", for example {misfits[0]}" if misfits else ""
        raise DataError(f"no image of {folder} can be used: {reason} ({len(misfits)} files{example}).")
    left = pd.concat([left_out(misfits, reason), left_out(others, "not an image file")], ignore_index=True)
    return pd.DataFrame(rows), left
