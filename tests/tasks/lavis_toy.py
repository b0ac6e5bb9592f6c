"""A toy task for LAVIS: plain pictures in four colours, a tiny CLIP, captions and questions about the colour."""

from __future__ import annotations

import io
import os
from importlib.util import find_spec

import numpy as np
import open_clip
import pandas as pd
import pytest
from PIL import Image

from clipbias.data import ImageSet
from clipbias.models import Clip, parse_spec
from clipbias.models.preprocess import Preprocess
from clipbias.tasks.data import TaskData
from clipbias.tasks.examples import COLUMNS

COLOURS = {"red": (200, 30, 30), "green": (30, 190, 40), "blue": (40, 50, 210), "yellow": (225, 215, 40)}
SPLITS = {"train": 16, "val": 4, "test": 8}
TEXT = {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}


def need_lavis() -> None:
    """Skip the module where LAVIS is missing, or fail where it must be there."""
    if find_spec("lavis") is not None:
        return
    message = "LAVIS is not installed; `make setup` installs it"
    if os.environ.get("CLIPBIAS_REQUIRE_LAVIS") == "1":
        pytest.fail(f"{message}, and CLIPBIAS_REQUIRE_LAVIS=1", pytrace=False)
    pytest.skip(message, allow_module_level=True)


def tiny_clip(seed: int = 0) -> Clip:
    """Return a two-layer ViT with random weights, and one text layer that nobody uses."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = open_clip.CLIP(16, open_clip.CLIPVisionCfg(**VISION), open_clip.CLIPTextCfg(**TEXT))
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    # Not OpenAI's mean and standard deviation, which LAVIS has built in.
    seen = Preprocess(
        {
            "size": 16,
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }
    )
    return Clip(
        parse_spec("random:ViT-B-32"), network, config=config, preprocess=seen, tokenizer=None, metadata={}
    )


def pictures() -> ImageSet:
    """Return the pictures: the colours in turn, each a little different."""
    rng = np.random.default_rng(0)
    names = [*COLOURS] * (sum(SPLITS.values()) // len(COLOURS))
    files = []
    for name in names:
        pixels = np.clip(np.array(COLOURS[name]) + rng.integers(-12, 13, (16, 16, 3)), 0, 255)
        stream = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
        files.append(stream.getvalue())
    table = pd.DataFrame(
        {"image_id": [f"pic {i}" for i in range(len(names))], "colour": pd.Categorical(names)}
    )
    return ImageSet("colours", table, (), lambda rows: [files[r] for r in rows])


def toy_data(task: str) -> TaskData:
    """Return captions ("A red square."), or two questions a picture."""
    images = pictures()
    splits = [split for split, n in SPLITS.items() for _ in range(n)]
    rows = []
    for number, (image, colour, split) in enumerate(
        zip(images.ids, images.table["colour"], splits, strict=True)
    ):
        if task == "captioning":
            caption = f"A {colour} square."
            rows.append((f"c{number}", image, split, "", "", "", [caption], caption))
            continue
        asked = {"What colour is it?": colour, "Is it green?": "yes" if colour == "green" else "no"}
        for place, (question, answer) in enumerate(asked.items()):
            rows.append((f"q{number}-{place}", image, split, question, "", "", [answer] * 10, answer))
    return TaskData(task, images, pd.DataFrame(rows, columns=list(COLUMNS)), f"toy {task}")
