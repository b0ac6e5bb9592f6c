"""Parts of pictures: files found below a folder, and boxes cut out of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from clipbias.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
Box = tuple[float, float, float, float]


def index_files(folder: str | Path) -> dict[str, Path]:
    """Return the files below a folder by name; the first in alphabetical order wins.

    Raises
    ------
    DataError
        The folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the image folder {folder} does not exist.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found.setdefault(path.name, path)
    return found


def read_regions(paths: Sequence[Path], boxes: Sequence[Box]) -> Callable[[Sequence[int]], list[bytes]]:
    """Return the ``read`` of an image set whose pictures are boxes of files.

    Parameters
    ----------
    paths : sequence of Path
        The file of each row; a file may serve many rows.
    boxes : sequence of (left, top, right, bottom)
        Pixels. What lies outside the picture is cut off.

    Returns
    -------
    callable
        Gives PNG bytes. A picture that cannot be opened, or a box that has no area inside it, gives empty bytes,
        which count as an unreadable image.
    """
    paths, boxes = list(paths), list(boxes)

    def read(rows: Sequence[int]) -> list[bytes]:
        return [cut(paths[int(row)], boxes[int(row)]) for row in rows]

    return read


def cut(path: Path, box: Box) -> bytes:
    """Return one box of a file as PNG, or empty bytes where there is nothing to see."""
    try:
        with Image.open(path) as image:
            left, top, right, bottom = (round(value) for value in box)
            inside = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                return b""
            out = io.BytesIO()
            image.convert("RGB").crop(inside).save(out, "PNG")
            return out.getvalue()
    except OSError:
        return b""
