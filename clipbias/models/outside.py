"""Kinds of model that other packages add: entry points of the group ``clipbias.models``.

The name of an entry point is the word before the colon of a spec (``mykind:NAME?option=value``); what it points to is
called with the parsed `ModelSpec` and returns a `clipbias.models.Source`: config, preprocessing and checkpoint.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points

from clipbias.errors import ModelError

GROUP = "clipbias.models"


@functools.cache
def kinds() -> dict[str, EntryPoint]:
    """Return the added kinds by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def function(kind: str) -> object:
    """Return what a package added for a kind.

    Raises
    ------
    ModelError
        The package cannot be imported.
    """
    point = kinds()[kind]
    try:
        return point.load()
    except (ImportError, AttributeError) as problem:
        raise ModelError(
            f"{point.value}, which reads {kind}: models, cannot be imported: {problem}."
        ) from problem
