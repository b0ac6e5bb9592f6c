"""COCO captions, with people's perceived attributes joined from a table or written by our own export."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.assemble import (
    STANDARD_FIELDS,
    LabelOptions,
    add_captions,
    entries_table,
    finish,
    need_fields,
    read_json,
)
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError

__all__ = ["STANDARD_FIELDS", "read_coco_captions"]


@reader("coco-captions")
def read_coco_captions(
    annotations: str | Path, images: str | Path | None, **options: Unpack[LabelOptions]
) -> ImageSet:
    """Read a COCO captions JSON file and its images.

    Parameters
    ----------
    annotations : str or Path
        ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``.
    images : str or Path or None
        Folder of the files. None: captions and labels only.
    **options
        ``labels, label_id, attributes, contexts, levels, name``:
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        ``table`` has ``captions`` (list of str) and ``caption`` (the first). Images without a caption or a
        file, captions of no image and empty captions are in ``left_out``.

    Raises
    ------
    DataError
        The file is no COCO captions JSON, an id is there twice, a column is missing, or a level is wrong.
    """
    path = Path(annotations)
    body = read_json(path, ("images", "annotations"))
    table, about = entries_table(body["images"], body.get("info"), str(path))
    said = body["annotations"]
    need_fields(said, ("image_id", "caption"), path, "annotation", "a captions file")
    numbers = pd.Series([one["id"] for one in said if "id" in one], dtype=object)
    for what, ids in (("image", table["key"]), ("annotation", numbers)):
        if ids.duplicated().any():
            raise DataError(f"{path} holds {what} {ids[ids.duplicated()].iloc[0]} twice.")
    table, left = add_captions(table, ((one["image_id"], one["caption"]) for one in said), str(path))
    return finish(table, images, about, path=path, left=left, **options)
