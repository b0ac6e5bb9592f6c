"""Preprocessing: bit for bit what open_clip's transform gives, also on the short cut for ready-sized images."""

from __future__ import annotations

import io

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clip import picture

from clipbias.models.preprocess import Preprocess

OPENAI = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


def reference(config: dict, images: list[bytes]) -> torch.Tensor:
    options = {key: value for key, value in config.items() if key not in ("size", "mode")}
    transform = open_clip.image_transform(config["size"], is_train=False, **options)
    return torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in images])


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([16, 64, (24, 32)]),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    statistics=st.sampled_from(
        [OPENAI, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}]
    ),
    seed=st.integers(0, 99),
    other=st.tuples(st.integers(8, 90), st.integers(8, 90)),
)
def test_equals_open_clips_transform_bit_for_bit(size, resize_mode, interpolation, statistics, seed, other):
    config = {
        "size": size,
        "resize_mode": resize_mode,
        "interpolation": interpolation,
        "fill_color": 0,
        **statistics,
    }
    ready = (size, size) if isinstance(size, int) else (size[1], size[0])  # Pillow: width first
    images = [picture(ready, seed=seed), picture(other, seed=seed + 1), picture(ready, seed=seed + 2)]
    found = Preprocess(config)(images)
    assert found.kept == (0, 1, 2)
    assert torch.equal(found.pixels, reference(config, images))


def test_the_short_cut_is_taken_for_ready_sized_images(monkeypatch):
    preprocess = Preprocess({"size": 32, **OPENAI})
    monkeypatch.setattr(preprocess, "transform", None)  # calling it would raise
    images = [picture(32, seed=seed) for seed in range(5)]
    assert torch.equal(preprocess(images).pixels, reference({"size": 32, **OPENAI}, images))


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG"), ("RGB", "WEBP")],
)
def test_every_mode_becomes_rgb(mode, form):
    for size in (32, 40):
        images = [picture(size, mode=mode, form=form)]
        assert torch.equal(
            Preprocess({"size": 32, **OPENAI})(images).pixels, reference({"size": 32, **OPENAI}, images)
        )


def test_exif_orientation_is_left_as_open_clip_leaves_it():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(picture((40, 32))))
    image.save(stream, "JPEG", exif=exif, quality=95)
    images = [stream.getvalue()]
    assert torch.equal(
        Preprocess({"size": 32, **OPENAI})(images).pixels, reference({"size": 32, **OPENAI}, images)
    )


def test_broken_images_are_listed_and_the_others_kept():
    whole = picture(200, form="JPEG")
    images = [picture(32), b"", b"text", whole[: len(whole) // 2], picture(32, seed=5)]
    found = Preprocess({"size": 32, **OPENAI})(images)
    assert found.kept == (0, 4)
    assert set(found.broken) == {1, 2, 3}
    assert found.broken[1] == "empty file"
    assert "truncated" in found.broken[3]
    assert torch.equal(found.pixels, reference({"size": 32, **OPENAI}, [images[0], images[4]]))


def test_large_images_are_decoded_in_threads_with_the_same_result():
    images = [picture(150, seed=seed) for seed in range(10)]
    assert sum(map(len, images)) > 16_000 * len(images)
    assert torch.equal(
        Preprocess({"size": 32, **OPENAI})(images).pixels, reference({"size": 32, **OPENAI}, images)
    )


def test_no_images():
    assert Preprocess({"size": 32, **OPENAI})([]).pixels.shape == (0, 3, 32, 32)


def test_digest_is_of_the_settings():
    one, same, other = (Preprocess({"size": size, **OPENAI}).digest for size in (32, 32, 33))
    assert one == same != other
