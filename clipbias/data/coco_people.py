"""COCO with crowd-sourced gender and skin tone (Zhao, Wang, Russakovsky 2021): labels of images or of people."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clipbias.data.assemble import add_captions, numbered_images, read_json
from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import categorical, label_columns, need_columns, read_csv
from clipbias.data.registry import reader
from clipbias.data.table import from_files
from clipbias.errors import DataError

GENDERS = ("Female", "Male", "Both")
SKINS = ("Light", "Dark", "Both")
_FITZPATRICK = {str(tone): "Light" if tone <= 3 else "Dark" for tone in range(1, 7)}
_NO_LABEL = ("", "unsure", "unknown", "na", "nan", "none")


@reader("coco-people")
def read_coco_people(
    csv: str | Path, images: str | Path | None, *, captions: str | Path | None = None, name: str | None = None
) -> ImageSet:
    """Read ``images_val2014.csv`` (``id,bb_gender,bb_skin,split``) and the COCO images it names.

    Parameters
    ----------
    csv : str or Path
    images : str or Path or None
        Folder of the COCO images, known by the last number in their names. None: labels only.
    captions : str or Path, optional
        A COCO captions file; images without a caption are then left out.
    name : str, optional

    Returns
    -------
    ImageSet
        Attributes ``gender`` (Female, Male, Both) and ``skin`` (Light: Fitzpatrick 1 to 3, Dark: 4 to 6, Both) of the
        people in the image, as perceived by crowd workers; "Unsure" is ``"unknown"``, never one of the two.
        ``split`` and other columns with few values are contexts.

    Raises
    ------
    DataError
        Missing file or column, an id twice, a label that is none of those.
    """
    path = Path(csv)
    table = read_csv(path)
    need_columns(table, ["id", "bb_gender", "bb_skin"], str(path))
    table = table.drop(columns=[c for c in table if str(c) == "" or str(c).startswith("Unnamed")])
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise DataError(
            f"{path} has image {twice.iloc[0]!r} twice; this reader takes labels of images, not of people."
        )
    labels = {
        "gender": categorical(
            table["bb_gender"].str.strip().str.capitalize(), levels=GENDERS, no_label=_NO_LABEL,
            where=f"{path}, column 'bb_gender'",
        ),
        "skin": categorical(
            table["bb_skin"].str.strip().replace(_FITZPATRICK).str.capitalize(), levels=SKINS, no_label=_NO_LABEL,
            where=f"{path}, column 'bb_skin'",
        ),
    }  # fmt: skip
    contexts = ["split"] if "split" in table else []
    table = label_columns(table, contexts, levels=None, where=str(path)).assign(**labels)
    found = numbered_images(table["id"], images)
    table = table.drop(columns="id").assign(
        key=_numbers(found["key"], path), image_id=found["image_id"], path=found["path"]
    )
    left = left_out([], "")
    if captions is not None:
        said = read_json(Path(captions), ("annotations",))["annotations"]
        known = set(table["key"])
        mine = ((one["image_id"], one["caption"]) for one in said if one.get("image_id") in known)
        table, left = add_captions(table, mine, str(captions))
    return from_files(
        table.drop(columns="key"), images, name=name or path.stem, attributes=("gender", "skin"), contexts=contexts,
        left=left, licence="on request, research only (labels are perceived); images: COCO's own licences",
        source="Zhao, Wang, Russakovsky 2021; COCO 2014",
    )  # fmt: skip


def _numbers(ids: pd.Series, path: Path) -> list[int]:
    text = ids.astype(str)
    wrong = ~text.str.fullmatch(r"\d+(\.0)?")
    if wrong.any():
        raise DataError(f"{path}: id {text[wrong].iloc[0]!r} is no COCO image number.")
    return text.str.removesuffix(".0").astype(int).tolist()
