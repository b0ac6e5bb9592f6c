"""Towers of every kind: features, states of blocks, what is trained, and features kept on disk."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image

from clipbias.data.imageset import ImageSet
from clipbias.embedding import CacheWarning, EmbeddingCache
from clipbias.errors import ClipbiasError, DataError, ModelError
from clipbias.models import load_model
from clipbias.tasks.frozen import FeatureCache, PixelSource, frozen_features
from clipbias.tasks.vision import Tower

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TIMM = {"image_size": 64, "timm_model_pretrained": False}
SIGLIP = {
    "image_size": 160, "timm_model_name": "test_vit3", "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none",
}  # fmt: skip
CONFIGS = {
    "tower-vit": {"vision_cfg": VIT},
    "tower-vit-pooled": {"vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}},
    "tower-resnet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}},
    "tower-convnext": {
        "vision_cfg": TIMM | {"timm_model_name": "test_convnext3", "timm_pool": "avg", "timm_proj": "linear"}
    },
    "tower-siglip": {"vision_cfg": SIGLIP, "custom_text": True, "init_logit_bias": -10, "embed_dim": 96},
    "tower-mobile": {
        "vision_cfg": TIMM | {"timm_model_name": "fastvit_t8", "timm_pool": "avg", "timm_proj": "linear"},
        "custom_text": True,
    },
}  # fmt: skip
# tokens and their width, and the number of blocks
SHAPES = {
    "tower-vit": (16, 32, 2), "tower-vit-pooled": (16, 32, 2), "tower-resnet": (1, 256, 5),
    "tower-convnext": (4, 128, 4), "tower-siglip": None, "tower-mobile": None,
}  # fmt: skip


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "text_cfg": TEXT, **config}))
    open_clip.add_model_config(folder)
    kept = {}

    def get(name):
        if name not in kept:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kept[name] = load_model(f"random:{name}?seed=0")
            for module in kept[name].network.visual.modules():
                # A new ResNet has zeros here, which keep gradients out of its residual branches.
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.ones_(module.weight)
        return kept[name]

    return get


def pixels(clip, n=3, seed=0):
    return torch.randn(n, 3, *clip.image_size, generator=torch.Generator().manual_seed(seed))


def picture(seed: int, size: int = 32) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def noise(images: list[bytes]) -> ImageSet:
    table = pd.DataFrame({"image_id": [f"i{row}" for row in range(len(images))]})
    return ImageSet("noise", table, (), lambda rows: [images[row] for row in rows])


# -- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_features_of_every_kind_of_tower(clips, name):
    clip = clips(name)
    tower, seen = Tower(clip), pixels(clips(name))
    found = tower.features(seen)
    assert found.pooled.shape == (3, tower.pooled_width)
    assert found.tokens.shape == (3, tower.n_tokens, tower.token_width)
    assert found.pooled.dtype == found.tokens.dtype == torch.float32
    wanted = torch.nn.functional.normalize(torch.from_numpy(clip.encode_pixels(seen)), dim=1)
    torch.testing.assert_close(found.pooled, wanted, atol=1e-5, rtol=1e-4)
    if SHAPES[name] is not None:
        assert (tower.n_tokens, tower.token_width) == SHAPES[name][:2]
    assert found.tokens.std(0).max() > 0  # they say something of the image


@pytest.mark.parametrize("name", CONFIGS)
def test_states_of_blocks(clips, name):
    tower, seen = Tower(clips(name)), pixels(clips(name))
    states = tower.layers(seen)
    blocks = [key for key in states if key != "tower.embedding"]
    assert blocks == [f"tower.{i}" for i in range(len(blocks))]
    if SHAPES[name] is not None:
        assert len(blocks) == SHAPES[name][2]
    assert all(values.shape[0] == 3 and values.ndim == 2 for values in states.values())
    found = tower.features(seen)
    torch.testing.assert_close(states["tower.embedding"], found.pooled)
    torch.testing.assert_close(states[blocks[-1]], found.tokens.mean(1), atol=1e-5, rtol=1e-4)


def test_tokens_lie_row_by_row(clips):
    """A change in one corner of the image moves the tokens of that corner most (ConvNeXt: 2 x 2 tokens)."""
    clip = clips("tower-convnext")
    tower, seen = Tower(clip), pixels(clip, 1)
    other = seen.clone()
    other[..., :16, 48:] += 3.0  # top right
    moved = (tower.features(other).tokens - tower.features(seen).tokens).norm(dim=2)[0]
    assert int(moved.argmax()) == 1


def test_a_grid_averages_tokens(clips):
    clip = clips("tower-vit")
    whole, few = Tower(clip), Tower(clip, grid=2)
    seen = pixels(clip)
    tokens = whole.features(seen).tokens.view(3, 2, 2, 2, 2, 32).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(few.features(seen).tokens, tokens)
    assert few.n_tokens == 4
    assert few.features_key != whole.features_key
    assert Tower(clip, grid=9).n_tokens == 16


def test_a_tower_without_tokens_is_refused(clips):
    class Flat(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :16]

    clip = load_model("random:tower-vit?seed=1")
    clip.network.visual = Flat()
    with pytest.raises(ModelError, match=r"tower-vit.*\(Flat\) gives no spatial tokens"):
        Tower(clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit-50", "resnet-50", "convnext-50"])
def test_zoo_towers(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))
    clip = load_model(f"zoo:{name}")
    for mode in ("lora", "full"):
        tower, seen = Tower(clip), pixels(clip)
        before = tower.features(seen)
        tower.make_trainable(mode)
        torch.testing.assert_close(tower.features(seen).tokens.detach(), before.tokens, atol=1e-4, rtol=1e-3)
        assert 0 < tower.parameter_count["trained"] <= tower.parameter_count["total"]


# -- training ------------------------------------------------------------------------------------


def step(tower: Tower, seen: torch.Tensor, n: int = 2) -> None:
    optimizer = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], 0.1)
    tower.train()
    for _ in range(n):
        optimizer.zero_grad()
        found = tower.features(seen)
        (found.pooled[:, 0].sum() + found.tokens.square().mean()).backward()
        optimizer.step()
    tower.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_lora_changes_only_adapters(clips, name):
    clip = clips(name)
    tower, seen, digest = Tower(clip), pixels(clips(name)), clips(name).digest
    frozen = tower.features(seen)
    tower.make_trainable("lora", rank=2, seed=3)
    torch.testing.assert_close(tower.features(seen).tokens.detach(), frozen.tokens, atol=1e-5, rtol=1e-4)
    assert tower.adapted
    assert 0 < tower.parameter_count["trained"] < tower.parameter_count["total"]
    assert all("lora_" in key for key, p in tower.named_parameters() if p.requires_grad)
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    step(tower, seen)
    unused = [key for key, p in tower.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []
    changed = {key for key, value in tower.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all("lora_" in key for key in changed)
    # Every adapter has an effect on what the tower computes, in its own module.
    assert {key.split(".lora_")[0].removeprefix("visual.") for key in changed} == set(tower.adapted)
    assert not torch.allclose(tower.features(seen).tokens, frozen.tokens)
    assert state_of(clip) == digest


def state_of(clip) -> str:
    from clipbias.models.clip import state_digest

    return state_digest(clip.network.state_dict())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_adapted_clip_computes_what_the_tower_does(clips, name, mode):
    clip = clips(name)
    tower, seen = Tower(clip), pixels(clips(name))
    tower.make_trainable(mode, rank=2)
    step(tower, seen)
    made = tower.adapted_clip()
    found = torch.nn.functional.normalize(torch.from_numpy(made.encode_pixels(seen)), dim=1)
    torch.testing.assert_close(found, tower.features(seen).pooled.detach(), atol=1e-4, rtol=1e-3)
    assert list(made.network.state_dict()) == list(clip.network.state_dict())
    assert made.digest != clip.digest
    assert made.image_key != clip.image_key
    assert state_of(clip) == clip.digest
    # What was trained stays trainable, and can be asked for again.
    assert tower.parameter_count["trained"] > 0


def test_full_trains_everything_but_batch_statistics(clips):
    clip = clips("tower-resnet")
    tower, seen = Tower(clip), pixels(clip, 4)
    tower.make_trainable("full")
    assert tower.parameter_count["trained"] == tower.parameter_count["total"]
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    step(tower, seen)
    changed = {key for key, value in tower.state_dict().items() if not torch.equal(value, before[key])}
    assert any(key.endswith("weight") for key in changed)
    assert not any("running" in key or "num_batches" in key for key in changed)


def test_depthwise_convolutions_and_the_attention_pool_are_not_adapted(clips):
    for name, kinds in (("tower-convnext", "conv_dw"), ("tower-resnet", "attnpool")):
        tower = Tower(clips(name))
        tower.make_trainable("lora")
        assert not any(kinds in target for target in tower.adapted)
    vit = Tower(clips("tower-vit"))
    vit.make_trainable("lora")
    for part in ("attn.qkv", "attn.out", "mlp.c_fc", "mlp.c_proj"):
        assert f"transformer.resblocks.1.{part}" in vit.adapted


def test_the_same_seed_gives_the_same_adapters(clips):
    states = []
    for seed in (1, 1, 2):
        tower = Tower(clips("tower-vit"))
        torch.manual_seed(len(states))
        tower.make_trainable("lora", seed=seed)
        states.append(tower.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())


def test_modes_are_checked_and_frozen_stays_frozen(clips):
    tower = Tower(clips("tower-vit"))
    with pytest.raises(ClipbiasError, match="Did you mean 'frozen'"):
        tower.make_trainable("frozn")
    tower.make_trainable("frozen")
    assert not tower.train().visual.training
    assert tower.parameter_count["trained"] == 0
    assert tower.adapted_clip() is tower.clip
    assert not tower.features(pixels(tower.clip)).pooled.requires_grad
    tower.make_trainable("full")
    with pytest.raises(ClipbiasError, match="already trainable"):
        tower.make_trainable("lora")


# -- features on disk ----------------------------------------------------------------------------


@pytest.fixture
def tower(clips) -> Tower:
    return Tower(clips("tower-vit"))


def test_frozen_features_are_computed_once(tower, tmp_path):
    images = noise([picture(i % 5) for i in range(7)])
    cold = FeatureCache(tmp_path)
    first = frozen_features(tower, images, cache=cold)
    assert (cold.stats.computed, cold.stats.reused) == (5, 0)  # two of the seven are the same pictures
    warm = FeatureCache(tmp_path)
    again = frozen_features(tower, images, cache=warm)
    assert (warm.stats.computed, warm.stats.reused) == (0, 5)
    rows = np.array([6, 0, 1])
    for part in ("pooled", "tokens"):
        assert torch.equal(getattr(first(rows), part), getattr(again(rows), part))
        assert torch.equal(getattr(first(rows), part), getattr(first, part)[rows])
    live = PixelSource(tower, images)(rows)
    torch.testing.assert_close(first(rows).pooled, live.pooled)
    error = (first(rows).tokens - live.tokens).abs().max() / live.tokens.abs().max()
    assert float(error) < 6e-4  # float16
    assert torch.equal(first(np.array([1])).tokens, first(np.array([6])).tokens)


def test_a_new_image_is_added_to_what_is_there(tower, tmp_path):
    frozen_features(tower, noise([picture(0), picture(1)]), cache=FeatureCache(tmp_path))
    cache = FeatureCache(tmp_path)
    found = frozen_features(tower, noise([picture(2), picture(1), picture(0)]), cache=cache)
    assert (cache.stats.computed, cache.stats.reused) == (1, 2)
    alone = frozen_features(tower, noise([picture(2)]))
    assert torch.allclose(found(np.array([0])).pooled, alone(np.array([0])).pooled, atol=1e-6)


def test_other_towers_and_grids_have_features_of_their_own(tower, clips, tmp_path):
    images = noise([picture(0)])
    frozen_features(tower, images, cache=FeatureCache(tmp_path))
    for other in (Tower(tower.clip, grid=2), Tower(clips("tower-resnet"))):
        cache = FeatureCache(tmp_path)
        frozen_features(other, images, cache=cache)
        assert cache.stats.computed == 1


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_damaged_file_is_reported_and_computed_again(tower, tmp_path, harm):
    images = noise([picture(0), picture(1)])
    first = frozen_features(tower, images, cache=FeatureCache(tmp_path))
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    if harm == "cut":
        content = content[:-9]
    else:
        content[-5] ^= 255
    path.write_bytes(content)
    with pytest.warns(CacheWarning, match="is damaged"):
        again = frozen_features(tower, images, cache=FeatureCache(tmp_path))
    assert torch.equal(first.tokens, again.tokens)
    assert list(tmp_path.rglob("*.damaged"))
    cache = FeatureCache(tmp_path)
    frozen_features(tower, images, cache=cache)
    assert cache.stats.reused == 2


def test_a_cache_that_cannot_be_written_costs_no_result(tower, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(CacheWarning, match="cannot be written"):
        found = frozen_features(tower, noise([picture(0)]), cache=FeatureCache(tmp_path / "file"))
    assert len(found) == 1


def test_an_embedding_cache_stands_for_the_folder_beside_it(tower, tmp_path):
    frozen_features(tower, noise([picture(0)]), cache=EmbeddingCache(tmp_path / "embeddings"))
    assert list((tmp_path / "features").rglob("*.safetensors"))


def test_unreadable_images_are_left_out_and_named(tower):
    images = noise([picture(0), b"no image", picture(1)])
    found = frozen_features(tower, images)
    assert found.rows.tolist() == [0, 2]
    assert found.left_out.to_dict("records") == [{"item": "i1", "reason": "not an image"}]
    assert found(np.array([2])).pooled.shape == (1, 16)
    with pytest.raises(DataError, match="position 1 has no features"):
        found(np.array([0, 1]))
    with pytest.raises(DataError, match="'i1' of 'noise' cannot be read"):
        frozen_features(tower, images, bad="raise")
    with pytest.raises(DataError, match="none of the 1 images"):
        frozen_features(tower, noise([b""]))
    with pytest.raises(DataError, match="'i1' of 'noise'"):
        PixelSource(tower, images)(np.array([1]))


def test_only_the_images_asked_for_are_computed(tower, tmp_path):
    cache = FeatureCache(tmp_path)
    found = frozen_features(tower, noise([picture(i) for i in range(6)]), rows=[4, 1, 4], cache=cache)
    assert cache.stats.computed == 2
    assert found.rows.tolist() == [1, 4]


def test_progress_is_told(tower):
    told = []
    frozen_features(
        tower, noise([picture(i) for i in range(3)]), on_batch=lambda done, of: told.append((done, of))
    )
    assert told == [(3, 3)]


def test_a_trained_tower_has_no_frozen_features(clips, monkeypatch):
    tower = Tower(clips("tower-vit"))
    tower.make_trainable("full")
    with pytest.raises(ValueError, match="is trained"):
        frozen_features(tower, noise([picture(0)]))
    source = PixelSource(tower, noise([picture(0), picture(1)]))
    passed: list[int] = []
    compute = tower.features
    monkeypatch.setattr(tower, "features", lambda pixels: (passed.append(len(pixels)), compute(pixels))[1])
    found = source(np.array([1, 0, 1])).pooled
    assert found.requires_grad
    assert passed == [2]  # an image that comes twice is computed once
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert set(source.layers(np.array([0]))) == {"tower.0", "tower.1", "tower.embedding"}


def test_features_that_are_not_finite_are_refused(clips, tmp_path):
    clip = load_model("random:tower-vit?seed=2")
    with torch.no_grad():
        clip.network.visual.conv1.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        frozen_features(Tower(clip), noise([picture(0)]))
