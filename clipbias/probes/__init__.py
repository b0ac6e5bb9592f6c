"""What is asked of a model and shown to it. Importing this does not import torch.

Examples
--------
>>> from clipbias import probes
>>> len(probes.load("roles").items)
14
>>> people = probes.load_images("emoji-people", styles=["noto"], roles=["judge"], size=64)
>>> len(people)
10
"""

from __future__ import annotations

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest
from clipbias.probes.copies import read_seat, read_sobit
from clipbias.probes.sets import ProbeSet, list_sets, load, read_folder, register

__all__ = [
    "ProbeSet", "image_sets", "list_sets", "load", "load_images", "read_folder", "read_seat", "read_sobit", "register",
]  # fmt: skip

_IMAGE_SETS = ("emoji-people", "world", "world-people")


def image_sets() -> list[str]:
    """Return the names of the embedded image sets."""
    return list(_IMAGE_SETS)


def load_images(name: str, **options) -> ImageSet:
    """Return an embedded image set.

    Parameters
    ----------
    name : {"emoji-people", "world", "world-people"}
        ``emoji-people``: one person per picture (options of ``clipbias.probes.people.emoji_people``).
        ``world``: scenes drawn with planted ties; ``world-people``: neutral scenes, role x gender x tone x context x
        style fully crossed, every scene with its exact twins (options of ``clipbias.probes.world.World``).

    Raises
    ------
    DataError
        Unknown name or option.
    """
    from pydantic import ValidationError

    from clipbias.probes import people, world

    try:
        if name == "emoji-people":
            return people.emoji_people(**options)
        if name == "world":
            return world.image_set(world.World(**options))
        if name == "world-people":
            return world.image_set(world.World(**{"crossed": 1, "seed": 7, **options}), name=name)
    except (ValidationError, TypeError) as error:
        raise DataError(f"image set {name!r}: {error}") from error
    raise DataError(f"there is no embedded image set {name!r}." + nearest(name, _IMAGE_SETS))
