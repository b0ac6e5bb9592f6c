"""Where the content of a study lies: probes/, tasks/, analysis/ and reports/.

Three places are searched, the first that holds a file wins: the user's study folder
(``set_study`` or the environment variable ``CLIPBIAS_STUDY``), the checkout, the installed wheel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from clipbias.errors import DataError, nearest

KINDS = ("probes", "tasks", "analysis", "reports")
_PACKAGE = Path(__file__).resolve().parent


def shipped() -> Path:
    """Return the folder that holds the four content folders of this installation."""
    wheel = _PACKAGE / "_content"
    return wheel if wheel.is_dir() else _PACKAGE.parent


def roots() -> list[Path]:
    """Return the folders searched for content, the user's study first."""
    study = os.environ.get("CLIPBIAS_STUDY")
    return ([Path(study)] if study else []) + [shipped()]


def find(kind: str, name: str) -> Path:
    """Return the path of one file or folder of content.

    Parameters
    ----------
    kind : {"probes", "tasks", "analysis", "reports"}
    name : str
        Path below the content folder, for example ``"roles/probe.toml"``.

    Raises
    ------
    DataError
        Nothing of that name in any place searched.
    """
    for root in roots():
        path = root / kind / name
        if path.exists():
            return path
    raise DataError(
        f"{kind}/{name} was not found in {', '.join(str(r) for r in roots())}."
        + nearest(name.split("/")[0], (p.name for p in entries(kind)))
    )


def entries(kind: str) -> Iterator[Path]:
    """Yield the files and folders directly below a content folder; a study's own replace shipped ones."""
    seen: set[str] = set()
    for root in roots():
        folder = root / kind
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path.name not in seen and not path.name.startswith((".", "_")):
                seen.add(path.name)
                yield path
