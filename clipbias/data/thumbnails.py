"""Small copies of pictures, to be looked at in a report."""

from __future__ import annotations

import io

from PIL import Image

SIDE, COLOURS = 96, 128


def thumbnail(file: bytes) -> bytes:
    """Return a picture as a small PNG of few colours, or empty bytes where it cannot be opened.

    Parameters
    ----------
    file : bytes
        An encoded picture (PNG, JPEG, ...) of any size.
    """
    out = io.BytesIO()
    try:
        with Image.open(io.BytesIO(file)) as image:
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # Pillow says SyntaxError of a broken PNG
        return b""
    small.thumbnail((SIDE, SIDE))
    small.quantize(COLOURS).save(out, "PNG", optimize=True)
    return out.getvalue()
