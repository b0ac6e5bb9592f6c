"""Readers by name: a new kind of image set is one decorated function in one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest

Reader = TypeVar("Reader", bound=Callable[..., ImageSet])
_readers: dict[str, Callable[..., ImageSet]] = {}


def reader(kind: str) -> Callable[[Reader], Reader]:
    """Make a function known to :func:`load` as the reader of a kind of image set.

    Examples
    --------
    >>> @reader("my-faces")                      # doctest: +SKIP
    ... def read_my_faces(csv, images): ...
    """

    def add(function: Reader) -> Reader:
        if kind in _readers and _readers[kind].__qualname__ != function.__qualname__:
            raise DataError(f"there is a reader {kind!r} already ({_readers[kind].__qualname__}).")
        _readers[kind] = function
        return function

    return add


def load(kind: str, *args: object, **options: object) -> ImageSet:
    """Read an image set of a kind, for example ``load("fairface", "val.csv", "images/")``.

    Raises
    ------
    DataError
        No reader of that name (the nearest is named); or what the reader raises.
    """
    if kind not in _readers:
        raise DataError(f"there is no reader {kind!r}." + nearest(kind, _readers))
    return _readers[kind](*args, **options)


def list_readers() -> dict[str, str]:
    """Return ``{kind: first line of its description}``."""
    return {
        kind: (function.__doc__ or "").strip().splitlines()[0] for kind, function in sorted(_readers.items())
    }
