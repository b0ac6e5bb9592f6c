"""Embedding sets and prompts: right rows, unit length, nothing encoded twice, nothing lost in silence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from noise_pictures import picture

from clipbias.embedding import CacheWarning, EmbeddingCache, embed_images, embed_texts
from clipbias.errors import DataError
from clipbias.models import ModelWarning, load_model

IMAGES = [picture(seed) for seed in range(7)]
TEXTS = ["a nurse", "a doctor", "a nurse"]


def normalised(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_rows_are_the_models_own_at_unit_length(clip, image_set):
    found = embed_images(clip, image_set(IMAGES), batch_size=3)
    np.testing.assert_allclose(found.values, normalised(clip.encode_images(IMAGES)), rtol=1e-4, atol=1e-6)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.rows, np.arange(7))
    assert found.left_out.empty
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        embed_texts(clip, TEXTS), normalised(clip.encode_texts(TEXTS)), rtol=1e-4, atol=1e-6
    )


def test_a_warm_cache_encodes_nothing_and_gives_the_same_bits(clip, image_set, counted, tmp_path):
    cold, warm = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    first = embed_images(clip, image_set(IMAGES), cache=cold), embed_texts(clip, TEXTS, cache=cold)
    assert counted == {"images": 7, "texts": 2}
    assert (cold.stats.computed, cold.stats.reused) == (9, 0)
    again = embed_images(clip, image_set(IMAGES), cache=warm), embed_texts(clip, TEXTS, cache=warm)
    assert counted == {"images": 7, "texts": 2}
    assert (warm.stats.computed, warm.stats.reused) == (0, 9)
    np.testing.assert_array_equal(first[0].values, again[0].values)
    np.testing.assert_array_equal(first[1], again[1])


def test_only_what_is_missing_is_encoded_in_any_order(clip, image_set, counted, tmp_path):
    cache = EmbeddingCache(tmp_path)
    part = embed_images(clip, image_set(IMAGES[2:5]), cache=cache)
    whole = embed_images(clip, image_set(IMAGES[::-1]), cache=cache)
    assert counted["images"] == 7
    np.testing.assert_array_equal(whole.values[::-1][2:5], part.values)
    embed_texts(clip, ["a nurse", "a pilot"], cache=cache)
    embed_texts(clip, ["a pilot", "a doctor", "a nurse"], cache=cache)
    assert counted["texts"] == 3


def test_equal_images_are_encoded_once_also_without_a_cache(clip, image_set, counted):
    found = embed_images(clip, image_set([IMAGES[0], IMAGES[1], IMAGES[0]] * 2), batch_size=2)
    assert counted["images"] == 2
    assert found.values.shape == (6, 16)
    np.testing.assert_array_equal(found.values[0], found.values[5])


def test_chunks_change_nothing(clip, image_set, monkeypatch, tmp_path):
    images = [*IMAGES, b"broken", *IMAGES[::-1], picture(50)]
    whole = embed_images(clip, image_set(images))
    monkeypatch.setattr("clipbias.embedding.encode._CHUNK", 4)
    for cache in (None, EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)):
        parts = embed_images(clip, image_set(images), cache=cache, batch_size=3)
        np.testing.assert_allclose(parts.values, whole.values, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(parts.rows, whole.rows)
        assert parts.left_out.equals(whole.left_out)


def test_another_model_or_precision_shares_nothing(clip, image_set, counted, tmp_path):
    cache = EmbeddingCache(tmp_path)
    embed_images(clip, image_set(IMAGES), cache=cache)
    for spec in (
        "random:embedding-tiny?seed=1",
        "random:embedding-tiny?mean=0.5",
        "random:embedding-tiny?precision=bf16",
    ):
        embed_images(load_model(spec), image_set(IMAGES), cache=cache)
    assert (cache.stats.computed, cache.stats.reused) == (28, 0)
    assert set(cache.ls()["items"]) == {7}
    # Text embeddings do not depend on the image preprocessing.
    assert load_model("random:embedding-tiny?mean=0.5").text_key == clip.text_key


def test_unreadable_images_are_left_out_and_listed(clip, image_set, tmp_path):
    images = [IMAGES[0], b"nonsense", IMAGES[1], b"", IMAGES[2], b"nonsense"]
    cache = EmbeddingCache(tmp_path)
    for _ in range(2):
        found = embed_images(clip, image_set(images), cache=cache)
        np.testing.assert_array_equal(found.rows, [0, 2, 4])
        assert found.values.shape == (3, 16)
        assert found.left_out.values.tolist() == [
            ["i1", "not an image"],
            ["i3", "empty file"],
            ["i5", "not an image"],
        ]
    with pytest.raises(DataError, match="image 'i1' of 'noise' cannot be read: not an image"):
        embed_images(clip, image_set(images), bad="raise")


def test_a_missing_file_costs_its_own_row_only(clip, image_set):
    def read(rows):
        if 1 in rows:
            raise FileNotFoundError(2, "No such file or directory", "gone.png")
        if 3 in rows:
            raise DataError("row 3 has no path.")
        return [IMAGES[row] for row in rows]

    found = embed_images(clip, image_set(IMAGES, read))
    np.testing.assert_array_equal(found.rows, [0, 2, 4, 5, 6])
    assert found.left_out.values.tolist() == [
        ["i1", "No such file or directory"],
        ["i3", "row 3 has no path."],
    ]
    with pytest.raises(DataError, match="'i1'"):
        embed_images(clip, image_set(IMAGES, read), bad="raise")


def test_nothing_to_embed(clip, image_set):
    for images in ([], [b"nonsense"]):
        found = embed_images(clip, image_set(images))
        assert found.values.shape == (0, 16)
        assert found.rows.shape == (0,)
        assert list(found.left_out.columns) == ["item", "reason"]
    assert embed_texts(clip, []).shape == (0, 16)
    with pytest.raises(ValueError, match="report"):
        embed_images(clip, image_set([]), bad="ignore")


def test_progress_counts_up_to_the_whole(clip, image_set, tmp_path):
    cache = EmbeddingCache(tmp_path)
    embed_images(clip, image_set(IMAGES[:2]), cache=cache)
    steps = []
    embed_images(
        clip, image_set(IMAGES), cache=cache, batch_size=2, on_batch=lambda *step: steps.append(step)
    )
    assert steps == [(2, 7), (4, 7), (6, 7), (7, 7)]
    steps.clear()
    embed_images(clip, image_set(IMAGES), cache=cache, on_batch=lambda *step: steps.append(step))
    assert steps == [(7, 7)]


def test_an_embedding_without_direction_is_an_error(clip, image_set, monkeypatch, tmp_path):
    for value in (0.0, np.nan):
        monkeypatch.setattr(
            clip, "encode_pixels", lambda pixels, value=value: np.full((len(pixels), 16), value, np.float32)
        )
        with pytest.raises(DataError, match=r"zero or not finite, first: 'i0'"):
            embed_images(clip, image_set(IMAGES), cache=EmbeddingCache(tmp_path / str(value)))
    monkeypatch.setattr(clip, "encode_texts", lambda texts: np.zeros((len(texts), 16), np.float32))
    with pytest.raises(DataError, match="'a nurse'"):
        embed_texts(clip, TEXTS)


def test_what_was_computed_before_an_interruption_is_kept(clip, image_set, monkeypatch, tmp_path):
    encode, calls = clip.encode_pixels, []

    def interrupted(pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(pixels)

    monkeypatch.setattr(clip, "encode_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_images(clip, image_set(IMAGES), cache=EmbeddingCache(tmp_path), batch_size=2)
    cache = EmbeddingCache(tmp_path)
    embed_images(clip, image_set(IMAGES), cache=cache)
    assert (cache.stats.computed, cache.stats.reused) == (3, 4)


def test_damage_is_recomputed(clip, image_set, tmp_path):
    first = embed_images(clip, image_set(IMAGES), cache=EmbeddingCache(tmp_path))
    path = next(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    cache = EmbeddingCache(tmp_path)
    with pytest.warns(CacheWarning, match="damaged"):
        again = embed_images(clip, image_set(IMAGES), cache=cache)
    np.testing.assert_array_equal(first.values, again.values)
    assert (cache.stats.computed, cache.stats.damaged) == (7, 1)


def test_unknown_words_are_named_also_from_a_warm_cache(tmp_path):
    for _ in range(2):
        model = load_model("random:embedding-tiny?seed=0")
        model._known = {"a", "nurse"}
        with pytest.warns(ModelWarning, match="doctor") as caught:
            embed_texts(model, TEXTS, cache=EmbeddingCache(tmp_path))
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            embed_texts(model, TEXTS)
