"""The run's tables as the report reads them: every one may be missing, none may be malformed.

Whatever came in (a run folder, its path, a mapping of frames) leaves as one ``Tables`` object whose
frames have the columns the sections rely on, so that no section asks "is this column there?".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from clipbias.errors import DataError
from clipbias.results.rows import COLUMNS

_INTRINSIC_NUMBERS = ("value", "ci_low", "ci_high", "n", "null_mean", "null_sd", "z", "p")

# Columns a section may use, by table: text columns, then number columns. More columns are kept as they are.
SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "intrinsic": (tuple(c for c in COLUMNS if c not in _INTRINSIC_NUMBERS), _INTRINSIC_NUMBERS),
    "extrinsic": (tuple(c for c in COLUMNS if c not in _INTRINSIC_NUMBERS), _INTRINSIC_NUMBERS),
    "adapted": (
        (
            "model",
            "task",
            "head",
            "mode",
            "intervention",
            "seed",
            "image_set",
            "metric",
            "competent",
            "reason",
        ),
        ("quality", "blind"),
    ),
    "models": (
        ("model", "family", "planted_context", "digest"),
        ("parameters", "planted_rho", "role_accuracy", "object_accuracy"),
    ),
    "metrics": (
        ("metric", "title", "unit", "sign", "direction", "interval", "reference"),
        ("range_low", "range_high", "ideal"),
    ),
    "views": (("model", "image_set", "view", "kind", "definition", "card"), ("n",)),
    "validity": (
        ("metric", "attribute", "image_set", "verdict", "reason"),
        (
            "spearman",
            "ci_low",
            "ci_high",
            "spearman_unsigned",
            "bound",
            "p",
            "false_positive_rate",
            "n_models",
        ),
    ),
    "metric_validity": (
        ("metric", "what", "reason"),
        (
            "spearman",
            "ci_low",
            "ci_high",
            "spearman_unsigned",
            "n_models",
            "reliability",
            "false_positive_rate",
            "coverage",
        ),
    ),
    "null_bands": (
        ("model", "image_set", "attribute", "probe", "metric"),
        ("size", "q_low", "q_mid", "q_high"),
    ),
    "examples": (("model", "attribute", "probe", "group", "image_id", "caption", "png"), ("score",)),
}


@dataclass(frozen=True)
class Tables:
    """Frames by name plus the manifest.

    Attributes
    ----------
    frames : dict of str to DataFrame
    manifest : dict
        As written by the run; empty when there is none.
    chosen : tuple of str
        The models that the report was limited to; empty for all.
    """

    frames: dict[str, pd.DataFrame]
    manifest: dict[str, Any] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table with its expected columns, empty when the run has none."""
        if name not in self.frames:
            self.frames[name] = _shaped(name, pd.DataFrame())
        return self.frames[name]

    def has(self, name: str) -> bool:
        """Say whether there is anything in a table (``manifest`` counts as one)."""
        if name == "manifest":
            return bool(self.manifest)
        return name in self.frames and len(self.frames[name]) > 0


def read(source: Any) -> Tables:
    """Return the tables of a run folder, of a path to one, or of a mapping name -> DataFrame.

    Parameters
    ----------
    source : RunFolder, str, Path, Tables or mapping
        A mapping may hold the manifest as a dict under ``"manifest"``.

    Raises
    ------
    DataError
        The folder does not exist or holds no table that a report could show.
    """
    if isinstance(source, Tables):
        return source
    if isinstance(source, Mapping):
        frames = {k: v for k, v in source.items() if k != "manifest" and v is not None}
        for name, frame in frames.items():
            if not isinstance(frame, pd.DataFrame):
                raise DataError(f"Table {name!r} is a {type(frame).__name__}; give a pandas DataFrame.")
        return Tables(_prepared(frames), dict(source.get("manifest") or {}))
    if isinstance(source, (str, Path)):
        folder = Path(source)
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a run folder: no such folder. "
                "Run `python -m clipbias.measure` first, or name the folder it wrote."
            )
        from clipbias.results.run import RunFolder

        source = RunFolder(folder)
    frames = {name: source.read(name) for name in source.tables()}
    if not any(len(frame) for frame in frames.values()):
        raise DataError(
            f"{getattr(source, 'path', source)} holds no results. Run `python -m clipbias.measure --out` with it."
        )
    return Tables(_prepared(frames), dict(source.manifest or {}))


def _prepared(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    shaped = {name: _shaped(name, frame) for name, frame in frames.items()}
    models, rows = shaped.get("models"), shaped.get("intrinsic")
    if models is not None and rows is not None and "spec" in models:
        # Metadata may call a model by its architecture; the rows know it by its spec.
        known = set(rows["model"])
        spec = models["spec"].astype(str)
        shaped["models"] = models.assign(model=models["model"].where(models["model"].isin(known), spec))
    return shaped


def _shaped(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    text, numbers = SHAPES.get(name, ((), ()))
    if name == "models" and "family" not in frame and "architecture" in frame:
        frame = frame.rename(columns={"architecture": "family"})
    missing = {c: "" for c in text if c not in frame} | {c: math.nan for c in numbers if c not in frame}
    frame = frame.assign(**missing).reset_index(drop=True)
    for column in text:
        given = frame[column]
        plain = pd.api.types.is_string_dtype(given.dtype) and given.dtype != object
        frame[column] = given.fillna("").astype(str) if plain else [_text(v) for v in given]
    for column in numbers:
        frame[column] = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    if name in ("intrinsic", "extrinsic"):
        frame.loc[frame["status"] == "", "status"] = "ok"
    return frame


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None or pd.isna(value) else str(value)
