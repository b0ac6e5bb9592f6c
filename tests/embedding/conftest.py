"""A real but tiny CLIP, and image sets of noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import open_clip
import pandas as pd
import pytest

from clipbias.data.imageset import ImageSet
from clipbias.models import Clip, load_model

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("config") / "embedding-tiny.json"
    path.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(path)
    return load_model("random:embedding-tiny?seed=0")


@pytest.fixture
def counted(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many images and texts the CLIP has encoded."""
    calls = {"images": 0, "texts": 0}
    pixels, texts = clip.encode_pixels, clip.encode_texts

    def encode_pixels(batch):
        calls["images"] += len(batch)
        return pixels(batch)

    def encode_texts(batch, **options):
        calls["texts"] += len(batch)
        return texts(batch, **options)

    monkeypatch.setattr(clip, "encode_pixels", encode_pixels)
    monkeypatch.setattr(clip, "encode_texts", encode_texts)
    return calls


@pytest.fixture
def image_set() -> Callable[..., ImageSet]:
    """Return a maker of image sets from encoded images."""

    def make(images: Sequence[bytes], read: Callable | None = None) -> ImageSet:
        table = pd.DataFrame({"image_id": [f"i{row}" for row in range(len(images))]})
        return ImageSet("noise", table, (), read or (lambda rows: [images[row] for row in rows]))

    return make
