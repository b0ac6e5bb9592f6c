"""Image sets and prompts in, L2-normalised embeddings out; only what is missing is computed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.data.imageset import ImageSet
from clipbias.embedding.cache import EmbeddingCache
from clipbias.errors import DataError

_CHUNK = 2048  # items read, looked up and written at a time
_FLUSH = 20.0  # seconds of computing that a crash may cost


@dataclass(frozen=True, eq=False)
class ImageEmbeddings:
    """Embeddings of the readable images of a set.

    Attributes
    ----------
    values : numpy.ndarray, float32 (m, d)
        L2-normalised.
    rows : numpy.ndarray, int (m,)
        Position in the image set of each row of ``values``, ascending.
    left_out : pandas.DataFrame
        ``item, reason``: image ids that could not be read, and why.
    lengths : numpy.ndarray, float32 (m,)
        The lengths that the rows of ``values`` had.
    """

    values: np.ndarray
    rows: np.ndarray
    left_out: pd.DataFrame
    lengths: np.ndarray


def embed_images(
    model: Any,
    image_set: ImageSet,
    *,
    cache: EmbeddingCache | None = None,
    batch_size: int = 256,
    on_batch: Callable[[int, int], None] | None = None,
    bad: str = "report",
) -> ImageEmbeddings:
    """Embed an image set.

    Equal images are encoded once; what the cache holds is not encoded at all.

    Parameters
    ----------
    model : clipbias.models.Clip
    image_set : ImageSet
    cache : EmbeddingCache, optional
    batch_size : int
        Images per forward pass.
    on_batch : callable, optional
        ``on_batch(done, total)`` after each step, in images.
    bad : {"report", "raise"}
        What to do with unreadable images: leave them out and list them, or stop at the first.

    Raises
    ------
    DataError
        An embedding is zero or not finite; with ``bad="raise"`` also an unreadable image.
    """
    if bad not in ("report", "raise"):
        raise ValueError(f"bad is 'report' or 'raise', not {bad!r}")
    total, ids = len(image_set), image_set.ids
    blocks: list[np.ndarray] = []
    place: dict[str, int] = {}  # digest → row of the blocks put together
    reasons: dict[str, str] = {}  # digest of an unreadable image → reason
    source = np.full(total, -1)  # that row, for each image
    left_out: list[tuple[int, str]] = []
    for start in range(0, total, _CHUNK):
        chunk = list(range(start, min(start + _CHUNK, total)))
        contents, failed = _read(image_set, chunk)
        left_out += failed.items()
        digests = {row: hashlib.sha256(data).hexdigest() for row, data in contents.items()}
        fresh = {
            digest: contents[row]
            for row, digest in digests.items()
            if digest not in place and digest not in reasons
        }
        keys = list(fresh)
        stored, found = _lookup(cache, model.image_key, keys)
        missing = [digest for digest, here in zip(keys, found, strict=True) if not here]
        done = start + len(chunk) - len(missing)
        if on_batch is not None and len(missing) < len(chunk):
            on_batch(done, total)
        with _Writer(cache, model, "image") as writer:
            for begin in range(0, len(missing), batch_size):
                batch = missing[begin : begin + batch_size]
                ready = model.preprocess([fresh[digest] for digest in batch])
                reasons |= {batch[at]: reason for at, reason in ready.broken.items()}
                if ready.broken and bad == "raise":
                    at, reason = next(iter(ready.broken.items()))
                    row = next(row for row, digest in digests.items() if digest == batch[at])
                    raise DataError(f"image {ids[row]!r} of {image_set.name!r} cannot be read: {reason}.")
                writer.add([batch[at] for at in ready.kept], model.encode_pixels(ready.pixels))
                done += len(batch)
                if on_batch is not None:
                    on_batch(done, total)
        for digest in [key for key, here in zip(keys, found, strict=True) if here] + writer.items:
            place[digest] = len(place)
        blocks += [part for part in (stored, *writer.values) if len(part)]
        for row, digest in digests.items():
            if digest in place:
                source[row] = place[digest]
            else:
                left_out.append((row, reasons[digest]))
    if left_out and bad == "raise":
        row, reason = min(left_out)
        raise DataError(f"image {ids[row]!r} of {image_set.name!r} cannot be read: {reason}.")
    rows = np.flatnonzero(source >= 0)
    chosen = np.concatenate(blocks)[source[rows]] if blocks else np.empty((0, model.dim), np.float32)
    left_out.sort()
    table = pd.DataFrame(
        {"item": [ids[row] for row, _ in left_out], "reason": [reason for _, reason in left_out]},
        dtype=object,
    )
    unit = _normalise(chosen, [ids[row] for row in rows], f"images of {image_set.name!r}")
    return ImageEmbeddings(unit, rows, table, np.linalg.norm(chosen, axis=1).astype(np.float32))


def embed_texts(
    model: Any,
    prompts: Sequence[str],
    *,
    cache: EmbeddingCache | None = None,
    batch_size: int = 256,
    on_batch: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Embed prompts.

    Parameters
    ----------
    model : clipbias.models.Clip
    prompts : sequence of str, length m
        May repeat; each text is encoded once.
    cache, batch_size, on_batch
        As in `embed_images`.

    Returns
    -------
    numpy.ndarray, float32 (m, d)
        L2-normalised, rows as ``prompts``.

    Raises
    ------
    DataError
        An embedding is zero or not finite.
    """
    prompts = list(prompts)
    if not prompts:
        return np.empty((0, model.dim), np.float32)
    # Here and not only while encoding: a warm cache encodes nothing, and the warning still holds.
    model.check_words(prompts)
    digests = [hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest() for prompt in prompts]
    texts = dict(zip(digests, prompts, strict=True))
    keys = list(texts)
    stored, found = _lookup(cache, model.text_key, keys)
    missing = [digest for digest, here in zip(keys, found, strict=True) if not here]
    with _Writer(cache, model, "text") as writer:
        for begin in range(0, len(missing), batch_size):
            batch = missing[begin : begin + batch_size]
            writer.add(batch, model.encode_texts([texts[digest] for digest in batch]))
            if on_batch is not None:
                on_batch(len(keys) - len(missing) + begin + len(batch), len(keys))
    values = np.concatenate([part for part in (stored, *writer.values) if len(part)])
    place = {
        digest: at
        for at, digest in enumerate([key for key, here in zip(keys, found, strict=True) if here] + missing)
    }
    return _normalise(values[[place[digest] for digest in digests]], prompts, "prompts")


class _Writer:
    """Collects new embeddings and writes them in files of some size, also when the work is interrupted."""

    def __init__(self, cache: EmbeddingCache | None, model: Any, tower: str) -> None:
        self.cache = cache
        self.key = model.image_key if tower == "image" else model.text_key
        self.about = {"model": str(model.spec), "tower": tower, "precision": model.precision}
        self.items: list[str] = []
        self.values: list[np.ndarray] = []
        self._written = (0, 0)  # items, blocks
        self._last = time.monotonic()

    def add(self, items: list[str], values: np.ndarray) -> None:
        if items:
            self.items += items
            self.values.append(values)
        if len(self.items) - self._written[0] >= _CHUNK or time.monotonic() - self._last > _FLUSH:
            self._flush()

    def _flush(self) -> None:
        items, blocks = self._written
        if self.cache is not None and len(self.items) > items:
            fresh = np.concatenate(self.values[blocks:])
            finite = np.isfinite(fresh).all(axis=1)
            kept = [item for item, good in zip(self.items[items:], finite, strict=True) if good]
            self.cache.put(self.key, kept, fresh[finite], self.about)
        self._written = (len(self.items), len(self.values))
        self._last = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()


def _lookup(cache: EmbeddingCache | None, key: str, items: list[str]) -> tuple[np.ndarray, np.ndarray]:
    if cache is None:
        return np.empty((0, 0), np.float32), np.zeros(len(items), bool)
    return cache.get(key, items)


def _read(image_set: ImageSet, rows: list[int]) -> tuple[dict[int, bytes], dict[int, str]]:
    """Return the bytes of the images that can be read, and the reasons for the others."""
    try:
        return dict(zip(rows, image_set.read(rows), strict=True)), {}
    except (OSError, DataError):
        pass
    contents: dict[int, bytes] = {}
    failed: dict[int, str] = {}
    for row in rows:
        try:
            contents[row] = image_set.read([row])[0]
        except OSError as problem:
            failed[row] = problem.strerror or str(problem)
        except DataError as problem:
            failed[row] = str(problem)
    return contents, failed


def _normalise(values: np.ndarray, names: list[str], what: str) -> np.ndarray:
    lengths = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} {what} have an embedding that is zero or not finite, first: {names[wrong[0]]!r}. "
            f"The model's weights are probably damaged, or the precision is too low for it."
        )
    return (values / lengths).astype(np.float32)
