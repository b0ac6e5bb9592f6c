"""Pictures that a data set only links to: fetched once, with a list of the links that are dead."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd

from clipbias.data.files import left_out, why_unreadable
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import need_columns
from clipbias.data.regions import IMAGE_SUFFIXES

_AGENT = {"User-Agent": "clipbias (research on bias of vision-language models)"}


def download(
    image_set: ImageSet,
    folder: str | Path,
    *,
    timeout: float = 20,
    on_each: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Fetch the pictures of an image set with a column ``url`` into a folder, named by their id.

    What is there already is not fetched again, so that a broken run goes on.

    Parameters
    ----------
    image_set : ImageSet
        Read with ``images=None``.
    folder : str or Path
        Made if it is not there.
    timeout : float
        Seconds per link.
    on_each : callable, optional
        ``on_each(done, total)``.

    Returns
    -------
    pandas.DataFrame
        Columns ``item, reason``: links that are dead or lead to something that is no picture.

    Raises
    ------
    DataError
        The image set has no column ``url``.
    """
    need_columns(image_set.table, ["url"], f"image set {image_set.name!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    have = {path.stem for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    items, reasons = [], []
    links = image_set.table[["image_id", "url"]].to_numpy().tolist()
    for done, (item, url) in enumerate(links, 1):
        if item not in have:
            reason = _fetch(url, folder, item, timeout)
            if reason:
                items.append(item)
                reasons.append(f"{reason}: {url}")
        if on_each:
            on_each(done, len(links))
    return left_out(items, reasons)


def _fetch(url: str, folder: Path, item: str, timeout: float) -> str:
    """Save one picture; return why it could not be had."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=_AGENT), timeout=timeout) as answer:
            data = answer.read()
    except urllib.error.HTTPError as error:
        return f"dead link (HTTP {error.code})"
    except (OSError, ValueError) as error:
        return f"dead link ({error})"
    bad = why_unreadable(data)
    if bad:
        return f"no picture ({bad})"
    suffix = Path(urlparse(url).path).suffix.lower()
    path = folder / f"{item}{suffix if suffix in IMAGE_SUFFIXES else '.jpg'}"
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
    return ""
