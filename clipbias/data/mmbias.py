"""MMBias: pictures of groups by religion, nationality, disability and sexual orientation, and of valence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.labels import categorical
from clipbias.data.names import walk
from clipbias.data.registry import reader
from clipbias.data.table import from_files

GROUPS = {
    "religion": ("Buddhist", "Christian", "Hindu", "Jewish", "Muslim"),
    "nationality": ("American", "Arab", "Chinese", "Mexican"),
    "disability": ("Mental Disability", "Physical Disability", "Non-Disabled"),
    "sexual_orientation": ("Heterosexual", "LGBT"),
    "valence": ("Pleasant", "Unpleasant"),
}
_KEY = re.compile(r"[^a-z]")
_PLACE = {_KEY.sub("", g.lower()): (category, g) for category, groups in GROUPS.items() for g in groups}


@reader("mmbias")
def read_mmbias(folder: str | Path, images: str | Path | None = None, *, name: str = "mmbias") -> ImageSet:
    """Read the unpacked MMBias archives: ``Images/{Religion,Nationality,...}/GROUP/*.jpg``, ``Valence Images/...``.

    Parameters
    ----------
    folder : str or Path
        ``data/Images`` of the published repository with its archives unpacked, or a folder above it. A category
        may be missing.
    images : optional
        Not used; all readers are called with it.
    name : str

    Returns
    -------
    ImageSet
        One attribute per category that is there (religion, nationality, disability, sexual_orientation); pictures of
        another category are ``"unknown"`` in it. Contexts ``category``, ``group`` and ``valence`` (``none`` for
        pictures of groups). Pictures in other folders are in ``left_out``.

    Raises
    ------
    DataError
        No such folder, or no folder of a known group in it.
    """
    folder = Path(folder)
    known = "|".join(sorted({re.escape(g) for groups in GROUPS.values() for g in groups}))
    expression = re.compile(rf"(?:.*/)?(?P<folder>{known})/[^/]+", re.IGNORECASE)
    table, left = walk(folder, expression, "its folder is no group of MMBias")
    places = [_PLACE[_KEY.sub("", found.lower())] for found in table["folder"]]
    category = np.array([place[0] for place in places], dtype=object)
    group = np.array([place[1] for place in places], dtype=object)
    present = [c for c in GROUPS if c != "valence" and (category == c).any()]
    columns = {
        c: categorical(
            _series(np.where(category == c, group, UNKNOWN)), levels=GROUPS[c], where=f"{folder}, {c}"
        )
        for c in present
    }
    valence = np.where(category == "valence", group, "none")
    contexts = {
        "category": categorical(_series(category), where=f"{folder}, category"),
        "group": categorical(_series(group), where=f"{folder}, group"),
        "valence": categorical(
            _series(valence), levels=(*GROUPS["valence"], "none"), where=f"{folder}, valence"
        ),
    }
    return from_files(
        table.drop(columns="folder").assign(**columns, **contexts), folder, name=name, attributes=present,
        contexts=tuple(contexts), left=left, licence="MIT (MMBias; photographs from Flickr under their own licences)",
        source="Janghorbani and de Melo 2023, MMBias",
    )  # fmt: skip


def _series(values: np.ndarray) -> pd.Series:
    return pd.Series(values, dtype=object)
