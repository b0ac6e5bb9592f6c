"""What a report shows of a picture is a small PNG, whatever came in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clipbias.data.thumbnails import SIDE, thumbnail


def encoded(width: int, height: int, kind: str) -> bytes:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_large_picture_becomes_a_small_png_of_the_same_shape(kind):
    small = thumbnail(encoded(900, 450, kind))
    image = Image.open(io.BytesIO(small))
    assert (image.format, image.size) == ("PNG", (SIDE, SIDE // 2))
    assert len(small) < 15_000
    mean = np.asarray(image.convert("RGB"), dtype=float).mean()
    assert abs(mean - 127.5) < 6


def test_a_small_picture_keeps_its_size():
    assert Image.open(io.BytesIO(thumbnail(encoded(40, 60, "PNG")))).size == (40, 60)


@pytest.mark.parametrize("broken", [b"", b"no picture", encoded(64, 64, "PNG")[:60]])
def test_what_cannot_be_opened_gives_nothing(broken):
    assert thumbnail(broken) == b""
