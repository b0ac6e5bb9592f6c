"""Kinds of model that another package adds by entry point."""

from importlib.metadata import EntryPoint

import open_clip
import pytest
import tiny_clip
import torch

from clipbias.errors import ModelError
from clipbias.models import Source, load_model, outside, parse_spec


def tiny(spec):
    """A package's function: any name is a tiny ViT drawn from the option seed."""
    return Source(
        open_clip.get_model_config("tiny-vit"),
        {"size": 32},
        seed=int(spec.option("seed") or 0),
        model=spec.name,
    )


@pytest.fixture
def added(monkeypatch, tmp_path):
    tiny_clip.register(tmp_path)
    points = {
        name: EntryPoint(name, f"{__name__}:{target}", outside.GROUP)
        for name, target in (("ours", "tiny"), ("wrong", "pytest"), ("gone", "no_such"))
    }
    points["gone"] = EntryPoint("gone", "no_such_package:load", outside.GROUP)
    points["wrong"] = EntryPoint("wrong", "builtins:str", outside.GROUP)
    monkeypatch.setattr(outside, "kinds", lambda: points)


def test_an_added_kind_loads_like_any_other(added):
    first, same, other = (load_model(f"ours:anything?seed={seed}") for seed in (1, 1, 2))
    assert first.spec.kind == "ours"
    pixels = torch.zeros(2, 3, 32, 32)
    assert first.encode_pixels(pixels).shape == (2, 16)
    assert first.digest == same.digest != other.digest


def test_what_goes_wrong_is_said(added):
    with pytest.raises(ModelError, match="returned str, not a clipbias.models.Source"):
        load_model("wrong:x")
    with pytest.raises(
        ModelError, match="no_such_package:load, which reads gone: models, cannot be imported"
    ):
        load_model("gone:x")
    with pytest.raises(ModelError, match="unknown kind of model 'our:'. Did you mean 'ours'"):
        parse_spec("our:x")
