"""What exists in the embedded world, and how one scene of it is drawn: a pure function of its factors and its seed."""

from __future__ import annotations

import functools
import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias import content
from clipbias.probes import art

if TYPE_CHECKING:
    from clipbias.probes.world import World

# Side lengths relative to the canvas: chosen so that role, gender and object can be seen at 64 px.
PERSON, OBJECT, BYSTANDER = 0.62, 0.44, 0.34
PALE = 0.45  # how much of the background's own colour is kept
LEVELS: dict[str, tuple[str, ...]] = {"gender": ("woman", "man"), "tone": ("1", "2", "3", "4", "5")}


@functools.cache
def _definition(path: str) -> dict:
    with open(path, "rb") as file:
        return tomllib.load(file)


def definition() -> dict:
    """Return the world's content: roles, objects, contexts, styles, captions and questions."""
    return _definition(str(content.find("probes", "world/world.toml")))


def render(frame: pd.DataFrame, world: World) -> np.ndarray:
    """Draw scenes: uint8, shape (n, size, size, 3).

    Layout and noise come from (seed, scene) alone, so twins share them to the last bit.
    """
    known = definition()
    codes = art.table("people").set_index(["role", "gender", "tone"])["hexcode"].to_dict()
    size = world.size
    out = np.empty((len(frame), size, size, 3), np.uint8)
    scene: Any
    for row, scene in enumerate(frame.itertuples(index=False)):
        rng = np.random.default_rng([world.seed, 3, int(scene.scene)])
        canvas = background(scene.style, known["contexts"][scene.context], size).copy()
        left = rng.random() < 0.5
        spots = rng.random(6)
        if scene.people == 2:
            other = (str(rng.choice(LEVELS["gender"])), int(rng.integers(1, 6)))
            side = int(BYSTANDER * size)
            _paste(
                canvas,
                art.sprite(scene.style, codes["adult", other[0], other[1]], side),
                0.02 + 0.06 * spots[4] if not left else 0.66 - 0.06 * spots[4],
                0.02 + 0.1 * spots[5],
            )
        here = 0.02 + 0.12 * spots[0] if left else 0.36 - 0.12 * spots[0], 0.28 + 0.12 * spots[1]
        canvas = _person(canvas, scene, codes, here)
        side = int(OBJECT * size)
        _paste(
            canvas,
            art.sprite(scene.style, known["objects"][scene.object], side),
            0.56 - 0.04 * spots[2] if left else 0.04 * spots[2],
            0.32 + 0.18 * spots[3],
        )
        canvas = canvas.astype(np.int32) * known["light"][scene.context] // 255
        if world.noise:
            canvas = canvas + np.rint(rng.standard_normal(canvas.shape, np.float32) * world.noise).astype(
                np.int16
            )
        out[row] = np.clip(canvas, 0, 255)
    return out


def _person(canvas: np.ndarray, scene: Any, codes: dict, here: tuple[float, float]) -> np.ndarray:
    """Return the canvas with the person, where two roles are mixed as the two pictures laid over each other."""
    pictures = []
    for looks in ("adult" if scene.plain else scene.role, scene.other):
        if looks:
            drawn = codes[looks, scene.gender, int(scene.tone)]
            pictures.append(canvas.copy())
            _paste(pictures[-1], art.sprite(scene.style, drawn, int(PERSON * len(canvas))), *here)
    if len(pictures) == 1:
        return pictures[0]
    seen = round(255 * scene.share)
    first, second = (picture.astype(np.int32) for picture in pictures)
    return ((seen * first + (255 - seen) * second + 127) // 255).astype(canvas.dtype)


@functools.lru_cache(maxsize=256)
def background(style: str, hexcode: str, size: int) -> np.ndarray:
    """Return a context's picture, pale and filling the canvas: int16 (size, size, 3)."""
    picture = art.pixels(art.load_art(style).svg[hexcode], size).astype(np.float32)
    pale = np.rint(255 - PALE * (255 - picture)).astype(np.int16)
    pale.setflags(write=False)
    return pale


def _paste(canvas: np.ndarray, sprite: np.ndarray, x: float, y: float) -> None:
    """Draw a sprite at a relative position, in integers so that every machine gives the same bytes."""
    size, side = canvas.shape[0], sprite.shape[0]
    left, top = (min(max(int(v * size), 0), size - side) for v in (x, y))
    patch = canvas[top : top + side, left : left + side]
    alpha = sprite[..., 3:].astype(np.int32)
    patch[:] = (sprite[..., :3] * alpha + patch * (255 - alpha) + 127) // 255
