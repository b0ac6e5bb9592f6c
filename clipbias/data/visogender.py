"""VisoGender: professions with an object or a second person; the data are links, and links die."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from clipbias.data.files import MISSING, left_out, no_files, read_files
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.regions import IMAGE_SUFFIXES
from clipbias.data.registry import reader
from clipbias.errors import DataError

GENDERS = ("masculine", "feminine")
# The study's own test files mix these.
_SAME = {"man": "masculine", "male": "masculine", "woman": "feminine", "female": "feminine"}
_URL = re.compile(r"url", re.IGNORECASE)


@reader("visogender")
def read_visogender(tsv: str | Path, images: str | Path | None, *, name: str | None = None) -> ImageSet:
    """Read a VisoGender annotation file (``OO_*.tsv``: person and object, ``OP_*.tsv``: two people).

    Parameters
    ----------
    tsv : str or Path
    images : str or Path or None
        Folder with one file per row, named by its IDX (``OO_1.jpg``); :func:`~clipbias.data.links.download` makes
        one. None: labels only.
    name : str, optional

    Returns
    -------
    ImageSet
        Attribute ``gender``, the perceived gender of the person at work; for two people also
        ``participant_gender`` and the context ``pair`` (``same``, ``different``). Contexts occupation, sector,
        specialisation, ``other`` (the object or the second person) and ``kind`` (``object``, ``participant``);
        ``caption`` is the neutral sentence; ``url`` is a column. ``left_out`` lists rows without a link, and
        rows without a file together with their link; ``facts["notes"]`` names links that serve several rows.

    Raises
    ------
    DataError
        Missing file or column, an unknown gender, or no picture at all.
    """
    path = Path(tsv)
    table = read_csv(path)
    other = next((column for column in ("Participant", "Object") if column in table), None)
    if other is None:
        need_columns(table, ["Object"], str(path))
    two = other == "Participant"
    url = next((str(column) for column in table if _URL.search(str(column))), "")
    if not url:
        need_columns(table, ["URL"], str(path))
    labels = ["Occupation_perceived_gender", *(["Participant_perceived_gender"] if two else [])]
    need_columns(table, ["IDX", "Sector", "Specialisation", "Occupation", *labels], str(path))
    frame = pd.DataFrame(
        {
            "image_id": table["IDX"].str.strip(), "path": table["IDX"].str.strip(), "url": table[url].str.strip(),
            "occupation": table["Occupation"].str.strip(), "sector": table["Sector"], "specialisation": table["Specialisation"],
            "other": table[other].str.strip().str.replace("_", " "), "kind": "participant" if two else "object",
        }
    )  # fmt: skip
    for new, column in zip(("gender", "participant_gender"), labels, strict=False):
        words = table[column].str.strip().str.lower()
        frame[new] = categorical(words.replace(_SAME), levels=GENDERS, where=f"{path}, column {column!r}")
    frame["caption"] = "the " + frame["occupation"] + " and their " + frame["other"]
    contexts = ["occupation", "sector", "specialisation", "other", "kind"]
    if two:
        same = frame["gender"].astype(str) == frame["participant_gender"].astype(str)
        frame["pair"] = same.map({True: "same", False: "different"})
        contexts.append("pair")
    frame = label_columns(frame, contexts, levels=None, where=str(path))
    twice = frame["url"][frame["url"].duplicated(keep=False) & (frame["url"] != "")]
    notes = [f"{count} rows share the link {link}" for link, count in twice.value_counts().items()]
    bare = frame["url"].str.upper().isin(["", "NA", "N/A"])
    left = left_out(frame.loc[bare, "image_id"].tolist(), "no link was found by the annotators")
    return _with_files(
        frame[~bare].reset_index(drop=True), images, left, name=name or path.stem, contexts=tuple(contexts),
        attributes=("gender", "participant_gender") if two else ("gender",), facts={"notes": tuple(notes)},
    )  # fmt: skip


def _with_files(
    frame: pd.DataFrame, images: str | Path | None, left: pd.DataFrame, *, name: str, contexts: tuple[str, ...],
    attributes: tuple[str, ...], facts: Mapping[str, Any],
) -> ImageSet:  # fmt: skip
    read = no_files(name)
    if images is not None:
        folder = Path(images)
        if not folder.is_dir():
            raise DataError(f"the image folder {folder} does not exist.")
        files = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
        there = frame["image_id"].isin(files)
        if not there.any():
            raise DataError(
                f"{folder} holds no picture named by an IDX such as {frame['image_id'].iloc[0]}.jpg. "
                "clipbias.data.links.download(image_set, folder) fetches them from their links."
            )
        gone = frame[~there]
        reasons = [f"{MISSING} (in {folder}); dead link? {link}" for link in gone["url"]]
        left = pd.concat([left, left_out(gone["image_id"].tolist(), reasons)], ignore_index=True)
        frame = frame[there].reset_index(drop=True)
        frame["path"] = [files[i].name for i in frame["image_id"]]
        read = read_files([files[i] for i in frame["image_id"]])
    return ImageSet(
        name, frame, attributes, read, contexts, left_out=left,
        licence="CC-BY-4.0, benchmarking only (VisoGender; labels are perceived)", source="Hall et al. 2023, VisoGender",
        facts=facts,
    )  # fmt: skip
