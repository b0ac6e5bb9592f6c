"""The image sets a recipe names: embedded ones, or any reader's by one line of text."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from clipbias import probes
from clipbias.data import ImageSet, registry
from clipbias.errors import DataError, nearest
from clipbias.instrument.recipe import Measurement

_LISTS = ("attributes", "contexts")


def load(measurement: Measurement) -> ImageSet:
    """Return the images of a measurement, already narrowed to those it uses.

    Raises
    ------
    DataError
        Unknown set, reader, column or level, or nothing left.
    """
    image_set = _load(measurement.image_set, json.dumps(measurement.options, sort_keys=True))
    for column, level in measurement.only.items():
        found = image_set.column(column)
        wanted = probes.load(measurement.probe).concepts if level == "probe" else (level,)
        if level != "probe" and level not in found.categories:
            raise DataError(
                f"column {column!r} of {image_set.name!r} has no level {level!r}."
                + nearest(level, map(str, found.categories))
            )
        image_set = image_set.take(np.isin(np.asarray(found).astype(str), list(wanted)))
    if len(image_set) == 0:
        raise DataError(f"no image of {measurement.image_set!r} is left (only = {measurement.only}).")
    for attribute in measurement.attributes or image_set.attributes:
        image_set.column(attribute)
    return image_set


@functools.lru_cache(maxsize=8)
def _load(name: str, options: str) -> ImageSet:
    if ":" not in name:
        return probes.load_images(
            name, **{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(options).items()}
        )
    kind, _, rest = name.partition(":")
    path, _, query = rest.partition("?")
    given: dict = dict(parse_qsl(query, keep_blank_values=True))
    given.setdefault("images", str(Path(path).parent))
    for key in _LISTS:
        if key in given:
            given[key] = tuple(part for part in given[key].split(",") if part)
    return registry.load(kind, path, **given)


def digest(image_set: ImageSet, rows: np.ndarray) -> str:
    """Return the SHA-256 of the images used and their labels, in order."""
    table = image_set.table.iloc[rows]
    columns = ["image_id", *image_set.attributes, *image_set.contexts]
    total = hashlib.sha256(table[columns].astype(str).to_csv(index=False, lineterminator="\n").encode())
    for item in image_set.digests(list(rows)):
        total.update(item.encode())
    return total.hexdigest()
