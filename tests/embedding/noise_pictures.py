"""Encoded images of noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
        stream, "PNG"
    )
    return stream.getvalue()
