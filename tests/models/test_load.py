"""Loading: every kind of spec ends in a CLIP that encodes as open_clip itself would."""

from __future__ import annotations

import io
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_clip import CONFIGS, TEXT, picture

from clipbias import zoo
from clipbias.errors import DataError, ModelError
from clipbias.models import BrokenImages, ModelWarning, load_model

IMAGES = [picture(32, seed=1), picture((50, 40), seed=2), picture(32, seed=3)]
TEXTS = ["a photo of a nurse", "a photo of a doctor"]
OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]


def embeddings(model):
    return model.encode_images(IMAGES), model.encode_texts(TEXTS)


def saved(model, path: Path) -> Path:
    """Write a model's weights the way its suffix says."""
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.fixture
def tiny():
    return load_model("random:tiny-vit?seed=3")


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"tiny-vit-64"}))
def test_random_model_encodes_as_open_clip_does(name):
    model = load_model(f"random:{name}?seed=1")
    transform = open_clip.image_transform(32, is_train=False)
    pixels = torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in IMAGES])
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    with torch.inference_mode():
        images, texts = model.network.encode_image(pixels), model.network.encode_text(tokens)
    np.testing.assert_allclose(model.encode_images(IMAGES), images.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.encode_texts(TEXTS), texts.numpy(), rtol=1e-5, atol=1e-6)
    assert (model.dim, model.image_size) == (16, (32, 32))
    assert not model.network.training
    assert model.metadata["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_seed_decides_the_weights_and_nothing_else_does():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    one, again, other = (load_model(f"random:tiny-vit?seed={seed}") for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.digest == again.digest != other.digest
    np.testing.assert_array_equal(one.encode_images(IMAGES), again.encode_images(IMAGES))


def test_loading_is_silent_and_leaves_no_log_handler(capfd, caplog):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model("random:tiny-vit")
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)


def test_logit_scale_and_bias(tiny):
    assert tiny.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert tiny.logit_bias is None
    assert load_model("random:tiny-sigmoid").logit_bias == -10


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-sigmoid"])
def test_local_checkpoint_gives_the_same_model(tmp_path, name, suffix):
    source = load_model(f"random:{name}?seed=4")
    path = saved(source, tmp_path / f"weights{suffix}")
    loaded = load_model(f"file:{path}?model={name}")
    assert loaded.digest == source.digest
    assert (loaded.logit_scale, loaded.logit_bias) == (source.logit_scale, source.logit_bias)
    for mine, theirs in zip(embeddings(loaded), embeddings(source), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_training_checkpoint_of_a_parallel_run(tmp_path, tiny):
    state = {f"module.{name}": value for name, value in tiny.network.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {}}, tmp_path / "epoch_3.pt")
    assert load_model(f"file:{tmp_path}/epoch_3.pt?model=tiny-vit").digest == tiny.digest


def test_half_precision_checkpoint_is_computed_in_float32(tmp_path, tiny):
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in tiny.network.state_dict().items()
    }
    save_file(state, tmp_path / "half.safetensors")
    model = load_model(f"file:{tmp_path}/half.safetensors?model=tiny-vit")
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    np.testing.assert_allclose(model.encode_texts(TEXTS), tiny.encode_texts(TEXTS), atol=0.02)


def test_relative_path(tmp_path, monkeypatch, tiny):
    saved(tiny, tmp_path / "here.safetensors")
    monkeypatch.chdir(tmp_path)
    assert load_model("file:here.safetensors?model=tiny-vit").digest == tiny.digest


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"not a checkpoint", "a.safetensors"),
        (b"not a checkpoint", "a.pt"),
        (b"", "a.bin"),
        (b"PK\x03\x04 cut short", "a.pt"),
    ],
)
def test_unreadable_checkpoint(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=name) as error:
        load_model(f"file:{path}?model=tiny-vit")
    assert "\n" not in str(error.value)


def test_truncated_checkpoints(tmp_path, tiny):
    for name in ("a.safetensors", "a.pt"):
        path = saved(tiny, tmp_path / name)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ModelError, match=name):
            load_model(f"file:{path}?model=tiny-vit")


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (open, ("/nonexistent/evil", "w"))


def test_a_pickle_with_code_is_refused(tmp_path):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="could run code"):
        load_model(f"file:{tmp_path}/evil.pt?model=tiny-vit")


def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    with pytest.raises(ModelError, match="TorchScript"):
        load_model(f"file:{tmp_path}/program.pt?model=tiny-vit")


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 1}, {}])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no (state dict|tensors)"):
        load_model(f"file:{tmp_path}/other.pt?model=tiny-vit")


def test_wrong_architecture_names_file_and_tensors(tmp_path, tiny):
    path = saved(tiny, tmp_path / "vit.safetensors")
    with pytest.raises(ModelError, match=r"vit\.safetensors does not fit") as error:
        load_model(f"file:{path}?model=tiny-resnet")
    assert "Missing: visual." in str(error.value)
    assert "Not in the architecture: visual." in str(error.value)
    with pytest.raises(ModelError) as error:
        load_model(f"file:{path}?model=tiny-vit-16")
    assert "Other size: visual.conv1.weight is (32, 3, 8, 8), not (32, 3, 16, 16)" in str(error.value)


def test_a_stretched_position_table_is_no_secret(tmp_path, tiny):
    path = saved(tiny, tmp_path / "w.safetensors")
    with pytest.warns(
        ModelWarning,
        match=r"visual.positional_embedding .* is \(17, 32\).* \(65, 32\); open_clip interpolates",
    ):
        load_model(f"file:{path}?model=tiny-vit-64")


def test_missing_and_surplus_tensors_are_named(tmp_path, tiny):
    state = load_file(saved(tiny, tmp_path / "a.safetensors"))
    del state["ln_final.bias"]
    save_file({**state, "extra.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(
        ModelError, match=r"Missing: ln_final\.bias\. Not in the architecture: extra\.weight\."
    ):
        load_model(f"file:{tmp_path}/b.safetensors?model=tiny-vit")


def test_weights_that_cannot_be_had_are_one_clear_error():
    for text in (
        "ViT-B-32/laion2b_s34b_b79k",
        "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "random:ViT-B-16-SigLIP",
    ):
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as error:
            load_model(text)
        assert "not in the local cache" in str(error.value)
        assert "\n" not in str(error.value)


def test_an_unreachable_hub_is_asked_once_and_briefly(monkeypatch):
    from huggingface_hub import constants

    from clipbias.models import weights

    asked = []
    monkeypatch.setattr(weights, "offline", lambda: False)
    monkeypatch.setattr(weights, "reachable", lambda url: asked.append(url))
    with pytest.raises(ModelError, match="does not answer"):
        load_model("ViT-B-32/laion2b_s34b_b79k")
    assert asked == [constants.ENDPOINT]


def test_reachable_gives_up_after_its_patience():
    import socket
    import time

    from clipbias.models.weights import reachable

    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        start = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.3)
        assert time.monotonic() - start < 30


def test_weights_in_the_hub_cache_are_used_without_asking(tmp_path, tiny):
    """A tag's file laid out as the hub's client does it is found and loaded, offline."""
    from huggingface_hub import constants

    repo = Path(constants.HF_HUB_CACHE) / "models--me--tiny"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    config = {
        "model_cfg": {**CONFIGS["tiny-vit"], "text_cfg": TEXT},
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))
    saved(tiny, snapshot / "open_clip_model.safetensors")
    model = load_model("hf-hub:me/tiny")
    assert model.digest == tiny.digest
    assert model.preprocess.config["mean"] == [0.5] * 3
    assert model.preprocess_digest != tiny.preprocess_digest


# Trap: the activation (open_clip #771)


def test_a_tag_trained_with_quickgelu_gets_quickgelu_under_the_plain_name(tmp_path, monkeypatch):
    """open_clip 3.3 warns and builds the wrong activation; the weights know nothing of it."""
    right = load_model("random:tiny-vit-quickgelu?seed=2")
    weights = saved(right, tmp_path / "w.safetensors")
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED,
        "tiny-vit",
        {"openai": {"file": str(weights), "quick_gelu": True, "mean": [0.5] * 3}},
    )
    loaded = load_model("tiny-vit/openai")
    assert loaded.config["quick_gelu"] is True
    np.testing.assert_array_equal(loaded.encode_texts(TEXTS), right.encode_texts(TEXTS))
    assert loaded.preprocess.config["mean"] == [0.5] * 3

    # The same weights as a local file: the plain name is another model, and says so where it can be known.
    plain = load_model(f"file:{weights}?model=tiny-vit")
    assert plain.digest == right.digest
    assert plain.image_key != right.image_key
    assert np.abs(plain.encode_texts(TEXTS) - right.encode_texts(TEXTS)).max() > 1e-5
    for query in ("model=tiny-vit-quickgelu", "model=tiny-vit&tag=openai"):
        again = load_model(f"file:{weights}?{query}")
        np.testing.assert_array_equal(again.encode_texts(TEXTS), right.encode_texts(TEXTS))

    named = tmp_path / "vit_b_32.openai" / "w.safetensors"
    named.parent.mkdir()
    named.write_bytes(weights.read_bytes())
    with pytest.warns(ModelWarning, match=r"QuickGELU.*tag 'openai'.*model=tiny-vit-quickgelu"):
        load_model(f"file:{named}?model=tiny-vit")


def test_a_longer_tag_in_the_path_is_not_taken_for_a_shorter_one(tmp_path, monkeypatch, tiny):
    tags = {"dfn2b": {"quick_gelu": True}, "dfn2b_s39b": {}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    path = saved(tiny, tmp_path / "tiny-vit_dfn2b-s39b.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(f"file:{path}?model=tiny-vit")
    path = path.rename(tmp_path / "tiny-vit_dfn2b.safetensors")
    with pytest.warns(ModelWarning, match="tag 'dfn2b'"):
        load_model(f"file:{path}?model=tiny-vit")


def test_config_beside_the_checkpoint_that_wants_quickgelu(tmp_path):
    path = saved(load_model("random:tiny-vit-quickgelu"), tmp_path / "w.safetensors")
    config = {**CONFIGS["tiny-vit-quickgelu"], "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with pytest.warns(ModelWarning, match="QuickGELU"):
        load_model(f"file:{path}?model=tiny-vit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(f"file:{path}").config["quick_gelu"] is True


# Trap: the preprocessing (open_clip #1068)


def test_preprocessing_of_a_local_siglip_is_siglips(tmp_path):
    """A local file of an architecture whose tags agree gets their preprocessing, not open_clip's default."""
    from clipbias.models.load import _architecture

    _, preprocess = _architecture("ViT-B-16-SigLIP2-256", "")
    assert (preprocess["mean"], preprocess["std"], preprocess["resize_mode"]) == (
        [0.5] * 3,
        [0.5] * 3,
        "squash",
    )
    _, preprocess = _architecture("ViT-B-32", "")
    assert (preprocess["mean"], preprocess["resize_mode"]) == (OPENAI_MEAN, "shortest")


def test_order_of_preprocessing_sources(tmp_path, monkeypatch, tiny):
    path = saved(tiny, tmp_path / "w.safetensors")
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED,
        "tiny-vit",
        {"x": {"mean": (0.1, 0.1, 0.1), "resize_mode": "squash"}},
    )

    def config(query: str = "") -> dict:
        return load_model(f"file:{path}?model=tiny-vit{query}").preprocess.config

    assert (config()["mean"], config()["resize_mode"]) == ([0.1] * 3, "squash")
    (tmp_path / "w.json").write_text(
        json.dumps({"preprocess_cfg": {"mean": [0.2] * 3, "interpolation": "bilinear"}})
    )
    assert (config()["mean"], config()["resize_mode"], config()["interpolation"]) == (
        [0.2] * 3,
        "squash",
        "bilinear",
    )
    asked = config("&mean=0.3&std=0.4,0.5,0.6&interpolation=bicubic&resize_mode=longest")
    assert (asked["mean"], asked["std"]) == ([0.3] * 3, [0.4, 0.5, 0.6])
    assert (asked["interpolation"], asked["resize_mode"], asked["size"]) == ("bicubic", "longest", [32, 32])


def test_tags_that_disagree_on_preprocessing_give_a_warning(tmp_path, monkeypatch, tiny):
    path = saved(tiny, tmp_path / "w.safetensors")
    tags = {"a": {"mean": [0.1] * 3}, "b": {"mean": [0.1] * 3}, "c": {"mean": [0.9] * 3}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    with pytest.warns(ModelWarning, match="comes from c, add &tag=NAME"):
        assert load_model(f"file:{path}?model=tiny-vit").preprocess.config["mean"] == [0.1] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(f"file:{path}?model=tiny-vit&tag=c").preprocess.config["mean"] == [0.9] * 3
        load_model(f"file:{path}?model=tiny-vit&mean=0.5")


# Zoo


@pytest.fixture
def fake_zoo(tmp_path, monkeypatch, tiny):
    path = saved(tiny, tmp_path / "zoo.safetensors")
    config = {**CONFIGS["tiny-vit"], "text_cfg": TEXT}
    preprocess = {"mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bicubic", "size": 32}
    card = {
        "parameters": 123, "architecture": "vit", "steps": 10, "batch_size": 5, "world": {"n": 7}, "config": config,
        "planted": {"rho": 0.8, "rho_in": {}},
    }  # fmt: skip
    model = zoo.ZooModel(
        "one", path, config, preprocess, card, frozenset({"a", "photo", "of", "nurse", "t-shirt"})
    )
    monkeypatch.setattr(zoo, "names", lambda: ["one"])
    monkeypatch.setattr(zoo, "card", lambda name: card)
    monkeypatch.setattr(zoo, "resolve", lambda name: model)


def test_zoo_model(fake_zoo, tiny):
    model = load_model("zoo:one")
    assert model.digest == tiny.digest
    assert (model.preprocess.config["mean"], model.preprocess.config["std"]) == ([0.4] * 3, [0.3] * 3)
    assert (model.metadata["parameters"], model.metadata["planted_rho"], model.metadata["samples_seen"]) == (
        123,
        0.8,
        50,
    )
    assert model.metadata["card"]["planted"] == {"rho": 0.8, "rho_in": {}}
    with pytest.raises(ModelError, match="Did you mean 'one'"):
        load_model("zoo:onee")


def test_words_outside_the_vocabulary_are_named_once(fake_zoo):
    model = load_model("zoo:one")
    assert model.unknown_words(["A photo of a nurse's T-shirt", "a qoph"]) == ["qoph"]
    with pytest.warns(ModelWarning, match="never seen in training.*: doctor, qoph") as caught:
        model.encode_texts(["a photo of a doctor", "a photo of a qoph", "a photo of a doctor"], batch_size=1)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode_texts(["a photo of a doctor"])


def test_shipped_zoo_models_load_and_know_their_words():
    """Every shipped model fits its card."""
    for name in zoo.names()[:3]:
        model = load_model(f"zoo:{name}")
        assert model.encode_images([picture(64)]).shape == (1, model.dim)
        word = sorted(model.vocabulary)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.encode_texts([f"{word}"])


# Encoding


def test_broken_images_are_named_by_position(tiny):
    with pytest.raises(BrokenImages, match="position 2 cannot be read: not an image") as error:
        tiny.encode_images([IMAGES[0], IMAGES[1], b"nonsense", b""], batch_size=3)
    assert isinstance(error.value, DataError)
    assert error.value.positions == {2: "not an image"}


def test_text_longer_than_the_context_warns_and_is_cut_as_open_clip_cuts(tiny):
    long = "word " * 40
    with pytest.warns(ModelWarning, match="longer than the 20 tokens"):
        found = tiny.encode_texts([long, "short"])
    with torch.inference_mode():
        expected = tiny.network.encode_text(open_clip.get_tokenizer("tiny-vit")([long, "short"])).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_batching_changes_nothing(tiny):
    np.testing.assert_allclose(
        tiny.encode_images(IMAGES, batch_size=1), tiny.encode_images(IMAGES), rtol=1e-4, atol=1e-6
    )
    assert tiny.encode_images([]).shape == tiny.encode_texts([]).shape == (0, 16)


def test_precision_and_device():
    half = load_model("random:tiny-vit?seed=3", precision="bf16")
    full = load_model("random:tiny-vit?seed=3")
    assert half.digest == full.digest
    assert half.image_key != full.image_key
    assert half.encode_images(IMAGES).dtype == np.float32
    np.testing.assert_allclose(half.encode_images(IMAGES), full.encode_images(IMAGES), atol=0.1)
    assert load_model("random:tiny-vit?precision=bf16").precision == "bf16"
    for options, says in (
        ({"precision": "fp16"}, "needs a GPU"),
        ({"precision": "int8"}, "unknown"),
        ({"device": "gpu"}, "unknown"),
        ({"device": "cuda:99"}, "not here"),
    ):
        with pytest.raises(ModelError, match=says):
            load_model("random:tiny-vit", **options)


@pytest.mark.slow
def test_full_size_vit_survives_both_file_formats(tmp_path):
    source = load_model("random:ViT-B-32?seed=0")
    images, texts = [picture(224, seed=1), picture((300, 200), seed=2)], TEXTS
    expected = source.encode_images(images), source.encode_texts(texts)
    assert source.metadata["parameters"] == 151_277_313
    for name in ("full.safetensors", "full.pt"):
        path = saved(source, tmp_path / name)
        loaded = load_model(f"file:{path}?model=ViT-B-32")
        np.testing.assert_array_equal(loaded.encode_images(images), expected[0])
        np.testing.assert_array_equal(loaded.encode_texts(texts), expected[1])
        assert (loaded.digest, loaded.preprocess_digest) == (source.digest, source.preprocess_digest)
        path.unlink()
