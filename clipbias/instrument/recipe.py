"""The recipe of a measurement: what is shown, what is asked, which views and metrics (tasks/measure.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import ClipbiasError, DataError
from clipbias.metrics.protocol import Protocol
from clipbias.metrics.record import get


class Measurement(BaseModel):
    """One image set, one probe set and the metrics taken of them.

    Attributes
    ----------
    image_set : str
        An embedded set, or ``KIND:PATH?images=DIR&attributes=a,b`` for one of the readers.
    options : dict
        Options of the embedded set.
    probe : str
        Probe set whose concepts are put to the images.
    truth : str
        Column that holds the concept an image shows; without it there is no zero-shot recall.
    caption : str
        Column of captions that name no attribute; without it there is no retrieval.
    harmful : str
        Probe set whose items count as harm when they win.
    attributes : list of str
        Perceived attributes; default: all that the image set declares.
    metrics : list of str
    views : list of str
        Default: those of the recipe.
    levels : str
        Probe set whose concepts are the levels of an attribute (and perhaps a neutral word): which of them is closest
        to an image is its resolved pronoun.
    recall_k : int
        Length of the retrieved list.
    only : dict
        Column -> level, or ``"probe"`` for the concepts of the probe set: images that are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_set: str
    options: dict = Field(default_factory=dict)
    probe: str = "roles"
    truth: str = ""
    caption: str = ""
    harmful: str = ""
    levels: str = ""
    attributes: list[str] = Field(default_factory=list)
    metrics: list[str] = Field(min_length=1)
    views: list[str] = Field(default_factory=list)
    recall_k: int = Field(10, ge=1)
    only: dict[str, str] = Field(default_factory=dict)


class Recipe(BaseModel):
    """Everything ``measure`` needs besides models: measurements, views, protocol.

    ``local_draws`` bootstrap draws and permutations of view labels compare local views with the global one; 0 leaves
    that out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measurements: list[Measurement] = Field(min_length=1)
    views: list[str] = Field(default_factory=lambda: ["global"], min_length=1)
    random_subsets: int = Field(200, ge=0)
    local_draws: int = Field(100, ge=0)
    min_view: int = Field(100, ge=2)
    protocol: Protocol = Protocol()
    detail: Literal["global", "all"] = "global"

    def views_of(self, measurement: Measurement) -> list[str]:
        """Return the views of one measurement, the global one first."""
        return list(dict.fromkeys(["global", *(measurement.views or self.views)]))


def load(name: str = "measure", **changes: object) -> Recipe:
    """Read a recipe of ``tasks/``; ``changes`` replace its top-level keys.

    Raises
    ------
    DataError
        No such file, not TOML, a key or value it cannot hold, or an unknown metric.
    """
    path = content.find("tasks", f"{name}.toml")
    return parse(tomllib_load(path), str(path), **changes)


def parse(data: dict, where: str, **changes: object) -> Recipe:
    """Validate a recipe; messages name the file and the key."""
    try:
        recipe = Recipe.model_validate({**data, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {key}: {first['msg']} (found {str(first['input'])[:80]!r}).") from error
    for measurement in recipe.measurements:
        for metric in measurement.metrics:
            get(metric)
    return recipe


def tomllib_load(path: Path) -> dict:
    """Read a TOML file.

    Raises
    ------
    ClipbiasError
        The file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ClipbiasError(f"{path} does not exist.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClipbiasError(f"{path} is not valid TOML: {error}.") from error
