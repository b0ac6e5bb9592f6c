"""Models without weights: scores or embeddings that somebody computed and stored.

=======================================  =========================================================
``scores:FILE``                          one row per image, one column per probe
``embeddings:FILE?texts=FILE2``          image embeddings, and text embeddings named by concept
=======================================  =========================================================

A CSV, TSV or parquet file has the ids in the column ``image_id`` (of texts: ``text``), or in the one that
``?id=`` names, and numbers in all others. An .npz holds ``scores`` (n, P), ``ids`` (n) and ``names`` (P); of
embeddings ``images`` (n, d), ``ids`` (n) and, unless ``texts=`` names another file, ``texts`` (m, d) and
``names`` (m). An .npy holds the numbers alone: ``?ids=FILE`` and ``?names=FILE`` name text files with one per line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import ModelError, nearest
from clipbias.models.spec import STORED, ModelSpec, parse_spec

_TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, eq=False)
class Stored:
    """Stored numbers in the place of a model.

    Attributes
    ----------
    spec : ModelSpec
    ids : list of str or None
        One per row of ``values``; None where the file has none.
    values : ndarray (n, P) or (n, d)
        Scores (higher: closer), or image embeddings.
    names : list of str
        Names of the score columns, or of the rows of ``texts``.
    texts : ndarray (m, d) or None
        Text embeddings; None for scores.
    digest : str
        SHA-256 of the files.
    """

    spec: ModelSpec
    ids: list[str] | None
    values: np.ndarray
    names: list[str]
    texts: np.ndarray | None
    digest: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def probabilities(self) -> bool | None:
        """Whether rows should add up to one, as ``?probabilities=yes`` or ``no`` says; None if it is not said."""
        said = self.spec.option("probabilities")
        return None if said is None else said == "yes"


def is_stored(spec: str | ModelSpec) -> bool:
    """Return whether a spec names stored scores or embeddings."""
    kind = spec.kind if isinstance(spec, ModelSpec) else spec.strip().partition(":")[0]
    return kind in STORED


def load_stored(spec: str | ModelSpec) -> Stored:
    """Read stored scores or embeddings; what they are worth is checked by `clipbias.metrics.integrity`.

    Parameters
    ----------
    spec : str or ModelSpec
        ``scores:FILE`` or ``embeddings:FILE``, see the top of this module.

    Returns
    -------
    Stored

    Raises
    ------
    ModelError
        The file is missing, of another format, lacks an array or column, or holds something else than numbers.
    """
    spec = parse_spec(spec, check=False) if isinstance(spec, str) else spec
    path = _path(spec.name, spec)
    files = [path]
    kind = "scores" if spec.kind == "scores" else "images"
    values, ids, names, texts = _read(path, spec, kind, "image_id")
    for option in ("ids", "names"):
        given = spec.option(option)
        if given:
            files.append(_path(given, spec))
            lines = files[-1].read_text(encoding="utf-8").splitlines()
            ids, names = (lines, names) if option == "ids" else (ids, lines)
    if spec.kind == "embeddings" and spec.option("texts"):
        files.append(_path(str(spec.option("texts")), spec))
        texts, found, other, _ = _read(files[-1], spec, "texts", "text")
        names = found or other or names
    if spec.kind == "embeddings":
        if texts is None or names is None:
            raise ModelError(
                f"{spec}: there are no text embeddings with names. Store 'texts' and 'names' in the .npz, or add ?texts=FILE."
            )
        if texts.shape[1] != values.shape[1]:
            raise ModelError(
                f"{spec}: images have {values.shape[1]} dimensions and texts {texts.shape[1]}; they must come from one model."
            )
    width = values.shape[1] if texts is None else len(texts)
    if names is None or len(names) != width:
        raise ModelError(
            f"{spec}: {0 if names is None else len(names)} names for {width} {'columns' if texts is None else 'texts'}. "
            "Name them in the .npz ('names'), in the table's header or by ?names=FILE."
        )
    twice = pd.Index(names)
    if twice.has_duplicates:
        raise ModelError(f"{spec}: the name {twice[twice.duplicated()][0]!r} stands twice.")
    digest = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()
    about = {"model": str(spec), "kind": spec.kind, "file": path.name}
    return Stored(spec, ids, values, names, texts, digest, about)


def _path(name: str, spec: ModelSpec) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(f"{spec}: there is no file {path}." + (nearest(path.name, beside) if beside else ""))
    return path


Parts = tuple[np.ndarray, list[str] | None, list[str] | None, np.ndarray | None]


def _read(path: Path, spec: ModelSpec, main: str, id_column: str) -> Parts:
    """Return numbers, ids, names and texts of one file."""
    if path.suffix in _TABLES:
        return _table(path, spec, id_column)
    if path.suffix not in (".npz", ".npy"):
        raise ModelError(f"{spec}: {path.name} is none of .npz, .npy, {', '.join(_TABLES)}.")
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {"": found} if path.suffix == ".npy" else {k: found[k] for k in found.files}
    except (OSError, ValueError) as problem:
        raise ModelError(f"{spec}: {path} cannot be read: {problem}.") from problem
    key = "" if path.suffix == ".npy" else spec.option("array") or main
    if key not in arrays:
        raise ModelError(f"{spec}: {path.name} has no array {key!r}." + nearest(key, arrays))

    def text(name: str) -> list[str] | None:
        return [str(v) for v in arrays[name].tolist()] if name in arrays else None

    texts = _numbers(arrays["texts"], spec, path) if main == "images" and "texts" in arrays else None
    return _numbers(arrays[key], spec, path), text("ids"), text("names"), texts


def _table(path: Path, spec: ModelSpec, id_column: str) -> Parts:
    try:
        frame = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)
        )
    except (OSError, ValueError) as problem:
        raise ModelError(f"{spec}: {path} cannot be read: {problem}.") from problem
    column = (spec.option("id") if id_column == "image_id" else None) or id_column
    ids = None
    if column in frame:
        ids = frame.pop(column).astype(str).tolist()
    elif spec.option("id") and id_column == "image_id":
        raise ModelError(f"{spec}: {path.name} has no column {column!r}." + nearest(column, map(str, frame)))
    return _numbers(frame.to_numpy(), spec, path), ids, [str(c) for c in frame], None


def _numbers(values: np.ndarray, spec: ModelSpec, path: Path) -> np.ndarray:
    try:
        numbers = np.where(values == "", "nan", values) if values.dtype == object else values
        array = numbers.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise ModelError(
            f"{spec}: {path.name} holds something else than numbers ({problem}); is the id column 'image_id'? Name it by ?id=."
        ) from problem
    if array.ndim != 2 or array.size == 0:
        raise ModelError(f"{spec}: {path.name} needs one row per item; its shape is {array.shape}.")
    return array
