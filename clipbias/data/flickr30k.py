"""Flickr30k as it is distributed: a text file with one caption per line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.assemble import LabelOptions, add_captions, finish
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError

_LINE = re.compile(r"(?P<name>[^\t]+\.\w+)#(?P<number>\d+)\t(?P<caption>.*)")


@reader("flickr30k")
def read_flickr30k(
    annotations: str | Path, images: str | Path | None, **options: Unpack[LabelOptions]
) -> ImageSet:
    """Read ``results_20130124.token``; the JSON files with splits are read by ``read_karpathy``.

    Parameters
    ----------
    annotations : str or Path
        Lines ``1000092795.jpg#0<TAB>caption``.
    images : str or Path or None
        Folder of the files. None: captions only.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        ``image_id`` is the file's name without its ending; ``table`` has ``captions`` and ``caption``.

    Raises
    ------
    DataError
        A line is of another form, or a caption's number is there twice.
    """
    path = Path(annotations)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} was not found.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).") from error
    captions: list[tuple[object, object]] = []
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise DataError(
                f"{path}: line {number} is not 'NAME.jpg#NUMBER<TAB>caption' but {line[:60]!r}; is this Flickr30k's "
                "token file?"
            )
        if (found["name"], found["number"]) in seen:
            raise DataError(f"{path}: line {number} holds {found['name']}#{found['number']} again.")
        seen.add((found["name"], found["number"]))
        captions.append((found["name"], found["caption"]))
    if not captions:
        raise DataError(f"{path} holds no captions.")
    names = list(dict.fromkeys(str(name) for name, _ in captions))
    table = pd.DataFrame({"key": names, "image_id": [Path(name).stem for name in names], "path": names})
    table, left = add_captions(table, captions, str(path))
    return finish(table, images, {}, path=path, left=left, **options)
