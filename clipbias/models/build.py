"""From a config to a network, and from a checkpoint into it.

Every kind of model is built the same way: its resolved config goes into a temporary folder in open_clip's
own ``local-dir:`` form, so nothing is registered globally, and its weights go in through open_clip's own
``load_checkpoint``.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch

from clipbias.errors import ModelError
from clipbias.models.weights import cached, first_line, hub_file, is_torchscript

_SHOWN = 3  # tensors named in an error before the rest is counted


class ModelWarning(UserWarning):
    """A model was loaded, but something about it deserves a look."""


def build_network(
    model_cfg: Mapping, preprocess_cfg: Mapping, *, seed: int = 0, what: str
) -> torch.nn.Module:
    """Return an open_clip network with random weights drawn from ``seed``, in eval mode on the CPU.

    Parameters
    ----------
    model_cfg : mapping
        open_clip model config: ``embed_dim``, ``vision_cfg``, ``text_cfg`` and switches.
    preprocess_cfg : mapping
        Fields of open_clip's ``PreprocessCfg``; the image size is set from the network.
    seed : int
        Torch's seed while the weights are drawn; the caller's own random state is left as it was.
    what : str
        The model's name, used in errors.

    Raises
    ------
    ModelError
        The config does not describe a network, or its text tower's config cannot be had.
    """
    hf_tower = model_cfg.get("text_cfg", {}).get("hf_model_name")
    if hf_tower:
        hub_file(hf_tower, ["config.json"], what=f"{what} needs the config of its text tower")
    with tempfile.TemporaryDirectory() as folder, _quiet(), torch.random.fork_rng(devices=[]):
        config = {"model_cfg": dict(model_cfg), "preprocess_cfg": dict(preprocess_cfg)}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
        torch.manual_seed(seed)
        try:
            network = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        except Exception as problem:  # a wrong config fails in many ways, all of them the config's
            raise ModelError(
                f"{what}: open_clip cannot build this config: {first_line(problem)}"
            ) from problem
    return network.eval()


def load_weights(network: torch.nn.Module, path: Path, *, what: str) -> None:
    """Load a checkpoint into a network, strictly.

    Warns when a position table has another length than the network's: open_clip stretches it in silence,
    which is right for another resolution and wrong for another architecture.

    Raises
    ------
    ModelError
        The file cannot be read, or its tensors are not those of the network; the message names the first ones.
    """
    shapes = checkpoint_shapes(path, what=what)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    try:
        with _quiet():
            open_clip.load_checkpoint(network, str(path), strict=True, weights_only=True)
    except Exception as problem:  # torch reports a misfit as RuntimeError, conversions as KeyError and others
        raise ModelError(
            f"{what}: {path} does not fit the architecture. {_misfit(shapes, expected, problem)}"
        ) from problem
    for name in ("visual.positional_embedding", "visual.trunk.pos_embed"):
        if name in shapes and name in expected and shapes[name] != expected[name]:
            warnings.warn(
                f"{what}: {name} of {path} is {shapes[name]}, the architecture's is {expected[name]}; open_clip "
                f"interpolates it. If the file was trained at another resolution, name that architecture.",
                ModelWarning,
                stacklevel=2,
            )


def checkpoint_shapes(path: Path, *, what: str) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each tensor in a checkpoint.

    Raises
    ------
    ModelError
        The file is damaged, holds a program or Python objects instead of plain tensors, or no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            shapes = {name: tuple(value.shape) for name, value in _torch_tensors(path).items()}
    except ModelError as problem:
        raise ModelError(f"{what}: {path} {problem}") from problem
    except Exception as problem:  # safetensors, pickle, zip and torch each have their own
        raise ModelError(f"{what}: {path} cannot be read as a checkpoint: {first_line(problem)}") from problem
    if not shapes:
        raise ModelError(f"{what}: {path} holds no tensors.")
    return {name.removeprefix("module."): shape for name, shape in shapes.items()}


def _torch_tensors(path: Path) -> dict[str, torch.Tensor]:
    if is_torchscript(path):
        raise ModelError(
            "is a TorchScript archive (OpenAI's own downloads are), which is a program and is not run. Use the same "
            "weights by name, for example ViT-B-32/openai, or save its state dict as .safetensors."
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as problem:
        if "mmap" not in str(problem):
            raise
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        if "Unsupported global" not in str(problem) and "weights_only" not in str(problem).lower():
            raise
        raise ModelError(
            "holds Python objects besides tensors, or is damaged; loading it could run code, so it is not "
            "loaded. Save the state dict alone: torch.save(model.state_dict(), PATH) or as .safetensors."
        ) from problem
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ModelError("holds no state dict: a mapping from names to tensors was expected.")
    return dict(content)


def _misfit(found: dict[str, tuple], expected: dict[str, tuple], problem: Exception) -> str:
    """Say which tensors differ, first those of another size, then the missing, then the surplus."""
    if any(name.startswith("text.") for name in expected) and "positional_embedding" in found:
        from open_clip.model import convert_to_custom_text_state_dict

        found = convert_to_custom_text_state_dict(found)
    sizes = [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in expected
        if found.get(name, expected[name]) != expected[name]
    ]
    # Position tables last: open_clip stretches them, so another tensor is the trouble.
    sizes.sort(key=lambda text: "pos_embed" in text or "positional_embedding" in text)
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    parts = [
        f"{title}: {'; '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for title, names in (
            ("Other size", sizes),
            ("Missing", missing),
            ("Not in the architecture", surplus),
        )
        if names
    ]
    if any(name.startswith(("text_model.", "vision_model.")) for name in surplus):
        parts.append("The names are those of transformers' CLIPModel; open_clip's names are needed")
    return ". ".join(parts) + "." if parts else first_line(problem)


def build_tokenizer(model_cfg: Mapping, *, folder: Path | None, what: str) -> Any:
    """Return open_clip's tokenizer for a config.

    Parameters
    ----------
    folder : path or None
        Folder of a local checkpoint; its own tokenizer files, when it has any, are used before the hub's.

    Raises
    ------
    ModelError
        The tokenizer lies on the hub and cannot be had.
    """
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text_cfg = model_cfg["text_cfg"]
    length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
    options = copy.deepcopy(text_cfg.get("tokenizer_kwargs", {}))
    source = text_cfg.get("hf_tokenizer_name")
    if not source:
        return SimpleTokenizer(context_length=length, **options)
    files = ["tokenizer.json", "tokenizer_config.json"]
    if folder is not None and any((folder / name).is_file() for name in files):
        source = str(folder)
    else:
        local = cached(source, files) is not None
        hub_file(source, files, what=f"{what} needs its tokenizer")
        options = {**options, "local_files_only": True} if local else options
    try:
        return HFTokenizer(
            source, context_length=length, tokenizer_mode=text_cfg.get("tokenizer_mode"), **options
        )
    except Exception as problem:
        raise ModelError(
            f"{what}: its tokenizer {source!r} cannot be loaded: {first_line(problem)}"
        ) from problem


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's remarks on the root logger ("initialized randomly") from the user's terminal."""
    root = logging.getLogger()
    handler = logging.NullHandler()  # without any handler, logging would install one for good

    def foreign(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addHandler(handler)
    root.addFilter(foreign)
    try:
        yield
    finally:
        root.removeFilter(foreign)
        root.removeHandler(handler)
