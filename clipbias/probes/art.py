"""The embedded emoji art: SVG by code point, one compressed file per style, rendered with resvg."""

from __future__ import annotations

import functools
import io
import json
import lzma
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from clipbias import content
from clipbias.errors import DataError, nearest

STYLES = ("twemoji", "noto", "fluent", "openmoji")
# Each style keeps its own licence; pictures of different styles are never mixed in one scene.
LICENCES = {
    "twemoji": "CC-BY-4.0",
    "noto": "Apache-2.0",
    "fluent": "MIT",
    "openmoji": "CC-BY-SA-4.0",
}


@dataclass(frozen=True, eq=False)
class Art:
    """All pictures of one style, as ``{hexcode: svg}``."""

    style: str
    svg: dict[str, str] = field(repr=False)


@functools.cache
def load_art(style: str) -> Art:
    """Return the pictures of one style.

    Raises
    ------
    DataError
        The style is unknown or its file cannot be read.
    """
    if style not in STYLES:
        raise DataError(f"there is no emoji style {style!r}." + nearest(style, STYLES))
    path = content.find("probes", f"emoji/{style}.json.xz")
    try:
        return Art(style, json.loads(lzma.decompress(path.read_bytes())))
    except (lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it from the release.") from error


@functools.cache
def table(name: str) -> pd.DataFrame:
    """Return people, objects or visibility (a copy is yours to change: the table is cached)."""
    return pd.read_csv(content.find("probes", f"emoji/{name}.csv"), keep_default_na=False)


def rgba(svg: str, size: int) -> np.ndarray:
    """Render an SVG document.

    Returns
    -------
    numpy.ndarray
        uint8, shape (size, size, 4), straight alpha.
    """
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def pixels(svg: str, size: int) -> np.ndarray:
    """Render an SVG document on white: uint8, shape (size, size, 3)."""
    layer = rgba(svg, size).astype(np.float32)
    alpha = layer[..., 3:] / 255.0
    return np.rint(layer[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)


@functools.lru_cache(maxsize=8192)
def sprite(style: str, hexcode: str, size: int) -> np.ndarray:
    """Return one rendered picture of a style, kept in memory: uint8 (size, size, 4).

    Raises
    ------
    DataError
        The style lacks that picture.
    """
    art = load_art(style)
    if hexcode not in art.svg:
        raise DataError(f"the emoji style {style!r} has no picture {hexcode!r}.")
    layer = rgba(art.svg[hexcode], size)
    layer.setflags(write=False)
    return layer


def encode_png(array: np.ndarray) -> bytes:
    """Encode uint8 RGB pixels as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
