"""The only door to LAVIS: imports it once, on demand, and mends what keeps it from working beside today's packages."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

from clipbias.errors import ClipbiasError

INSTALL = ('pip install "clipbias[lavis]"', "pip install --no-deps lavis-gml==1.0.2.post5")
# Name here -> module and name there.
_PARTS = {
    "registry": ("lavis.common.registry", "registry"),
    "BaseEncoder": ("lavis.models.base_model", "BaseEncoder"),
    "BaseProcessor": ("lavis.processors.base_processor", "BaseProcessor"),
    "BlipCaption": ("lavis.models.blip_models.blip_caption", "BlipCaption"),
    "BlipVQA": ("lavis.models.blip_models.blip_vqa", "BlipVQA"),
    "TextDecoder": ("lavis.models.med", "XBertLMHeadDecoder"),
    "TextEncoder": ("lavis.models.med", "XBertEncoder"),
    "BertConfig": ("lavis.models.med", "BertConfig"),
    "CaptionTask": ("lavis.tasks.captioning", "CaptionTask"),
    "VQATask": ("lavis.tasks.vqa", "VQATask"),
    "CosineSchedule": ("lavis.common.optims", "LinearWarmupCosineLRScheduler"),
    "OmegaConf": ("omegaconf", "OmegaConf"),
}
# Imported by LAVIS for video and for a model that is not used here; there are no wheels of them for every machine.
_UNUSED = ("decord", "spacy")


def installed() -> bool:
    """Tell whether LAVIS is there, without importing it."""
    try:
        return find_spec("lavis") is not None
    except (ImportError, ValueError):
        return False


@cache
def load() -> Any:
    """Import LAVIS and return the parts of it that are used here.

    Returns
    -------
    namespace
        ``registry, BaseEncoder, BaseProcessor, BlipCaption, BlipVQA, TextDecoder, TextEncoder, BertConfig, CaptionTask,
        VQATask, CosineSchedule, OmegaConf``.

    Raises
    ------
    ClipbiasError
        LAVIS, or something that it imports, is missing or too new; says which two commands install it.
    """
    if not installed():
        raise ClipbiasError(_missing("LAVIS is not installed"))
    before = set(sys.modules)
    try:
        with _stand_ins(), _pillow_unchanged(), warnings.catch_warnings():
            # Written for a timm of 2021, whose modules have moved since.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", SyntaxWarning)
            parts = {
                name: getattr(importlib.import_module(module), there)
                for name, (module, there) in _PARTS.items()
            }
    except (ImportError, AttributeError) as problem:
        # What was imported half has registered its classes; a second attempt must not find them there.
        for name in [n for n in set(sys.modules) - before if n.split(".")[0] == "lavis"]:
            del sys.modules[name]
        raise ClipbiasError(
            _missing(f"LAVIS is installed, but cannot be imported here ({problem})")
        ) from problem
    found = SimpleNamespace(**parts)
    _mend_beams(found.TextDecoder)
    _mend_paths(found.registry)
    return found


def register(kind: str, name: str, item: type) -> None:
    """Put a class into LAVIS's registry; one of ours that is there already is replaced, where LAVIS would refuse.

    Parameters
    ----------
    kind : {"model", "processor"}
    name : str
    item : type
    """
    registry = load().registry
    known = registry.mapping[f"{kind}_name_mapping"]
    if name in known and known[name].__module__.split(".")[0] == __name__.split(".")[0]:
        del known[name]
    getattr(registry, f"register_{kind}")(name)(item)


def _missing(problem: str) -> str:
    return (
        f"{problem}. Install it with two commands, in this order:\n  {INSTALL[0]}\n  {INSTALL[1]}\n"
        "or use another head, which needs neither."
    )


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let ``import decord`` and ``import spacy`` pass while LAVIS is imported, where they are missing.

    They go again afterwards, so that nobody else takes them for the real ones.
    """
    # transformers notes once, when it is imported, which packages there are: before the stand-ins come.
    importlib.import_module("transformers")
    planted = [name for name in _UNUSED if name not in sys.modules and find_spec(name) is None]
    for name in planted:
        stand_in: Any = ModuleType(name)
        stand_in.__spec__ = ModuleSpec(name, None)  # find_spec fails on a module without one
        if name == "decord":
            stand_in.VideoReader = stand_in.cpu = None
            stand_in.bridge = SimpleNamespace(set_bridge=lambda backend: None)
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in planted:
            sys.modules.pop(name, None)


@contextmanager
def _pillow_unchanged() -> Iterator[None]:
    """Take back what LAVIS's captioning data set does on import: let Pillow read truncated files as if they were whole."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _mend_beams(decoder: Any) -> None:
    """Keep beam search working: transformers since 4.27 repeats the image once per beam, and LAVIS has done so already."""
    from transformers.generation.utils import GenerationMixin

    def expand(
        expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **given: Any
    ) -> tuple[Any, dict]:
        ready = {
            key: given.pop(key)
            for key in ("encoder_hidden_states", "encoder_attention_mask")
            if given.get(key) is not None and given[key].size(0) == input_ids.size(0) * expand_size
        }
        input_ids, rest = GenerationMixin._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **given
        )
        return input_ids, {**rest, **ready}

    decoder._expand_inputs_for_generation = staticmethod(expand)


def _mend_paths(registry: Any) -> None:
    """Replace LAVIS's hard-coded cache folder, which is somebody else's home, by one in the user's cache."""
    from platformdirs import user_cache_path

    registry.mapping["paths"]["cache_root"] = str(user_cache_path("clipbias") / "lavis")
