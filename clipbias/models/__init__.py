"""Models: one name, one function, and a CLIP with the right preprocessing comes out.

``load_model("ViT-B-32/laion2b_s34b_b79k")``, ``load_model("file:mine.safetensors?model=ViT-B-32")``,
``load_model("zoo:NAME")``, ``load_model("random:ViT-B-32?seed=0")``. Names are read without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipbias.models.spec import ModelSpec, parse_spec, parse_specs, split_specs

if TYPE_CHECKING:
    from clipbias.models.build import ModelWarning
    from clipbias.models.clip import BrokenImages, Clip
    from clipbias.models.load import Source, load_model
    from clipbias.models.metadata import list_models

__all__ = [
    "BrokenImages", "Clip", "ModelSpec", "ModelWarning", "Source", "list_models", "load_model", "parse_spec", "parse_specs",
    "split_specs",
]  # fmt: skip

_LAZY = {
    "BrokenImages": "clip",
    "Clip": "clip",
    "ModelWarning": "build",
    "list_models": "metadata",
    "load_model": "load",
    "Source": "load",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"clipbias.models.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
