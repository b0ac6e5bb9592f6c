"""UTKFace: faces with age, gender and race in their file names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.fairface import AGES, GENDERS
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical
from clipbias.data.names import walk
from clipbias.data.registry import reader
from clipbias.data.table import from_files

RACES = ("White", "Black", "Asian", "Indian", "Others")
OLDEST = 116  # the range that the data set states
# age_gender_race_datetime.jpg, or .jpg.chip.jpg for the aligned faces.
_NAME = re.compile(
    r"(?:.*/)?(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_(?P<taken>\d{8,})(?:\.jpg)?(?:\.chip)?"
)
_STARTS = np.array([0, 3, 10, 20, 30, 40, 50, 60, 70])  # of the age ranges of FairFace


@reader("utkface")
def read_utkface(folder: str | Path, images: str | Path | None = None, *, name: str = "utkface") -> ImageSet:
    """Read UTKFace: labels stand in the file names, ``[age]_[gender]_[race]_[date&time].jpg``.

    Parameters
    ----------
    folder : str or Path
        Folder of the images; subfolders (``part1`` ...) are searched.
    images : optional
        Not used; all readers are called with it.
    name : str

    Returns
    -------
    ImageSet
        Attributes ``age`` (the ranges of FairFace, so that the two sets compare), ``gender`` (``Female``,
        ``Male``) and ``race``, as the data set states them; ``age_years`` is a column. Malformed names - some
        of the published files lack the race - are in ``left_out``.

    Raises
    ------
    DataError
        No such folder, or no name of that form in it.
    """
    folder = Path(folder)
    table, left = walk(folder, _NAME, "malformed name; it should be age_gender_race_datetime.jpg")
    years = table["age"].astype(int)
    too_old = years > OLDEST
    if too_old.any():
        lost = pd.DataFrame(
            {"item": table.loc[too_old, "image_id"], "reason": f"malformed name: age above {OLDEST}"}
        )
        left = pd.concat([left, lost], ignore_index=True)
        table, years = table[~too_old].reset_index(drop=True), years[~too_old].reset_index(drop=True)
    range_of = np.searchsorted(_STARTS, years.to_numpy(), side="right") - 1
    words = {
        "age": (pd.Series([AGES[i] for i in range_of], dtype=object), AGES),
        "gender": (table["gender"].map({"0": "Male", "1": "Female"}), GENDERS),
        "race": (table["race"].map(dict(zip("01234", RACES, strict=True))), RACES),
    }
    made = {k: categorical(v, levels=levels, where=f"{folder}, {k}") for k, (v, levels) in words.items()}
    return from_files(
        table.assign(**made, age_years=years), folder, name=name, attributes=("age", "gender", "race"), left=left,
        licence="non-commercial research only (UTKFace; labels are estimates)",
        source="Zhang, Song, Qi 2017, UTKFace",
    )  # fmt: skip
