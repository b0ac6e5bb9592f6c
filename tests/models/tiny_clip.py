"""Small CLIPs for tests: three towers, 32 px, a few hundred thousand parameters, drawn from a seed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import open_clip
from PIL import Image

TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIGS = {
    "tiny-vit": {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}},
    "tiny-vit-16": {"embed_dim": 16, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}},
    "tiny-vit-64": {"embed_dim": 16, "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}},
    "tiny-vit-quickgelu": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    },
    "tiny-resnet": {"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}},
    "tiny-sigmoid": {
        "embed_dim": 16,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    },
}  # fmt: skip


def register(folder: Path) -> None:
    """Add the configs to open_clip's registry."""
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps({**config, "text_cfg": TEXT}))
    open_clip.add_model_config(folder)


def picture(
    size: int | tuple[int, int] = 32, *, seed: int = 0, mode: str = "RGB", form: str = "PNG"
) -> bytes:
    """Return an encoded image of noise."""
    width, height = (size, size) if isinstance(size, int) else size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(stream, form)
    return stream.getvalue()
