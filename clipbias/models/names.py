"""What exists: architectures and tags of open_clip, zoo models, checkpoints on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.errors import ModelError, nearest

if TYPE_CHECKING:
    from clipbias.models.spec import ModelSpec

CONFIG_NAME = "open_clip_config.json"


def architecture(name: str) -> str:
    """Return the open_clip architecture of that name, or a `ModelError` naming the nearest."""
    import open_clip

    if open_clip.get_model_config(name) is None:
        raise ModelError(f"open_clip has no model {name!r}." + nearest(name, open_clip.list_models()))
    return name


def tag(model: str, name: str) -> str:
    """Return the pretrained tag of an architecture in open_clip's spelling.

    Raises
    ------
    ModelError
        The architecture has no such tag; the message names the nearest, or all when none was given.
    """
    import open_clip

    known = open_clip.list_pretrained_tags_by_model(model)
    if not known:
        raise ModelError(
            f"open_clip has no pretrained weights for {model!r}. For its architecture without training "
            f"use random:{model}; for a checkpoint of your own file:PATH?model={model}."
        )
    if not name:
        raise ModelError(
            f"{model!r} needs a tag, {model}/{known[0]}. Known: {', '.join(known)}. Untrained: random:{model}."
        )
    clean = name.lower().replace("-", "_")
    if clean not in known:
        raise ModelError(f"{model!r} has no pretrained tag {name!r}." + nearest(clean, known))
    return clean


def zoo(name: str) -> str:
    """Return the name of a shipped model, or a `ModelError` naming the nearest."""
    from clipbias import zoo

    if name not in zoo.names():
        raise ModelError(f"the zoo has no model {name!r}." + nearest(name, zoo.names()))
    return name


def checkpoint(spec: ModelSpec) -> Path:
    """Return the path of a ``file:`` spec after checking that it and its architecture exist."""
    path = Path(spec.name).expanduser()
    if not path.is_file():
        found = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        where = f"there is no file {path.name!r} in {path.parent}." if found else f"there is no file {path}."
        raise ModelError(f"{str(spec)!r}: {where}" + (nearest(path.name, found) if found else ""))
    model = spec.option("model")
    if model is not None:
        architecture(model)
        if spec.option("tag"):
            tag(model, spec.option("tag") or "")
    elif spec.option("tag"):
        raise ModelError(f"{str(spec)!r}: tag= needs model= as well, for example {spec}&model=ViT-B-32.")
    elif "model_cfg" not in sidecar(path):
        raise ModelError(
            f"{str(spec)!r} does not say which architecture the file holds: add ?model=NAME, for example "
            f"file:{spec.name}?model=ViT-B-32, or put open_clip's {CONFIG_NAME} beside it."
        )
    return path


def sidecar(path: Path) -> dict:
    """Return the JSON config beside a checkpoint (``STEM.json`` or ``open_clip_config.json``), else ``{}``.

    Raises
    ------
    ModelError
        The config is there but is not a JSON object.
    """
    for candidate in (path.with_suffix(".json"), path.parent / CONFIG_NAME):
        if candidate.is_file():
            try:
                config = json.loads(candidate.read_text(encoding="utf-8"))
            except (OSError, ValueError) as problem:
                raise ModelError(
                    f"the config {candidate} beside the checkpoint cannot be read: {problem}."
                ) from problem
            if isinstance(config, dict) and ("model_cfg" in config or "preprocess_cfg" in config):
                return config
    return {}
