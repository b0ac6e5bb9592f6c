"""Probe sets by name: folders of the study and of this package, sets made in Python, other packages' sets.

Every number in a result resolves to the literal prompts of one of these.
"""

from __future__ import annotations

import tomllib
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pandas as pd

from clipbias import content
from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.probes import copies
from clipbias.probes.folder import read_folder
from clipbias.probes.probeset import ProbeSet

__all__ = ["ENTRY_POINTS", "ProbeSet", "list_sets", "load", "read_folder", "register"]

ENTRY_POINTS = "clipbias.probes"
_registered: dict[str, ProbeSet] = {}


def register(probe_set: ProbeSet, *, replace: bool = False) -> ProbeSet:
    """Make a probe set known under its name in this process; returns it.

    Raises
    ------
    DataError
        Another set of that name is registered and ``replace`` is False.
    """
    other = _registered.get(probe_set.name)
    if other is not None and other.digest != probe_set.digest and not replace:
        raise DataError(
            f"probe set {probe_set.name!r} is registered already with other prompts "
            f"(version {other.version}). Choose another name, or pass replace=True."
        )
    _registered[probe_set.name] = probe_set
    return probe_set


def load(name: str) -> ProbeSet:
    """Return a probe set: registered in Python, in the study, shipped, or of another package (in that order).

    A set whose terms do not let it be shipped is read from your own copy of its files.

    Raises
    ------
    DataError
        No such set, its files are not right, or it needs your own copy (the message says how to get it).
    """
    if name in _registered:
        return _registered[name]
    folders = _folders()
    if name in folders:
        return read_folder(folders[name])
    if name in copies.names():
        return copies.load(name)
    plugins = _plugins()
    if name in plugins:
        try:
            return _load_plugin(plugins[name])
        except ClipbiasError:
            raise
        except Exception as error:
            raise DataError(
                f"probe set {name!r} comes from {_maker(plugins[name])}, which failed: {error!r}."
            ) from error
    if any(path.name == name for path in content.entries("probes")):
        raise DataError(f"probes/{name} has no probe.toml, so it is no probe set." + nearest(name, _names()))
    raise DataError(f"there is no probe set {name!r}." + nearest(name, _names()))


def list_sets() -> pd.DataFrame:
    """Return one row per probe set that can be loaded.

    A set that is broken gives a warning and is left out, so that one bad folder or plug-in does not hide
    the rest.

    Returns
    -------
    pandas.DataFrame
        Columns ``name, version, kind, attribute, concepts, items, templates, prompts, offensive, licence,
        title, digest, origin, status``, sorted by name. ``status`` is ``"ready"``, or ``"needs your copy"`` for a
        set that is not shipped and whose files are not in the study (its counts are 0).
    """
    rows = []
    for name in _names():
        try:
            if _lacks_copy(name):
                rows.append(_absent(copies.described(name)))
                continue
            found = load(name)
        except ClipbiasError as error:
            warnings.warn(f"probe set {name!r} is left out: {error}", stacklevel=2)
            continue
        rows.append(
            {
                "name": name, "version": found.version, "kind": found.kind, "attribute": found.attribute,
                "concepts": len(found.concepts), "items": len(found.items), "templates": len(found.templates),
                "prompts": len(found.prompts), "offensive": found.offensive, "licence": found.licence,
                "title": found.title, "digest": found.digest, "origin": found.origin, "status": "ready",
            }
        )  # fmt: skip
    columns = ["name", "version", "kind", "attribute", "concepts", "items", "templates", "prompts"]
    return pd.DataFrame(
        rows, columns=[*columns, "offensive", "licence", "title", "digest", "origin", "status"]
    )


def _lacks_copy(name: str) -> bool:
    own = name in _registered or name in _folders()
    return not own and name in copies.names() and None in copies.paths(name)


def _absent(about: copies.CopyFile) -> dict[str, object]:
    return {
        "name": about.name, "version": "", "kind": "concepts", "attribute": "", "concepts": 0, "items": 0,
        "templates": 0, "prompts": 0, "offensive": about.offensive, "licence": about.terms, "title": about.title,
        "digest": "", "origin": "", "status": "needs your copy",
    }  # fmt: skip


def _names() -> list[str]:
    return sorted({*_registered, *_folders(), *copies.names(), *_plugins()})


def _folders() -> dict[str, Path]:
    """Folders with a probe.toml that is not an image set's."""
    found = {}
    for path in content.entries("probes"):
        toml = path / "probe.toml"
        if not toml.is_file():
            continue
        try:
            images = tomllib.loads(toml.read_text(encoding="utf-8-sig")).get("kind") == "images"
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            images = False  # a broken file is reported when the set is read
        if not images:
            found[path.name] = path
    return found


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _maker(point: EntryPoint) -> str:
    return f"the package {point.dist.name!r}" if point.dist else f"the entry point {point.value!r}"


def _load_plugin(point: EntryPoint) -> ProbeSet:
    """Import one plug-in: a ProbeSet, a folder, or a function that returns either."""
    thing = point.load()
    if callable(thing):
        thing = thing()
    if isinstance(thing, (str, Path)):
        thing = read_folder(thing)
    if not isinstance(thing, ProbeSet):
        raise DataError(
            f"{point.value} of {_maker(point)} is a {type(thing).__name__}; expected a ProbeSet or a folder."
        )
    return thing
