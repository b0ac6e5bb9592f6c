"""What adaptation leaves on disk: the progress of a run, and adapted models that prove themselves when they are loaded."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from clipbias.errors import ClipbiasError, ModelError

FIXTURES = 8
TOLERANCE = 1e-4  # cosine distance below which an embedding counts as reproduced


class StorageError(ClipbiasError):
    """A file cannot be written. What was there before is untouched; one unit of work fails."""

    exit_code = 1


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name and rename it when it is whole.

    Raises
    ------
    StorageError
        The disk is full, the folder is read-only, ...; nothing is left behind.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as problem:
        _remove(temporary)
        raise cannot_write(path, problem) from problem
    except BaseException as problem:
        _remove(temporary)
        # torch reports a failed write as RuntimeError, after the OSError of the file below it.
        cause = problem.__context__
        if isinstance(problem, RuntimeError) and isinstance(cause, OSError):
            raise cannot_write(path, cause) from problem
        raise


def cannot_write(path: Path | str, problem: OSError) -> StorageError:
    """Return the error that says why a file cannot be written and what to do."""
    hint = "Free some space" if problem.errno == errno.ENOSPC else "Mend that, or choose another --out"
    return StorageError(
        f"{path} cannot be written: {problem.strerror or problem}. {hint} and run the same command again; "
        f"what is done is kept."
    )


def _remove(path: str) -> None:
    if path:
        Path(path).unlink(missing_ok=True)


# -- progress -----------------------------------------------------------------------------------


def save_progress(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write where training stands; ``key`` names what it is the progress of."""
    with whole_file(path) as file:
        torch.save({"key": key, **state}, file)


def load_progress(path: Path, key: str) -> dict[str, Any] | None:
    """Return where training stood, or None if there is nothing that can be used."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as problem:  # zip, pickle and torch each have their own
        warnings.warn(f"{path} is damaged ({problem}); training starts again.", stacklevel=2)
        return None
    return state if isinstance(state, dict) and state.get("key") == key else None


def forget(path: Path) -> None:
    """Remove progress that is no longer needed."""
    path.unlink(missing_ok=True)


# -- adapted models -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Adapted:
    """An adapted model, loaded.

    Attributes
    ----------
    clip : clipbias.models.Clip
        The CLIP, with the adapted vision tower in modes ``lora`` and ``full``.
    head : Head
    about : dict
        Model, task, head, mode, intervention, seed, answers, vocabulary, config, preprocessing.
    """

    clip: Any
    head: Any
    about: dict[str, Any]


def save_adapted(
    folder: Path,
    *,
    about: Mapping[str, Any],
    head: Mapping[str, Tensor],
    tower: Mapping[str, Tensor] | None,
    fixtures: list[bytes],
    embeddings: np.ndarray,
) -> None:
    """Write an adapted model: ``head.safetensors``, ``tower.safetensors`` if trained, ``fixtures.safetensors``, ``about.json``.

    Parameters
    ----------
    about : mapping
        JSON values: resolved model config and preprocessing, head, options, answers, vocabulary, ...
    head, tower : state dict
    fixtures : list of bytes
        Pictures of `fixture_images`.
    embeddings : numpy.ndarray, float32 (8, d)
        What the (adapted) tower makes of them, L2-normalised.
    """
    from safetensors.torch import save

    def tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A clone each: safetensors refuses tensors that share memory (tied weights).
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}

    parts: dict[str, Callable[[], bytes]] = {"head.safetensors": lambda: save(tensors(head))}
    if tower is not None:
        parts["tower.safetensors"] = lambda: save(tensors(tower))
    pictures = {
        f"image{i}": torch.frombuffer(bytearray(data), dtype=torch.uint8) for i, data in enumerate(fixtures)
    }
    parts["fixtures.safetensors"] = lambda: save({**pictures, "embeddings": torch.from_numpy(embeddings)})
    # Last, so that a folder with about.json is whole.
    parts["about.json"] = lambda: (json.dumps(dict(about), indent=1, sort_keys=True) + "\n").encode()
    for name, content in parts.items():
        with whole_file(folder / name) as file:
            file.write(content())


def read_adapted(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor] | None]:
    """Return ``about``, the head's state and the tower's state (None where it was not trained).

    Raises
    ------
    ModelError
        The folder holds no whole adapted model.
    """
    from safetensors.torch import load_file

    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        head = load_file(folder / "head.safetensors")
        path = folder / "tower.safetensors"
        return about, head, load_file(path) if path.exists() else None
    except Exception as problem:  # safetensors has its own kind
        raise ModelError(f"{folder} holds no whole adapted model ({problem}). Adapt it again.") from problem


def check_fixtures(folder: Path, encode: Callable[[list[bytes]], np.ndarray]) -> None:
    """Assert that a loaded tower makes of the fixture images what it made when it was saved.

    A CLIP can be loaded with another activation or preprocessing without any error; this is where it shows.

    Raises
    ------
    ModelError
        It does not.
    """
    from safetensors.torch import load_file

    try:
        kept = load_file(folder / "fixtures.safetensors")
    except Exception as problem:
        raise ModelError(
            f"{folder}/fixtures.safetensors cannot be read ({problem}). Adapt it again."
        ) from problem
    wanted = kept.pop("embeddings").numpy()
    found = encode([bytes(kept[f"image{i}"].numpy()) for i in range(len(kept))])
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    off = float((1 - (found * wanted).sum(1)).max()) if found.shape == wanted.shape else float("inf")
    if not off <= TOLERANCE:
        raise ModelError(
            f"{folder}: the loaded model does not reproduce the embeddings of the fixture images (cosine distance up to "
            f"{off:.3g}, allowed {TOLERANCE:g}). Another activation, preprocessing or library version is at work."
        )


def load_adapted(folder: str | Path, *, device: str = "cpu") -> Adapted:
    """Load an adapted model: the CLIP by its spec, the adapted tower's weights, the head.

    Parameters
    ----------
    folder : path
        ``RUN/checkpoints/UNIT``.
    device : str

    Raises
    ------
    ModelError
        The folder holds no whole adapted model, the CLIP cannot be had or has another config or preprocessing now, or
        the embeddings of the fixture images are not reproduced.
    """
    from clipbias.models import load_model
    from clipbias.models.clip import Clip
    from clipbias.tasks.heads import build_head
    from clipbias.tasks.heads.base import HeadSetting
    from clipbias.tasks.vocabulary import Vocabulary

    folder = Path(folder)
    about, head_state, tower = read_adapted(folder)
    clip = load_model(about["model"], device=device, precision=about["precision"])
    for name, found in (("config", clip.config), ("preprocess", clip.preprocess.config)):
        if json.loads(json.dumps(found)) != about[name]:
            raise ModelError(f"{folder}: {about['model']} now has another {name} than when it was adapted.")
    if tower is not None:
        network = clip.network
        network.visual.load_state_dict(tower)
        clip = Clip(
            clip.spec, network, config=clip.config, preprocess=clip.preprocess, tokenizer=clip.tokenizer,
            metadata=clip.metadata, vocabulary=clip.vocabulary, device=clip.device, precision=clip.precision,
        )  # fmt: skip
    check_fixtures(folder, clip.encode_images)
    setting = HeadSetting(
        about["head_task"], about["pooled_width"], about["token_width"], Vocabulary.from_json(about["vocabulary"]),
        tuple(about["answers"]), about["options"],
    )  # fmt: skip
    head = build_head(about["head"], setting).to(clip.device)
    head.load_state_dict(head_state)
    return Adapted(clip, head.eval(), about)


def fixture_images() -> list[bytes]:
    """Return the eight pictures that every adapted model is checked with, drawn from the embedded world."""
    from clipbias.probes.world import World, image_set

    return image_set(World(n=FIXTURES, seed=808)).read(list(range(FIXTURES)))
