"""Shipped checkpoints: compact on disk, standard where they are loaded from.

A shipped file holds float16 tensors and only the token rows of the world's vocabulary: open_clip's full
49,408-row table would be nine tenths of it. ``resolve`` writes the full standard checkpoint into the
user's cache once; rows the model never saw are drawn from the card's seed.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path
from safetensors.numpy import load_file, save_file

from clipbias.errors import ModelError, nearest

FOLDER = Path(__file__).resolve().parent
VOCABULARY_SIZE = 49408  # rows of open_clip's token table
TOKENS = "token_embedding.weight"


@dataclass(frozen=True)
class ZooModel:
    """One zoo model, ready to be loaded like any local checkpoint.

    Attributes
    ----------
    name : str
    path : pathlib.Path
        Full standard checkpoint (safetensors, open_clip's tensor names).
    config : dict
        open_clip model configuration.
    preprocess : dict
        ``mean, std, interpolation, size``.
    card : dict
        Architecture, planted values, seed, steps, digest, zero-shot scores.
    vocabulary : frozenset of str
        Lower-case words the text tower was trained on.
    """

    name: str
    path: Path
    config: dict
    preprocess: dict
    card: dict
    vocabulary: frozenset[str]


def recipe() -> dict:
    """Return zoo.toml: training settings, architectures and the list of models."""
    return tomllib.loads((FOLDER / "zoo.toml").read_text())


def names() -> list[str]:
    """Return the names of the shipped models, in the order of the recipe."""
    return [name for name in recipe()["models"] if (FOLDER / "models" / f"{name}.json").exists()]


@functools.cache
def card(name: str) -> dict:
    """Return a model's card.

    Raises
    ------
    ModelError
        No shipped model has that name.
    """
    path = FOLDER / "models" / f"{name}.json"
    if not path.exists():
        raise ModelError(f"the zoo has no model {name!r}." + nearest(name, names()))
    return json.loads(path.read_text())


def resolve(name: str) -> ZooModel:
    """Return a zoo model; its full checkpoint is written into the user's cache on first use."""
    facts = card(name)
    base = (
        Path(os.environ["CLIPBIAS_CACHE"])
        if os.environ.get("CLIPBIAS_CACHE")
        else user_cache_path("clipbias")
    )
    path = base / "zoo" / f"{name}-{facts['digest'][:16]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                write_standard(FOLDER / "models" / f"{name}.safetensors", path, facts)
    return ZooModel(name, path, facts["config"], facts["preprocess"], facts, frozenset(facts["words"]))


def write_compact(state: dict[str, np.ndarray], rows: np.ndarray, path: Path) -> None:
    """Write float16 tensors and the original positions of the token rows, all or nothing."""
    small = {
        name: np.ascontiguousarray(value.astype(np.float16) if value.dtype.kind == "f" else value)
        for name, value in state.items()
    }
    _write({**small, "token_rows": rows.astype(np.int32)}, path)


def write_standard(source: Path, target: Path, facts: dict) -> None:
    """Expand a compact file to the full token table in float32.

    Raises
    ------
    ModelError
        The compact file cannot be read.
    """
    try:
        state = load_file(source)
    except Exception as error:
        raise ModelError(f"zoo checkpoint {source} cannot be read ({error}); reinstall clipbias.") from error
    rows = state.pop("token_rows")
    width = state[TOKENS].shape[1]
    table = np.random.default_rng(facts["seed"]).standard_normal((VOCABULARY_SIZE, width), np.float32) * 0.02
    table[rows] = state[TOKENS]
    state[TOKENS] = table
    _write(
        {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in state.items()
        },
        target,
    )


def _write(tensors: dict[str, np.ndarray], path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
