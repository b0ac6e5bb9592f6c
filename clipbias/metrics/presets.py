"""Protocols of earlier studies by name, and what each of their choices changes.

A preset is a TOML file in ``tasks/protocols``: the choices of a `Protocol` in which a study differs from
``strict``, what it asked of which images, one sentence for each difference, and what cannot be reproduced.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import DataError, nearest
from clipbias.metrics.protocol import STRICT, Protocol

FOLDER = "protocols"


class Ask(BaseModel):
    """What a study asked; a command's own options come first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probe: str | None = None
    harmful: str | None = None
    metrics: list[str] | None = None
    views: list[str] | None = None


class Preset(BaseModel):
    """What ``tasks/protocols/NAME.toml`` may say.

    Attributes
    ----------
    name, title, source : str
    images : str
        The images of the study, in words.
    choices : dict
        Fields of `Protocol` in which it differs from ``strict`` (``[protocol]`` in the file).
    changes : dict
        One sentence per choice: what it does to a number.
    ask : Ask
    limits : list of str
        What is not known or not reproduced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    source: str
    images: str
    choices: dict[str, Any] = Field(default_factory=dict, alias="protocol")
    changes: dict[str, str] = Field(default_factory=dict)
    ask: Ask = Ask()
    limits: list[str] = Field(default_factory=list)

    def protocol(self, base: Protocol = STRICT) -> Protocol:
        """Return a protocol with the study's choices; what it does not settle is as in ``base``."""
        return Protocol.model_validate({**base.model_dump(), **self.choices, "name": self.name})


@dataclass(frozen=True)
class Difference:
    """One choice of a study that is not the one of the base protocol.

    Attributes
    ----------
    choice : str
        Field of `Protocol`.
    study, base : object
    says : str
        One sentence.
    """

    choice: str
    study: object
    base: object
    says: str


def list_presets() -> list[str]:
    """Return the names of the presets: those of the study and the shipped ones."""
    folders = (root / "tasks" / FOLDER for root in content.roots())
    return sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.toml")})


def load_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises
    ------
    DataError
        No such preset, a key or choice that does not exist, or a choice without its sentence.
    """
    if name not in list_presets():
        raise DataError(f"there is no protocol {name!r}." + nearest(name, list_presets()))
    path = content.find("tasks", f"{FOLDER}/{name}.toml")
    try:
        made = Preset.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        made.protocol()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        hint = nearest(key, Protocol.model_fields) if first["type"] == "extra_forbidden" else ""
        raise DataError(f"{path}: {key}: {first['msg']}.{hint}") from error
    if made.name != name:
        raise DataError(f"{path} says name = {made.name!r}. Make name and file agree.")
    odd = sorted(set(made.choices) ^ set(made.changes))
    if odd:
        raise DataError(f"{path}: {odd[0]!r} must stand in [protocol] and, with one sentence, in [changes].")
    return made


def differences(preset: Preset, base: Protocol = STRICT) -> list[Difference]:
    """Return the choices in which a study differs from a protocol, in the order of its file."""
    made = preset.protocol(base)
    return [
        Difference(choice, getattr(made, choice), getattr(base, choice), preset.changes[choice])
        for choice in preset.choices
        if getattr(made, choice) != getattr(base, choice)
    ]


def only(choices: Mapping[str, Any], base: Protocol = STRICT) -> Protocol:
    """Return a protocol in which just some choices differ from the base."""
    return Protocol.model_validate({**base.model_dump(), **choices})
