"""Image files: where they lie, which are missing, which cannot be read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError

# Reasons that mean "should be there and is not": these count towards --max-bad.
MISSING = "missing file"
UNREADABLE = "unreadable image"
_BAD = (MISSING, UNREADABLE)


def read_files(paths: Sequence[Path]) -> Callable[[Sequence[int]], list[bytes]]:
    """Return the ``read`` of an image set whose images are files."""
    paths = list(paths)

    def read(rows: Sequence[int]) -> list[bytes]:
        try:
            return [paths[int(row)].read_bytes() for row in rows]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read any more: {error.strerror}.") from error

    return read


def no_files(name: str) -> Callable[[Sequence[int]], list[bytes]]:
    """Return the ``read`` of an image set that was read without its images."""

    def read(rows: Sequence[int]) -> list[bytes]:
        raise DataError(f"{name} was read without images; give the folder they lie in (images=).")

    return read


def locate(names: Sequence[str], folder: str | Path) -> list[Path | None]:
    """Find files by the names a table gives them; None for a file that is not there.

    A table may carry leading folders that the local copy lacks (``fairface/val/1.jpg`` for ``val/1.jpg`` or
    ``1.jpg``). As many leading folders are dropped as make most files be found - the same number for all,
    as ``train/1.jpg`` and ``val/1.jpg`` are different pictures.

    Raises
    ------
    DataError
        The folder does not exist, none of the files is there, or two names lead to one file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the image folder {folder} does not exist.")
    parts = [PurePosixPath(name.replace("\\", "/")).parts for name in names]
    if not parts:
        return []
    sample = [
        parts[i] for i in np.unique(np.linspace(0, len(parts) - 1, num=min(200, len(parts))).astype(int))
    ]
    depth = max(len(p) for p in sample)
    hits = [sum(_under(folder, p, drop).is_file() for p in sample) for drop in range(depth)]
    drop = int(np.argmax(hits))  # the first of equals: drop as little as possible
    paths = [_under(folder, p, drop) for p in parts]
    found = [path if path.is_file() else None for path in paths]
    present = [path for path in found if path is not None]
    if not present:
        raise DataError(
            f"none of the {len(names)} images is in {folder}; looked for {paths[0]} first. Check images=."
        )
    if drop and len(set(present)) < len({p for p, path in zip(parts, found, strict=True) if path}):
        raise DataError(
            f"two images of the table are one file in {folder} once their leading folders are dropped, "
            f"for example {_first_double(present)}. Give the folder above, so that the folders in the table exist."
        )
    return found


def _under(folder: Path, parts: Sequence[str], drop: int) -> Path:
    return folder.joinpath(*parts[min(drop, len(parts) - 1) :])


def _first_double(paths: Sequence[Path]) -> Path:
    seen: set[Path] = set()
    return next(path for path in paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]


def missing_rows(names: Sequence[str], paths: Sequence[Path | None], folder: str | Path) -> pd.DataFrame:
    """Return the ``left_out`` rows of the files that were not found."""
    lost = [name for name, path in zip(names, paths, strict=True) if path is None]
    return left_out(lost, f"{MISSING} (in {os.fspath(folder)})")


def left_out(items: Sequence[str], reason: str | Sequence[str]) -> pd.DataFrame:
    """Return a ``left_out`` table: columns ``item, reason``."""
    reasons = [reason] * len(items) if isinstance(reason, str) else list(reason)
    return pd.DataFrame({"item": pd.Series(list(items), dtype=str), "reason": pd.Series(reasons, dtype=str)})


def check_images(image_set: ImageSet, *, max_bad: float = 0.01, batch_size: int = 256) -> ImageSet:
    """Decode every image; leave out those that cannot be read.

    Parameters
    ----------
    image_set : ImageSet
    max_bad : float
        Largest share, in [0, 1], of images that are missing or unreadable. Images left out for other
        reasons (say, an attribute that cannot be seen in them) do not count.
    batch_size : int

    Returns
    -------
    ImageSet
        Without the unreadable images, which stand in ``left_out`` with their reason.

    Raises
    ------
    DataError
        More than ``max_bad`` of the images are bad, or none is left.
    """
    reasons: dict[int, str] = {}
    for start in range(0, len(image_set), batch_size):
        rows = range(start, min(start + batch_size, len(image_set)))
        for row, data in zip(rows, _read_each(image_set, rows), strict=True):
            reason = data if isinstance(data, str) else why_unreadable(data)
            if reason:
                reasons[row] = f"{UNREADABLE}: {reason}"
    bad = sorted(reasons)
    rows_out = left_out([str(image_set.ids[row]) for row in bad], [reasons[row] for row in bad])
    together = pd.concat([image_set.left_out, rows_out], ignore_index=True) if bad else image_set.left_out
    count = int(together["reason"].astype(str).str.startswith(_BAD).sum())
    total = len(image_set) - len(bad) + count
    if count > max_bad * total:
        examples = together[together["reason"].astype(str).str.startswith(_BAD)].head(3)
        shown = "; ".join(f"{item}: {reason}" for item, reason in examples[["item", "reason"]].to_numpy())
        raise DataError(
            f"{count} of {total} images of {image_set.name!r} are missing or unreadable ({count / total:.1%}), "
            f"more than the {max_bad:.1%} allowed (--max-bad): {shown}. Mend or remove them, or allow more."
        )
    if len(bad) == len(image_set):
        raise DataError(f"image set {image_set.name!r} holds no image that can be read.")
    if not bad:
        return image_set
    kept = np.ones(len(image_set), bool)
    kept[bad] = False
    return replace(image_set.take(kept), left_out=together)


def _read_each(image_set: ImageSet, rows: range) -> list[bytes | str]:
    try:
        return list(image_set.read(rows))
    except DataError:  # one file has gone: find out which
        found: list[bytes | str] = []
        for row in rows:
            try:
                found += image_set.read([row])
            except DataError as error:
                found.append(str(error))
        return found


def why_unreadable(data: bytes) -> str:
    """Return why bytes are not a whole image, or an empty string."""
    if not data:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()  # checksums (PNG); decoding alone lets a damaged pixel pass
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (32, 32))  # JPEG: reads all of the file, computes little of the picture
            image.load()
    except Image.DecompressionBombError:
        return "the image is too large to be opened safely"
    except Exception as error:  # decoders raise what they like on damaged input
        text = str(error) or type(error).__name__
        return "not an image of a known format" if "cannot identify" in text else text
    return ""
