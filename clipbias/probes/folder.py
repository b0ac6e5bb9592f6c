"""A probe set as a folder of text files: ``probe.toml``, ``items.csv``, ``card.md``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias.errors import DataError, nearest
from clipbias.probes.probeset import ProbeSet


class ProbeFile(BaseModel):
    """What ``probe.toml`` may say; anything else in it is an error."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: str
    title: str
    kind: Literal["concepts", "groups"]
    templates: list[str]
    licence: str
    source: str
    item: str = "item"
    concept: str = "concept"
    attribute: str = ""
    groups: dict[str, list[str]] = {}
    tests: dict[str, dict[str, str]] = {}
    offensive: bool = False
    suited_for: str = Field("", alias="for")
    not_for: str = ""


def read_folder(folder: str | Path) -> ProbeSet:
    """Read a probe set from a folder with ``probe.toml`` and ``items.csv`` (``card.md`` if there).

    Raises
    ------
    DataError
        A file is missing or does not say what it must; the message names file, key or column.
    """
    folder = Path(folder)
    toml = folder / "probe.toml"
    described = _read_toml(toml)
    csv = folder / "items.csv"
    try:
        items = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{csv} was not found; a probe set needs its items there, one row each.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{csv} cannot be read as a UTF-8 CSV file: {error}") from error
    for role, column in (("item", described.item), ("concept", described.concept)):
        if column not in items:
            raise DataError(
                f"{csv} has no column {column!r}, which {toml.name} names as the {role} column."
                + nearest(column, items.columns)
            )
    # One column may serve as item and concept at once; an older column of that name makes way.
    columns: dict[Any, pd.Series] = {"item": items[described.item], "concept": items[described.concept]}
    items = pd.DataFrame({**columns, **{c: items[c] for c in items if c not in columns}})
    card = folder / "card.md"
    return ProbeSet(
        described.name, described.version, tuple(described.templates), items, described.kind,
        described.attribute, {name: tuple(members) for name, members in described.groups.items()},
        described.title, described.licence, described.source, described.offensive, described.suited_for,
        described.not_for, card.read_text(encoding="utf-8") if card.is_file() else "", str(folder),
        described.tests,
    )  # fmt: skip


def _read_toml(path: Path) -> ProbeFile:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} was not found; a probe set is a folder with probe.toml and items.csv."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    if raw.get("kind") == "images":
        raise DataError(f"{path.parent.name!r} is an image set. Load it with probes.load_images().")
    known = [f.alias or name for name, f in ProbeFile.model_fields.items()]
    try:
        described = ProbeFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = nearest(key, known) if first["type"] == "extra_forbidden" else ""
        raise DataError(f"{path}: key {key!r}: {first['msg']}.{hint}") from error
    if described.name != path.parent.name:
        raise DataError(
            f"{path} says name = {described.name!r}, but its folder is called {path.parent.name!r}. "
            "Make them agree."
        )
    return described
