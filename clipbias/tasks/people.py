"""Who is in the images: from a table of annotations, or from what captions say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.data.labels import categorical, need_columns, read_csv
from clipbias.errors import DataError

if TYPE_CHECKING:
    from clipbias.tasks.metrics.words import WordList

ID_COLUMNS = ("image_id", "img_id", "id")
# Columns that are taken as protected attributes when none are named; `bb_` marks those of the largest person.
ATTRIBUTES = ("gender", "skin", "skin_tone", "tone", "age", "race", "ethnicity")
GENDERS = ("woman", "man")
_SAME = {
    **dict.fromkeys(("female", "f", "feminine", "women"), "woman"),
    **dict.fromkeys(("male", "m", "masculine", "men"), "man"),
}


def read_people(
    labels: str | Path | pd.DataFrame,
    *,
    label_id: str | None = None,
    attributes: Sequence[str] | None = None,
    contexts: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Read annotations of people, one row per image.

    Parameters
    ----------
    labels : str, Path or pandas.DataFrame
        CSV, TSV or parquet, as :func:`~clipbias.data.labels.read_csv` takes them.
    label_id : str, optional
        Default: the first of `ID_COLUMNS` that is there.
    attributes : sequence of str, optional
        Default: the columns called as in `ATTRIBUTES`, with or without ``bb_``.
    contexts : sequence of str, optional
        Further columns to keep.

    Returns
    -------
    people : pandas.DataFrame
        ``image_id`` and the columns, as text. ``bb_`` is dropped from names; in a column ``gender``, ``Female``, ``F``
        and the like are ``woman``, ``Male`` is ``man``. Other values (``Unsure``, ``Both``) stay levels of their own.
    attributes : list of str

    Raises
    ------
    DataError
        No such file or column.
    """
    where = "the labels" if isinstance(labels, pd.DataFrame) else str(labels)
    table = labels.astype(str) if isinstance(labels, pd.DataFrame) else read_csv(labels)
    key = label_id or next((name for name in ID_COLUMNS if name in table), None)
    if key is None:
        raise DataError(
            f"{where} has none of the columns {', '.join(ID_COLUMNS)}; name the one with the image ids (label_id=)."
        )
    if attributes is None:
        attributes = [name for name in map(str, table) if name.removeprefix("bb_") in ATTRIBUTES]
        if not attributes:
            raise DataError(
                f"{where} has no column that is known as an attribute of people ({', '.join(ATTRIBUTES)}); name those "
                f"that are (attributes=). It has: {', '.join(map(str, table))}."
            )
    columns = list(dict.fromkeys([key, *attributes, *(c for c in contexts or () if c in table)]))
    need_columns(table, columns, where)
    people = table[columns].rename(columns={key: "image_id"}).rename(columns=lambda c: c.removeprefix("bb_"))
    twice = people.columns[people.columns.duplicated()]
    if len(twice):
        raise DataError(
            f"{where} has both {twice[0]!r} and 'bb_{twice[0]}'; name the one to use (attributes=)."
        )
    again = people["image_id"].duplicated()
    if again.any():
        raise DataError(
            f"{where} has more than one row for image {people.loc[again, 'image_id'].iloc[0]!r}; one is needed."
        )
    if "gender" in people:
        text = people["gender"].str.strip()
        people["gender"] = [_SAME.get(value.casefold(), value) for value in text]
    return people, [name.removeprefix("bb_") for name in attributes]


def with_people(images: ImageSet, people: pd.DataFrame, attributes: Sequence[str]) -> ImageSet:
    """Join annotations of people on the image id.

    Parameters
    ----------
    images : ImageSet
        May have the columns already; they are replaced.
    people : pandas.DataFrame
        As from `read_people`.
    attributes : sequence of str
        The other columns of ``people`` become contexts.

    Returns
    -------
    ImageSet
        Images without a row, and blanks, are ``"unknown"``. Levels are those of all annotations.
    """
    columns = [str(column) for column in people if column != "image_id"]
    labels = {
        column: categorical(people[column], where=f"the labels, column {column!r}") for column in columns
    }
    place = pd.Index(people["image_id"]).get_indexer(pd.Index(images.ids))
    table = images.table.copy()
    for column, found in labels.items():
        # Unknown is a level of every set, so that sets of which only one is annotated have the same levels.
        levels = [*(level for level in found.categories if level != UNKNOWN), UNKNOWN]
        values = np.append(np.asarray(found, dtype=object), UNKNOWN)  # place is -1 without a row
        table[column] = pd.Categorical(values[place], levels)
    contexts = [column for column in columns if column not in attributes]
    return replace(
        images,
        table=table,
        attributes=tuple(dict.fromkeys([*attributes, *(a for a in images.attributes if a not in contexts)])),
        contexts=tuple(dict.fromkeys([*(c for c in images.contexts if c not in attributes), *contexts])),
    )


def gender_of_captions(
    captions: Sequence[Sequence[str]], words: str | WordList | Mapping[str, Sequence[str]]
) -> pd.Categorical:
    """Infer the gender of whom the captions of each image speak of.

    Parameters
    ----------
    captions : sequence of sequences of str, length n
        All captions of each image.
    words : str, WordList or mapping
        A word list by name, or ``{"masculine": [...], "feminine": [...]}``.

    Returns
    -------
    pandas.Categorical
        Length n: ``woman`` or ``man`` where words of that group occur in any caption and none of the other;
        ``unknown`` where both or neither occur. Groups with other names keep theirs.

    Raises
    ------
    DataError
        There is no such word list.
    """
    from clipbias.tasks.metrics.words import caption_group, load_words

    listed = load_words(words)
    names = {group: _SAME.get(group.casefold(), group) for group in listed.levels}
    found = [names.get(str(group), UNKNOWN) for group in caption_group(captions, listed)]
    levels = sorted(names.values(), key=lambda name: (GENDERS.index(name) if name in GENDERS else 2, name))
    return pd.Categorical(found, [*levels, UNKNOWN])
