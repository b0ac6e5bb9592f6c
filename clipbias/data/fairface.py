"""FairFace: faces with perceived age, gender and race; also the world's export in its format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.registry import reader
from clipbias.data.table import from_files

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
RACES = ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White")
GENDERS = ("Female", "Male")
_WORLD_GENDERS = ("woman", "man")
_TONES = ("1", "2", "3", "4", "5")
# Spreadsheets make dates of two age ranges: 9 March (or 3 September) of 3-9, 19 October of 10-19.
_WRITTEN_AS_DATES = {
    "3-9": r"0?9[-. ]+mar\w*|mar\w*[-. ]+0?9|0?3[-. ]+sep\w*|sep\w*[-. ]+0?3|"
    r"(?:\d{4}-)0?3-0?9.*|(?:\d{4}-)0?9-0?3.*|0?3/0?9(?:/\d+)?|0?9/0?3(?:/\d+)?",
    "10-19": r"19[-. ]+o[ck]t\w*|o[ck]t\w*[-. ]+(?:20)?19|(?:\d{4}-)10-19.*|10/19(?:/\d+)?|19/10(?:/\d+)?",
}
_DATES = {age: re.compile(pattern, re.IGNORECASE) for age, pattern in _WRITTEN_AS_DATES.items()}
_PREFIX = re.compile(r"^.*?(?=(?:train|val)/[^/]+$)")


@reader("fairface")
def read_fairface(
    csv: str | Path, images: str | Path | None, *, contexts: Sequence[str] = (), name: str | None = None
) -> ImageSet:
    """Read FairFace labels (``file,age,gender,race,service_test``) and images.

    All spellings in circulation are read as one: ``Latino_Hispanic``/``Latino Hispanic``/``Latino``, ``more
    than 70``/``70+``, paths with and without leading folders, and ages that a spreadsheet has turned into
    dates.

    Parameters
    ----------
    csv : str or Path
    images : str or Path or None
        Folder of the image files, at any of the levels in ``fairface/val/1.jpg``. None: labels only.
    contexts : sequence of str
        Further columns that views may use (``service_test`` always is when it is there).
    name : str, optional
        Default: the CSV's file name.

    Returns
    -------
    ImageSet
        Attributes: those of age, gender, race and tone that the file has, as perceived by annotators.
        Gender is ``Female``/``Male`` as published (``woman``/``man`` where the file says so, as the export
        of the world does). ``facts["notes"]`` tells what was mended.

    Raises
    ------
    DataError
        Missing file or column, no attribute, or a value that is no known label (value, row and labels named).
    """
    csv = Path(csv)
    table = read_csv(csv)
    need_columns(table, ["file", *contexts], str(csv))
    attributes = [column for column in ("age", "gender", "race", "tone") if column in table]
    if not attributes:
        need_columns(table, ["gender"], str(csv))
    notes: list[str] = []
    if "age" in table:
        table["age"], mended = _ages(table["age"])
        if mended:
            notes.append(
                f"{mended} ages were written as dates by a spreadsheet (9-Mar, 19-Oct) "
                "and were read as 3-9 and 10-19."
            )
    if "race" in table:
        table["race"] = table["race"].map(_race)
    allowed: dict[str, tuple[str, ...]] = {"age": AGES, "race": RACES, "tone": _TONES}
    if "gender" in table:
        allowed["gender"] = _gender_levels(table["gender"])
        table["gender"] = table["gender"].map(lambda value: _gender(value, allowed["gender"]))
    for column in attributes:
        table[column] = categorical(table[column], levels=allowed[column], where=f"{csv}, column {column!r}")
    if "service_test" in table:
        table["service_test"] = table["service_test"].str.strip().str.capitalize()
        contexts = [*contexts, *({"service_test"} - set(contexts))]
    table = label_columns(table, contexts, levels=None, where=str(csv))
    ids = table["image_id"] if "image_id" in table else table["file"].str.replace(_PREFIX, "", regex=True)
    table = table.assign(image_id=ids, path=table["file"]).drop(columns="file")
    return from_files(
        table, images, name=name or csv.stem, attributes=attributes, contexts=contexts,
        licence="CC-BY-4.0 (FairFace; labels are perceived)", source="Karkkainen and Joo 2021, FairFace",
        facts={"notes": tuple(notes)},
    )  # fmt: skip


def _ages(values: pd.Series) -> tuple[pd.Series, int]:
    """Return ages in the published spelling and how many had become dates."""
    text = values.str.strip().str.replace("\N{EN DASH}", "-")
    old = text.str.casefold().str.replace(" ", "").isin(["morethan70", "70+", ">70", "70ormore"])
    text = text.mask(old, "70+")
    mended = 0
    for age, pattern in _DATES.items():
        dated = text.str.fullmatch(pattern) & (text != age)
        text = text.mask(dated, age)
        mended += int(dated.sum())
    return text, mended


def _race(value: str) -> str:
    key = re.sub(r"[\s_/-]+", " ", value).strip().casefold()
    other = {
        "latino": "latino hispanic",
        "hispanic": "latino hispanic",
        "south east asian": "southeast asian",
    }
    known = {re.sub("_", " ", race).casefold(): race for race in RACES}
    return known.get(other.get(key, key), value)


def _gender_levels(values: pd.Series) -> tuple[str, ...]:
    return _WORLD_GENDERS if values.str.strip().str.casefold().isin(_WORLD_GENDERS).all() else GENDERS


def _gender(value: str, levels: tuple[str, ...]) -> str:
    words = {"f": 0, "female": 0, "woman": 0, "m": 1, "male": 1, "man": 1}
    which = words.get(value.strip().casefold())
    return value if which is None else levels[which]
