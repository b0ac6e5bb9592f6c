"""Registers the small architectures with open_clip, and a hub cache with nothing in it."""

from __future__ import annotations

import pytest
from tiny_clip import register


@pytest.fixture(scope="session", autouse=True)
def _tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(autouse=True)
def _empty_hub(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has downloaded must not decide a test."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
