"""A store of embeddings that never computes the same one twice, and never hands out a wrong one.

An entry is found by two digests: that of the model side (weights, config, preprocessing or tokenizer,
precision, library versions) names a folder, that of the item (image bytes or prompt) a row in one of the
folder's files. Each written batch is one safetensors file, named by the checksum of what it holds, with its
item digests in its header: a file explains itself, and two processes that write the same batch write the same
file. Files appear by rename, so a reader sees a whole file or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import save

VERSION = "1"
_DIGEST = 64  # hex digits of a SHA-256
_HELD = 256 * 2**20  # bytes of verified matrices kept in memory between two reads


class CacheWarning(UserWarning):
    """The cache left something out or could not be written; results are not affected."""


class _Damaged(Exception):
    """A file does not hold what it should."""


@dataclass
class CacheStats:
    """What one `EmbeddingCache` has seen: items computed, items reused, files found damaged."""

    computed: int = 0
    reused: int = 0
    damaged: int = 0


@dataclass
class _Index:
    """Sorted item digests of one key, with the file and row that hold each."""

    items: np.ndarray = field(default_factory=lambda: np.empty(0, f"S{_DIGEST}"))
    file: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    row: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    names: list[str] = field(default_factory=list)


def default_folder() -> Path:
    """Return the user's cache folder, or that of the environment variable ``CLIPBIAS_CACHE``."""
    chosen = os.environ.get("CLIPBIAS_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "embeddings"
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("clipbias")) / "embeddings"


class EmbeddingCache:
    """Content-addressed embeddings on disk, safe under several processes at once.

    Parameters
    ----------
    folder : path, optional
        Default: `default_folder`.

    Attributes
    ----------
    stats : CacheStats
    """

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.stats = CacheStats()
        self._indices: dict[str, _Index] = {}
        self._held: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._writable = True

    def get(self, key: str, items: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Look items up.

        Parameters
        ----------
        key : str
            Hex digest of the model side.
        items : sequence of str, length n
            SHA-256 hex digests.

        Returns
        -------
        values : numpy.ndarray, float32 (m, d)
            One row per item found, in the order of ``items``; as written, not normalised.
        found : numpy.ndarray, bool (n,)
        """
        index = self._refresh(key)
        wanted = np.asarray(list(items), dtype=f"S{_DIGEST}")
        found = np.zeros(len(wanted), bool)
        if not len(wanted) or not len(index.items):
            return np.empty((0, 0), np.float32), found
        place = np.minimum(np.searchsorted(index.items, wanted), len(index.items) - 1)
        found = index.items[place] == wanted
        files, rows = index.file[place], index.row[place]
        values: np.ndarray | None = None
        for number in np.unique(files[found]):
            here = found & (files == number)
            matrix = self._matrix(key, index.names[number])
            if matrix is None:
                found &= ~here
                continue
            if values is None:
                values = np.empty((len(wanted), matrix.shape[1]), np.float32)
            values[here] = matrix[rows[here]]
        self.stats.reused += int(found.sum())
        return (values[found] if values is not None else np.empty((0, 0), np.float32)), found

    def put(
        self, key: str, items: Sequence[str], values: np.ndarray, about: Mapping[str, object] | None = None
    ) -> None:
        """Write a batch.

        Parameters
        ----------
        values : numpy.ndarray, (n, d)
            Finite numbers, stored as float32.
        about : mapping, optional
            Facts about the model side for `ls`, such as ``model`` and ``tower``.
        """
        self.stats.computed += len(items)
        if not len(items) or not self._writable:
            return
        values = np.ascontiguousarray(values, np.float32)
        listed = "".join(items)
        if (
            values.shape[0] != len(items)
            or len(listed) != _DIGEST * len(items)
            or not np.isfinite(values).all()
        ):
            raise ValueError("each item needs a SHA-256 hex digest and one row of finite numbers")
        checksum = _checksum(key, listed, values)
        header = {
            "format": VERSION,
            "key": key,
            "items": listed,
            "checksum": checksum,
            "about": json.dumps({str(k): str(v) for k, v in (about or {}).items()}, sort_keys=True),
        }
        try:
            _write(
                self._place(key) / f"{checksum}.safetensors",
                save({"embeddings": values}, header),
                self._lock(),
            )
        except OSError as problem:
            # A full disk or a read-only folder costs time at the next run, not this run's results.
            self._writable = False
            warnings.warn(
                f"the embedding cache {self.folder} cannot be written: {problem}.", CacheWarning, stacklevel=2
            )

    def ls(self) -> pd.DataFrame:
        """List what is stored: one row per key, with ``key, model, tower, precision, items, files, bytes, modified``."""
        rows = []
        for place in self._keys():
            about: dict[str, str] = {}
            items, size, modified, files = 0, 0, 0.0, 0
            for path in place.glob("*.safetensors"):
                try:
                    header = _header(path, place.name)
                    facts = path.stat()
                except (_Damaged, OSError):
                    continue
                about = json.loads(header["about"])
                items += len(header["items"]) // _DIGEST
                size, files, modified = size + facts.st_size, files + 1, max(modified, facts.st_mtime)
            if files:
                named = {name: about.get(name, "") for name in ("model", "tower", "precision")}
                rows.append(
                    {
                        "key": place.name,
                        **named,
                        "items": items,
                        "files": files,
                        "bytes": size,
                        "modified": modified,
                    }
                )
        columns = ["key", "model", "tower", "precision", "items", "files", "bytes", "modified"]
        table = pd.DataFrame(rows, columns=columns).sort_values(["model", "tower", "key"], ignore_index=True)
        table["modified"] = pd.to_datetime(table["modified"], unit="s", utc=True)
        return table

    def prune(
        self, *, model: str | None = None, older_than: float | None = None, everything: bool = False
    ) -> tuple[int, int]:
        """Delete entries, and always the leavings of crashes: damaged, set-aside and temporary files.

        Parameters
        ----------
        model : str, optional
            Delete the entries of this model (as `ls` names it).
        older_than : float, optional
            Delete files not written in this many days; together with ``model`` both must hold.
        everything : bool
            Delete all entries.

        Returns
        -------
        files, bytes : int
            Deleted.
        """
        files = freed = 0
        now = time.time()
        with self._lock():
            for place in self._keys():
                for path in list(place.iterdir()):
                    try:
                        facts = path.stat()
                        if self._is_doomed(path, now - facts.st_mtime, model, older_than, everything):
                            path.unlink()
                            files, freed = files + 1, freed + facts.st_size
                    except OSError:  # another process was quicker
                        continue
                if not any(place.iterdir()):
                    place.rmdir()
        self._indices.clear()
        self._held.clear()
        return files, freed

    def _is_doomed(
        self, path: Path, age: float, model: str | None, older_than: float | None, everything: bool
    ) -> bool:
        if path.suffix != ".safetensors":
            # A temporary file of a living process is younger than a minute.
            return path.suffix == ".damaged" or age > 60
        try:
            header = _header(path, path.parent.name)
            _verified(path, header)
        except _Damaged:
            return True
        if model is None and older_than is None:
            return everything
        named = model is None or json.loads(header["about"]).get("model") == model
        return named and (older_than is None or age > older_than * 86400)

    def _keys(self) -> list[Path]:
        root = self.folder / f"v{VERSION}"
        return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []

    def _place(self, key: str) -> Path:
        return self.folder / f"v{VERSION}" / key

    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def _refresh(self, key: str) -> _Index:
        """Read the headers of files that are new since the last look."""
        index = self._indices.setdefault(key, _Index())
        try:
            names = {
                entry.name for entry in os.scandir(self._place(key)) if entry.name.endswith(".safetensors")
            }
        except OSError:
            names = set()
        gone = set(index.names) - names
        if gone:
            index = self._indices[key] = _Index()
        new = sorted(names - set(index.names))
        if not new:
            return index
        parts = [(index.items, index.file, index.row)]
        for name in new:
            path = self._place(key) / name
            try:
                items = np.frombuffer(_header(path, key)["items"].encode(), dtype=f"S{_DIGEST}")
            except FileNotFoundError:
                continue
            except (_Damaged, OSError) as problem:
                self._set_aside(path, problem)
                continue
            parts.append((items, np.full(len(items), len(index.names)), np.arange(len(items))))
            index.names.append(name)
        joined, file, row = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # One place per item: the first file wins, whichever wrote it holds the same embedding.
        index.items, first = np.unique(joined, return_index=True)
        index.file, index.row = file[first], row[first]
        return index

    def _matrix(self, key: str, name: str) -> np.ndarray | None:
        """Return the verified matrix of a file, or None if it is gone or damaged."""
        path = self._place(key) / name
        if path in self._held:
            self._held.move_to_end(path)
            return self._held[path]
        try:
            matrix = _verified(path, _header(path, key))
        except FileNotFoundError:
            self._indices.pop(key, None)
            return None
        except (_Damaged, OSError) as problem:
            self._indices.pop(key, None)
            self._set_aside(path, problem)
            return None
        self._held[path] = matrix
        while len(self._held) > 1 and sum(one.nbytes for one in self._held.values()) > _HELD:
            self._held.popitem(last=False)
        return matrix

    def _set_aside(self, path: Path, problem: Exception) -> None:
        """Warn about a damaged file and move it out of the way."""
        self.stats.damaged += 1
        warnings.warn(
            f"{path} is damaged ({problem}); it is left out and computed again.", CacheWarning, stacklevel=4
        )
        try:
            with self._lock():
                # Another process may have replaced it by a good one in the meantime.
                try:
                    _verified(path, _header(path, path.parent.name))
                except _Damaged:
                    os.replace(path, path.with_suffix(".damaged"))
        except OSError:
            return


def _checksum(key: str, items: str, values: np.ndarray) -> str:
    total = hashlib.sha256(f"{VERSION}|{key}|{values.shape}|{items}|".encode())
    total.update(values.data)
    return total.hexdigest()


def _header(path: Path, key: str) -> dict[str, str]:
    """Return a file's header; `_Damaged` if it is not one of ours, FileNotFoundError if it is gone."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except FileNotFoundError:
        raise
    except Exception as problem:
        if not path.exists():
            raise FileNotFoundError(path) from problem
        raise _Damaged(f"not a whole safetensors file: {problem}") from problem
    if set(header) != {"format", "key", "items", "checksum", "about"} or header["key"] != key:
        raise _Damaged("its header is not that of this entry")
    if len(header["items"]) % _DIGEST or not header["items"].isascii():
        raise _Damaged("its list of items is broken")
    return header


def _verified(path: Path, header: Mapping[str, str]) -> np.ndarray:
    """Return a file's matrix if it is the one that was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            values = file.get_tensor("embeddings")
    except FileNotFoundError:
        raise
    except Exception as problem:
        if not path.exists():
            raise FileNotFoundError(path) from problem
        raise _Damaged(str(problem)) from problem
    values = np.ascontiguousarray(values)
    if values.dtype != np.float32 or values.ndim != 2 or len(values) * _DIGEST != len(header["items"]):
        raise _Damaged("its matrix has another shape than its list of items")
    if _checksum(header["key"], header["items"], values) != header["checksum"]:
        raise _Damaged("its checksum does not fit")
    return values


def _write(path: Path, content: bytes, lock: FileLock) -> None:
    """Write a file by rename, so that it is whole whenever it can be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
