"""Karpathy's split files: captions with their split, of COCO, Flickr30k and Flickr8k."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.assemble import LabelOptions, add_captions, finish, need_fields, read_json
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError


@reader("karpathy")
def read_karpathy(
    annotations: str | Path, images: str | Path | None, **options: Unpack[LabelOptions]
) -> ImageSet:
    """Read ``dataset_coco.json``, ``dataset_flickr30k.json`` or ``dataset_flickr8k.json``.

    Parameters
    ----------
    annotations : str or Path
        ``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}``; COCO's has ``filepath`` and ``cocoid``.
    images : str or Path or None
        Folder of the files, for COCO the one that holds ``train2014`` and ``val2014``. None: captions only.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        ``image_id`` is the COCO id, or the file's name without its ending. ``table`` has ``captions``,
        ``caption`` and ``split`` as the file says it (COCO: ``train``, ``restval``, ``val``, ``test``).

    Raises
    ------
    DataError
        The file is of another format, an id is there twice, a column is missing, or a level is wrong.
    """
    path = Path(annotations)
    entries = read_json(path, ("images",))["images"]
    need_fields(
        entries, ("filename", "split", "sentences"), path, "image entry", "one of Karpathy's split files"
    )
    if not entries:
        raise DataError(f"{path} lists no images.")
    rows, captions = [], []
    for one in entries:
        key = str(one.get("cocoid", Path(one["filename"]).stem))
        where = "/".join(filter(None, [one.get("filepath", ""), one["filename"]]))
        rows.append({"key": key, "image_id": key, "path": where, "split": str(one["split"])})
        need_fields(one["sentences"], ("raw",), path, f"sentence of image {key},", "one of Karpathy's files")
        captions += [(key, sentence["raw"]) for sentence in one["sentences"]]
    table, left = add_captions(pd.DataFrame(rows), captions, str(path))
    return finish(table, images, {}, path=path, left=left, **options)
