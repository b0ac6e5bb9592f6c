"""Where a head's features come from: looked up for a frozen tower, computed for one that is trained.

Features of a frozen tower are computed once per (tower, image) and kept on disk beside the embeddings. Pooled
features are float32. Tokens are float16 after division by the image's largest absolute value: an error of at
most 0.05 % of a value, or for the smallest ones 3e-8 of the largest. What was just computed goes the same
way, so a warm cache changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock

from clipbias.data.imageset import ImageSet
from clipbias.embedding.cache import CacheStats, CacheWarning, EmbeddingCache, _write, default_folder
from clipbias.embedding.encode import _read
from clipbias.errors import DataError
from clipbias.tasks.heads.base import Features
from clipbias.tasks.vision import Tower

_CHUNK = 1024  # images in a file, and read at a time
_HELD = 2**30  # bytes of preprocessed pixels kept in memory
_PARTS = {"pooled": np.float32, "tokens": np.float16, "scale": np.float32}
Block = dict[str, np.ndarray]


class FeatureCache:
    """Content-addressed features on disk, with the guarantees of `clipbias.embedding.EmbeddingCache`.

    An entry is found by the digest of the tower and that of the image; files appear by rename, carry a
    checksum, and a damaged one is reported, set aside and computed again. A disk that cannot be written costs
    time, not results.

    Parameters
    ----------
    folder : path, optional
        Default: the folder ``features`` beside the embeddings.

    Attributes
    ----------
    stats : CacheStats
    """

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder().parent / "features"
        self.stats = CacheStats()
        self._writable = True
        self._listed: dict[Path, list[str]] = {}

    def get(self, key: str, items: Sequence[str]) -> dict[str, Block]:
        """Return the features of the items that are stored, by item."""
        wanted, found = set(items), {}
        for path in sorted((self.folder / key).glob("*.safetensors")):
            try:
                here = self._listed[path] = self._listed.get(path) or _items(path, key)
                if wanted.isdisjoint(here):
                    continue
                block = _verified(path, key, here)
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as problem:
                self._set_aside(path, problem)
                continue
            for row, item in enumerate(here):
                if item in wanted and item not in found:
                    found[item] = {name: values[row] for name, values in block.items()}
        self.stats.reused += len(found)
        return found

    def put(self, key: str, items: Sequence[str], block: Block) -> None:
        """Write the features of some items in one file."""
        from safetensors.numpy import save

        self.stats.computed += len(items)
        if not items or not self._writable:
            return
        # safetensors writes the memory of an array as it lies, whatever its strides say.
        block = {name: np.ascontiguousarray(block[name], kind) for name, kind in _PARTS.items()}
        checksum = _checksum(key, items, block)
        header = {"key": key, "items": json.dumps(list(items)), "checksum": checksum}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            _write(self.folder / key / f"{checksum}.safetensors", save(dict(block), header), lock)
        except OSError as problem:
            self._writable = False
            warnings.warn(
                f"the feature cache {self.folder} cannot be written: {problem}.", CacheWarning, stacklevel=2
            )

    def _set_aside(self, path: Path, problem: Exception) -> None:
        self.stats.damaged += 1
        self._listed.pop(path, None)
        warnings.warn(
            f"{path} is damaged ({problem}); it is left out and computed again.", CacheWarning, stacklevel=3
        )
        try:
            os.replace(path, path.with_suffix(".damaged"))
        except OSError:
            return


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Features of the readable images of a set; called with positions in the set it returns their features.

    Attributes
    ----------
    rows : numpy.ndarray, int (m,)
        Positions in the set of the images that have features, ascending.
    pooled : Tensor, float32 (m, d)
        L2-normalised.
    packed : Tensor, float16 (k, N, c), and scale : Tensor, float32 (k,)
        Tokens of the k different images; to be multiplied.
    entry : numpy.ndarray, int (m,)
        Which of the k each image is.
    left_out : DataFrame
        ``item, reason``.
    device : torch.device
        Where `Features` are given.
    """

    rows: np.ndarray
    pooled: torch.Tensor
    packed: torch.Tensor
    scale: torch.Tensor
    entry: np.ndarray
    left_out: pd.DataFrame
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> torch.Tensor:
        """Tokens of all images, float32 (m, N, c): twice the memory; better call this for a batch."""
        return self.packed[self.entry].float() * self.scale[self.entry][:, None, None]

    def __call__(self, rows: np.ndarray) -> Features:
        """Return the features of images, given by their positions in the set.

        Raises
        ------
        DataError
            One of them has none: it could not be read, or was not asked for.
        """
        rows = np.asarray(rows)
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        absent = rows[self.rows[place] != rows]
        if len(absent):
            raise DataError(f"the image at position {int(absent[0])} has no features: it could not be read.")
        entry = torch.from_numpy(self.entry[place])
        packed, scale = self.packed[entry].to(self.device), self.scale[entry].to(self.device)
        return Features(
            self.pooled[torch.from_numpy(place)].to(self.device), packed.float() * scale[:, None, None]
        )


def frozen_features(
    tower: Tower,
    images: ImageSet,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    cache: FeatureCache | EmbeddingCache | None = None,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
    bad: str = "report",
) -> FrozenFeatures:
    """Compute, or look up, the features of an image set.

    Parameters
    ----------
    tower : Tower
        Mode ``frozen``.
    images : ImageSet
    rows : sequence of int, optional
        The images that are needed. Default: all.
    cache : FeatureCache or EmbeddingCache, optional
        An embedding cache stands for the folder ``features`` beside it.
    on_batch : callable, optional
        ``on_batch(done, total)`` in images.
    bad : {"report", "raise"}
        What to do with unreadable images: leave them out and list them, or stop.

    Raises
    ------
    DataError
        Features are not finite, no image can be read, or, with ``bad="raise"``, one cannot.
    """
    if tower.mode != "frozen":
        raise ValueError(f"the tower is trained (mode {tower.mode!r}); its features change")
    if isinstance(cache, EmbeddingCache):
        cache = FeatureCache(cache.folder.parent / "features")
    needed = np.arange(len(images)) if rows is None else np.unique(np.asarray(rows, np.int64))
    place, ids = np.full(len(images), -1), images.ids
    known: dict[str, int] = {}
    blocks: list[Block] = []
    reasons: dict[int, str] = {}
    count = done = 0
    for start in range(0, len(needed), _CHUNK):
        chunk = needed[start : start + _CHUNK].tolist()
        contents, failed = _read(images, chunk)
        reasons |= failed
        digests = {row: hashlib.sha256(data).hexdigest() for row, data in contents.items()}
        fresh = {digest: contents[row] for row, digest in digests.items() if digest not in known}
        stored = cache.get(tower.features_key, list(fresh)) if cache is not None else {}
        missing = [digest for digest in fresh if digest not in stored]
        computed, broken = _compute(tower, missing, fresh, batch_size, ids[chunk[0]])
        if cache is not None:
            cache.put(tower.features_key, computed[0], computed[1])
        if stored:
            blocks.append({name: np.stack([one[name] for one in stored.values()]) for name in _PARTS})
        if computed[0]:
            blocks.append(computed[1])
        for digest in [*stored, *computed[0]]:
            known[digest] = count
            count += 1
        for row, digest in digests.items():
            if digest in known:
                place[row] = known[digest]
            else:
                reasons[row] = broken[digest]
        done += len(chunk)
        if on_batch is not None:
            on_batch(done, len(needed))
    if reasons and bad == "raise":
        row = min(reasons)
        raise DataError(f"image {ids[row]!r} of {images.name!r} cannot be read: {reasons[row]}.")
    if not blocks:
        raise DataError(f"none of the {len(needed)} images of {images.name!r} can be read.")
    joined = {name: torch.from_numpy(np.concatenate([block[name] for block in blocks])) for name in _PARTS}
    left_out = pd.DataFrame(
        {"item": [ids[row] for row in sorted(reasons)], "reason": [reasons[row] for row in sorted(reasons)]},
        dtype=object,
    )
    rows = np.flatnonzero(place >= 0)
    entry = place[rows]
    return FrozenFeatures(
        rows, joined["pooled"][entry], joined["tokens"], joined["scale"], entry, left_out, tower.device
    )


class PixelSource:
    """Features of a tower that is trained: called with positions in an image set, it runs the tower.

    Preprocessed pixels are kept in memory as long as they are few (1 GiB).
    """

    def __init__(self, tower: Tower, images: ImageSet) -> None:
        self.tower, self.images = tower, images
        height, width = tower.clip.image_size
        keep = len(images) * 3 * height * width * 4 <= _HELD
        self._pixels = torch.empty(len(images), 3, height, width) if keep else None
        self._have = np.zeros(len(images), bool)

    def __call__(self, rows: np.ndarray) -> Features:
        """Return the features of images, with gradients where the tower is trained; each image is computed once."""
        images, place = np.unique(rows, return_inverse=True)
        found, entry = self.tower.features(self.pixels(images)), torch.from_numpy(place).to(self.tower.device)
        return Features(found.pooled[entry], found.tokens[entry])

    def layers(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the states of the tower's blocks, as `Tower.layers`."""
        return self.tower.layers(self.pixels(rows))

    def pixels(self, rows: np.ndarray) -> torch.Tensor:
        """Return preprocessed images, float32 (B, 3, h, w).

        Raises
        ------
        DataError
            One of them cannot be read.
        """
        rows = np.asarray(rows)
        if self._pixels is None:
            return self._decode(rows)
        missing = np.unique(rows[~self._have[rows]])
        if len(missing):
            self._pixels[torch.from_numpy(missing)] = self._decode(missing)
            self._have[missing] = True
        return self._pixels[torch.from_numpy(rows)]

    def _decode(self, rows: np.ndarray) -> torch.Tensor:
        ready = self.tower.clip.preprocess(self.images.read(rows.tolist()))
        if ready.broken:
            at, reason = next(iter(ready.broken.items()))
            raise DataError(
                f"image {self.images.ids[int(rows[at])]!r} of {self.images.name!r} cannot be read: {reason}."
            )
        return ready.pixels


def _compute(
    tower: Tower, digests: list[str], contents: dict[str, bytes], batch_size: int, first: str
) -> tuple[tuple[list[str], Block], dict[str, str]]:
    """Return the features of images, packed, and the reasons for those that cannot be decoded."""
    kept: list[str] = []
    parts: list[Block] = []
    broken: dict[str, str] = {}
    for start in range(0, len(digests), batch_size):
        batch = digests[start : start + batch_size]
        ready = tower.clip.preprocess([contents[digest] for digest in batch])
        broken |= {batch[at]: reason for at, reason in ready.broken.items()}
        if not ready.kept:
            continue
        found = tower.features(ready.pixels)
        parts.append(_pack(found, f"the images from {first!r} on"))
        kept += [batch[at] for at in ready.kept]
    block = {name: np.concatenate([part[name] for part in parts]) for name in _PARTS} if parts else {}
    return (kept, block), broken


def _pack(features: Features, what: str) -> Block:
    pooled, tokens = features.pooled.cpu().numpy(), features.tokens.cpu().numpy()
    if not (np.isfinite(pooled).all() and np.isfinite(tokens).all()):
        raise DataError(
            f"features of {what} are not finite. The model's weights are probably damaged, or the precision is too low."
        )
    scale = np.maximum(np.abs(tokens).max((1, 2)), np.finfo(np.float32).tiny)
    return {"pooled": pooled, "tokens": (tokens / scale[:, None, None]).astype(np.float16), "scale": scale}


def _items(path: Path, key: str) -> list[str]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        if header.get("key") != key:
            raise ValueError("its header is not that of this entry")
        return json.loads(header["items"])
    except FileNotFoundError:
        raise
    except Exception as problem:  # safetensors has its own kind
        raise ValueError(str(problem)) from problem


def _verified(path: Path, key: str, items: list[str]) -> Block:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            block: dict[str, Any] = {name: file.get_tensor(name) for name in _PARTS}
    except FileNotFoundError:
        raise
    except Exception as problem:
        raise ValueError(str(problem)) from problem
    if any(len(values) != len(items) for values in block.values()):
        raise ValueError("it holds another number of images than it lists")
    if f"{_checksum(key, items, block)}.safetensors" != path.name:
        raise ValueError("its checksum does not fit")
    return block


def _checksum(key: str, items: Sequence[str], block: Block) -> str:
    total = hashlib.sha256(f"{key}|{'|'.join(items)}".encode())
    for name in _PARTS:
        values = np.ascontiguousarray(block[name])
        total.update(f"|{name}{values.shape}{values.dtype}|".encode())
        total.update(values.data)
    return total.hexdigest()
