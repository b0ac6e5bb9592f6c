"""From encoded images to the tensor a model sees: open_clip's own transform, and a short cut that equals it."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from PIL import Image

# Decoded small pictures (data -> uint8 pixels): many models see the same ones, and decoding a small picture costs as much as encoding it.
_DECODED: dict[bytes, np.ndarray] = {}
_SMALL, _MOST = 64_000, 4096  # bytes of one, how many are kept
_LARGE = 16_000  # mean bytes per image above which decoding in threads pays


@dataclass(frozen=True)
class Preprocessed:
    """Images ready for a model.

    Attributes
    ----------
    pixels : torch.Tensor, float32 (m, 3, h, w)
    kept : tuple of int
        Positions of the m readable images among those given.
    broken : dict of int to str
        Position and reason of each image that could not be read.
    """

    pixels: torch.Tensor
    kept: tuple[int, ...]
    broken: dict[int, str]


class Preprocess:
    """Decode, resize, crop and normalise images as a model expects them.

    Images become RGB first (as in open_clip's training pipeline); EXIF orientation is not applied, as
    open_clip does not apply it.

    Parameters
    ----------
    config : mapping
        Fields of open_clip's ``PreprocessCfg``: size, mean, std, interpolation, resize_mode, fill_color, mode.
    """

    def __init__(self, config: Mapping) -> None:
        self.config = {
            key: list(value) if isinstance(value, tuple) else value for key, value in sorted(config.items())
        }
        size = config["size"]
        self.height, self.width = (size, size) if isinstance(size, int) else tuple(size)
        self.transform = open_clip.image_transform(
            size if isinstance(size, int) else tuple(size),
            is_train=False,
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            resize_mode=config.get("resize_mode"),
            interpolation=config.get("interpolation"),
            fill_color=config.get("fill_color", 0),
        )
        self._mean = torch.tensor(list(config["mean"]), dtype=torch.float32).view(1, 3, 1, 1)
        self._std = torch.tensor(list(config["std"]), dtype=torch.float32).view(1, 3, 1, 1)

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved settings."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()

    def __call__(self, images: Sequence[bytes]) -> Preprocessed:
        """Return the pixels of the readable images and the reasons for the others."""
        many = len(images) > 8 and sum(map(len, images)) > _LARGE * len(images)
        if many:
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1, torch.get_num_threads())) as pool:
                decoded = list(pool.map(self._decode, images))
        else:
            decoded = [self._decode(data) for data in images]
        broken = {place: item for place, item in enumerate(decoded) if isinstance(item, str)}
        kept = tuple(place for place in range(len(images)) if place not in broken)
        pixels = torch.empty((len(kept), 3, self.height, self.width))
        raw: list[np.ndarray] = []
        ready: list[int] = []
        for row, place in enumerate(kept):
            item = decoded[place]
            if isinstance(item, np.ndarray):
                raw.append(item)
                ready.append(row)
            elif isinstance(item, torch.Tensor):
                pixels[row] = item
        if raw:
            # Images that already have the model's size: open_clip's resize and crop return them unchanged,
            # so what is left is ToTensor and Normalize, done here for all images at once, in the same order
            # of operations and therefore with the same bits.
            stack = torch.from_numpy(np.stack(raw)).permute(0, 3, 1, 2).to(torch.float32)
            pixels[ready] = stack.div_(255).sub_(self._mean).div_(self._std)
        return Preprocessed(pixels, kept, broken)

    def _decode(self, data: bytes) -> np.ndarray | torch.Tensor | str:
        """Return uint8 pixels of the right size, a finished tensor, or the reason why there is neither."""
        known = _DECODED.get(data)
        if known is not None and known.shape[:2] == (self.height, self.width):
            return known
        try:
            with Image.open(io.BytesIO(data)) as file:
                image = file.convert("RGB")
        except (
            Exception
        ) as problem:  # Pillow's decoders raise many kinds: OSError, SyntaxError, ValueError, ...
            if not data:
                return "empty file"
            return (
                "not an image"
                if isinstance(problem, Image.UnidentifiedImageError)
                else str(problem) or type(problem).__name__
            )
        if image.size == (self.width, self.height):
            pixels = np.asarray(image)
            if pixels.nbytes <= _SMALL and len(_DECODED) < _MOST:
                _DECODED[data] = pixels
            return pixels
        return self.transform(image)
