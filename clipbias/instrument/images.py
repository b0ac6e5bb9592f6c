"""The image sets a recipe names: embedded ones, or any reader's by one line of text."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd

from clipbias import probes
from clipbias.data import ImageSet, registry
from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest
from clipbias.instrument.recipe import Measurement
from clipbias.metrics.protocol import STRICT, Protocol, balanced

_LISTS = ("attributes", "contexts")


def load(measurement: Measurement, *, protocol: Protocol = STRICT) -> ImageSet:
    """Return the images of a measurement, already narrowed to those it uses and balanced if the protocol says so.

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
        if "*" in attribute and attribute not in image_set.table:
            image_set = crossed(image_set, attribute)
        image_set.column(attribute)
    if protocol.balance:
        labels = image_set.column(protocol.balance)
        image_set = image_set.take(balanced(labels, image_set.ids, seed=protocol.balance_seed))
    return image_set


def crossed(image_set: ImageSet, name: str) -> ImageSet:
    """Add the intersection of attributes (``"race*gender"``) as an attribute; its levels are the pairs that occur.

    An image whose level is unknown in one of them is unknown in the intersection.
    """
    parts = [image_set.column(column.strip()) for column in name.split("*")]
    labels = [np.asarray(part).astype(str) for part in parts]
    unknown = np.any([label == UNKNOWN for label in labels], axis=0)
    joined = np.where(unknown, UNKNOWN, [" ".join(pair) for pair in zip(*labels, strict=True)])
    order = [
        " ".join(pair) for pair in itertools.product(*([str(c) for c in part.categories] for part in parts))
    ]
    levels = [level for level in [*order, UNKNOWN] if (joined == level).any()]
    table = image_set.table.assign(**{name: pd.Categorical(joined, categories=levels)})
    return replace(image_set, table=table, attributes=(*image_set.attributes, name))


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
    if given["images"] == "none":  # labels only, for scores or embeddings that are stored
        given["images"] = None
        if kind == "table":
            given.setdefault("path_column", given.get("id_column", "path"))
    for key in _LISTS:
        if key in given:
            given[key] = tuple(part for part in given[key].split(",") if part)
    return registry.load(kind, path, **given)


def digest(image_set: ImageSet, rows: np.ndarray, *, labels_only: bool = False) -> str:
    """Return the SHA-256 of the images used and their labels, in order."""
    table = image_set.table.iloc[rows]
    columns = ["image_id", *image_set.attributes, *image_set.contexts]
    total = hashlib.sha256(table[columns].astype(str).to_csv(index=False, lineterminator="\n").encode())
    for item in [] if labels_only else image_set.digests(list(rows)):
        total.update(item.encode())
    return total.hexdigest()
