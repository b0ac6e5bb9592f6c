"""WebDataset shards: tar files in which the files of one sample share a name."""

from __future__ import annotations

import glob
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import NO_LABEL, label_columns, need_columns
from clipbias.data.regions import IMAGE_SUFFIXES
from clipbias.data.registry import reader
from clipbias.errors import DataError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_WIDEST = 1_000_000  # bytes of a label file; anything longer is no label


@dataclass
class _Sample:
    key: str
    shard: Path
    place: tuple[int, int] | None = None  # offset and size of the image in the shard
    labels: dict[str, Any] = field(default_factory=dict)


@reader("webdataset")
def read_webdataset(
    shards: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    *,
    attributes: Sequence[str],
    contexts: Sequence[str] = (),
    levels: Mapping[str, Sequence[str]] | None = None,
    npy_columns: Sequence[str] = (),
    classes: Sequence[str] = (),
    name: str = "webdataset",
    licence: str = "not stated",
    source: str = "",
) -> ImageSet:
    """Read WebDataset shards: ``KEY.jpg`` with ``KEY.json``, ``KEY.cls``, ``KEY.txt`` or ``KEY.npy``.

    Parameters
    ----------
    shards : str, Path or sequence of them
        Tar files (not compressed), a folder of them, or a pattern: ``"shard-{000..010}.tar"``, ``"data/*.tar"``.
    images : optional
        Not used; the images are in the shards.
    attributes, contexts : sequence of str
        Keys of the JSON files, ``cls``, or one of ``npy_columns``.
    levels : mapping of column to levels, optional
    npy_columns : sequence of str
        What the numbers of a ``.npy`` file are, in order (``age,gender,race,race_binary`` in DataComp's FairFace).
    classes : sequence of str
        Names of the numbers in ``.cls`` files.
    name, licence, source : str

    Returns
    -------
    ImageSet
        ``image_id`` is the key; ``caption`` the text file. Images are read from their place in the shard. Samples
        without an image or without labels are in ``left_out``.

    Raises
    ------
    DataError
        No shard, a damaged or compressed one, a label file that cannot be read, a key twice, or a missing column.
    """
    files = _expand(shards)
    numbers = _list(npy_columns)
    samples: list[_Sample] = []
    for path in files:
        samples += _samples(path, numbers, _list(classes))
    bare = [s.key for s in samples if s.place is None]
    kept = [s for s in samples if s.place is not None]
    wanted = [*attributes, *contexts]
    silent = [s.key for s in kept if wanted and not any(column in s.labels for column in wanted)]
    if len(silent) == len(kept):
        found = pd.DataFrame([s.labels for s in samples])
        need_columns(found, wanted, str(files[0]))
        raise DataError(f"{files[0]} holds no sample with an image and labels.")
    lost = set(silent)
    kept = [s for s in kept if s.key not in lost]
    table = pd.DataFrame([{"image_id": s.key, **s.labels} for s in kept])
    need_columns(table, wanted, str(files[0]))
    text = {c: table[c].astype(object).where(table[c].notna(), "").map(_text) for c in wanted}
    table = label_columns(table.assign(**text), wanted, levels=levels, where=str(files[0]), no_label=NO_LABEL)
    places = [(s.shard, *s.place) for s in kept if s.place is not None]

    def read(rows: Sequence[int]) -> list[bytes]:
        out = []
        for row in rows:
            path, offset, size = places[int(row)]
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    out.append(file.read(size))
            except OSError as error:
                raise DataError(f"{path} cannot be read any more: {error.strerror}.") from error
        return out

    left = pd.concat(
        [left_out(bare, "no image in the sample"), left_out(silent, "no labels in the sample")],
        ignore_index=True,
    )
    return ImageSet(
        name, table, tuple(attributes), read, tuple(contexts), left_out=left, licence=licence, source=source
    )


def _list(value: Sequence[str]) -> list[str]:
    return [part for part in value.split(",") if part] if isinstance(value, str) else list(value)


def _expand(shards: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(shards, str | Path):
        text = str(shards)
        found = _RANGE.search(text)
        if found:
            low, high = found.groups()
            numbers = range(int(low), int(high) + 1)
            files = [Path(f"{text[: found.start()]}{n:0{len(low)}d}{text[found.end() :]}") for n in numbers]
        elif Path(text).is_dir():
            files = sorted(Path(text).glob("*.tar"))
        else:
            files = [Path(p) for p in sorted(glob.glob(text))] or [Path(text)]
    else:
        files = [Path(path) for path in shards]
    if not files:
        raise DataError(f"{shards} holds no .tar file.")
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]} was not found ({len(missing)} of {len(files)} shards are missing).")
    return files


def _samples(path: Path, numbers: Sequence[str], classes: Sequence[str]) -> list[_Sample]:
    """Index one shard: where its images lie, and what its label files say."""
    found: dict[str, _Sample] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")  # the key ends at the first dot
                key = f"{folder}/{stem}".lstrip("./")
                if not stem or not ending:
                    continue
                sample = found.setdefault(key, _Sample(key, path))
                if f".{ending.lower()}" in IMAGE_SUFFIXES:
                    if sample.place is not None:
                        raise DataError(f"{path} holds two images of the sample {key!r}.")
                    sample.place = member.offset_data, member.size
                elif member.size <= _WIDEST:
                    body = shard.extractfile(member)
                    data = body.read() if body else b""
                    sample.labels |= _label(ending.lower(), data, numbers, classes, f"{path}, {member.name}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"{path} is damaged or no plain tar file ({error}). Unpack it if it is compressed, or get it again."
        ) from error
    return list(found.values())


def _label(
    ending: str, data: bytes, numbers: Sequence[str], classes: Sequence[str], where: str
) -> dict[str, Any]:
    try:
        if ending == "json":
            body = json.loads(data)
            return body if isinstance(body, dict) else {}
        if ending in ("txt", "caption"):
            return {"caption": data.decode("utf-8").strip()}
        if ending in ("cls", "cls2"):
            number = int(data.decode("ascii").strip())
            return {"cls": classes[number] if classes else str(number)}
        if ending == "npy":
            values = np.load(io.BytesIO(data), allow_pickle=False).ravel()
            if numbers and len(numbers) != len(values):
                raise DataError(f"{where} holds {len(values)} numbers and npy_columns names {len(numbers)}.")
            return dict(zip(numbers, values.tolist(), strict=True)) if numbers else {}
    except (ValueError, IndexError, EOFError) as error:
        raise DataError(f"{where} cannot be read: {error}.") from error
    return {}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
