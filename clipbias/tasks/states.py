"""States: what every layer makes of one fixed set of images, before and after adaptation.

A file holds one state of one adaptation (`clipbias.analyze` says in which format). The state of a head's layer before
adaptation is what the head is given, the tower's features; after it, what the layer makes of them. So the change of
similarity between two models is what the adapter does to their spaces, and an untrained adapter is its control.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clipbias.tasks.batches import Material
from clipbias.tasks.checkpoint import whole_file
from clipbias.tasks.heads.base import Head

BATCH = 256
STATES = ("pre", "post", "untrained", "second_seed")


def state_examples(examples: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Return one example of each of ``n`` images, the same for every model.

    The question is the same kind for all images: the type that most images have, the first in order.
    """
    ids = examples["image_id"].drop_duplicates().to_numpy()
    if n < len(ids):
        ids = ids[np.sort(np.random.default_rng([seed, 11]).permutation(len(ids))[:n])]
    mine = examples[examples["image_id"].isin(ids)]
    # A question that is put to every image, if there is one: states then differ by image alone.
    asked = mine.groupby("question", sort=False)["image_id"].nunique()
    common = asked.idxmax()
    first = mine[mine["question"] == common].drop_duplicates("image_id")
    rest = mine[~mine["image_id"].isin(first["image_id"])].drop_duplicates("image_id")
    chosen = pd.concat([first, rest]).set_index("image_id").loc[list(ids)].reset_index()
    return chosen[examples.columns]


def head_states(head: Head, material: Material) -> dict[str, np.ndarray]:
    """Return what each layer of a head makes of the images, float32 (n, p) by layer."""
    head.eval()
    parts: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for start in range(0, len(material), BATCH):
            index = np.arange(start, min(start + BATCH, len(material)))
            found = head.states(material.features(index), material.texts(index, targets=False))
            for layer, values in found.items():
                parts.setdefault(layer, []).append(values.float().cpu().numpy())
    return {layer: np.concatenate(values) for layer, values in parts.items()}


def given_states(material: Material, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what the head is given, the mean over the tower's tokens, under the names of its layers."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(material), BATCH):
            index = np.arange(start, min(start + BATCH, len(material)))
            parts.append(material.features(index).tokens.mean(1).float().cpu().numpy())
    given = np.concatenate(parts)
    return dict.fromkeys(layers, given)


def tower_states(
    layers_of: Callable[[np.ndarray], Mapping[str, torch.Tensor]], rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what each layer of a tower makes of images, float32 (n, p) by layer (``tower.0``, ...).

    Parameters
    ----------
    layers_of : callable
        ``layers_of(rows) -> {layer: (b, p)}``, means over tokens.
    rows : numpy.ndarray, int (n,)
    """
    parts: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            for layer, values in layers_of(rows[start : start + BATCH]).items():
                parts.setdefault(layer, []).append(values.float().cpu().numpy())
    return {layer: np.concatenate(values) for layer, values in parts.items()}


def save_states(
    path: Path,
    layers: Mapping[str, np.ndarray],
    *,
    model: str,
    state: str,
    ids: Sequence[str],
    **about: str,
) -> Path:
    """Write one state; ``about`` holds ``task, head, mode, intervention, image_set`` as far as they apply.

    The images are known to be kept out of training (`TaskData` sees to it), so ``disjoint`` is "true".
    """
    from safetensors.numpy import save

    if state not in STATES:
        raise ValueError(f"state is one of {STATES}, not {state!r}")
    facts = {"model": model, "state": state, "ids": json.dumps(list(ids)), "disjoint": "true"}
    facts |= {name: value for name, value in about.items() if value}
    tensors = {name: np.ascontiguousarray(values, np.float32) for name, values in layers.items()}
    with whole_file(path) as file:
        file.write(save(tensors, metadata=facts))
    return path
