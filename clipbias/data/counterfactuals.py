"""Generated pictures in matched sets: PAIRS and SocialCounterfactuals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from clipbias.data.columnar import finish_columns, open_columns
from clipbias.data.imageset import ImageSet
from clipbias.data.labels import label_columns, need_columns
from clipbias.data.names import read_names
from clipbias.data.registry import reader
from clipbias.data.table import read_table
from clipbias.errors import DataError

_LICENCE, _SOURCE = "CC-BY-4.0, evaluation only (PAIRS)", "Fraser and Kiritchenko 2024, PAIRS"
_SPACE = re.compile(r"[\s_-]+")


@reader("pairs")
def read_pairs(
    where: str | Path,
    images: str | Path | None = None,
    *,
    attributes: Sequence[str] = ("skin", "gender"),
    contexts: Sequence[str] = ("section", "scenario"),
    scene: str = "scenario",
    name: str = "pairs",
) -> ImageSet:
    """Read matched sets of pictures: the PAIRS folder, or any CSV of pictures with scenario and attributes.

    Parameters
    ----------
    where : str or Path
        ``data/`` of the published repository (``SECTION/SCENARIO/SKIN_GENDER.png``), or a CSV with the column
        ``file`` and those named below.
    images : str or Path, optional
        Folder of the files of a CSV. None: labels only.
    attributes, contexts : sequence of str
    scene : str
        The column that matched pictures share; they are resampled together and are each other's counterfactuals.
    name : str

    Returns
    -------
    ImageSet
        With ``scene``, and ``twin``: the picture of the same scene in which the last attribute alone differs (only
        where there is exactly one). ``facts["incomplete"]`` lists scenes that lack a combination of levels;
        ``facts["notes"]`` tells of labels with a number behind them (the published set has one ``man1``), which are
        read as the label.

    Raises
    ------
    DataError
        No such file, folder or column, or no picture that fits.
    """
    path = Path(where)
    if path.is_dir():
        pattern = "{section}/{scenario}/{skin}_{gender}"
        found = read_names(
            path,
            pattern=pattern,
            attributes=attributes,
            contexts=contexts,
            name=name,
            licence=_LICENCE,
            source=_SOURCE,
        )
    else:
        found = read_table(
            path, images, attributes=attributes, contexts=contexts, path_column="file", name=name,
            licence=_LICENCE, source=_SOURCE,
        )  # fmt: skip
    need_columns(found.table, [scene], str(path))
    found, notes = _without_numbers(found, attributes)
    keys = list(dict.fromkeys([*contexts, scene]))
    table = found.table.assign(scene=found.table[keys].astype(str).agg("/".join, axis=1))
    table["twin"] = _twins(table, attributes)
    return replace(
        found,
        table=table,
        facts={**found.facts, "incomplete": _incomplete(table, attributes), "notes": notes},
    )


@reader("social-counterfactuals")
def read_social_counterfactuals(
    dataset: Any,
    images: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    name: str = "social-counterfactuals",
) -> ImageSet:
    """Read SocialCounterfactuals: a ``datasets.Dataset``, or the parquet files of its repository.

    Parameters
    ----------
    dataset : datasets.Dataset, str or Path
        Columns ``image, caption, a1, a1_type, a2, a2_type, counterfactual_set``.
    images : optional
        Not used; the images are in the data set.
    only : sequence of str
        Types of attribute, for example ``("race", "gender")``: rows that vary exactly these.
    name : str

    Returns
    -------
    ImageSet
        One attribute per type (race, gender, physical trait, ...), ``"unknown"`` where a row does not vary it; the
        context ``occupation`` is what the caption says after the attributes, ``pair`` the two types; ``scene`` is
        the counterfactual set.

    Raises
    ------
    DataError
        A column is missing, or no row varies the types asked for.
    """
    table, _, read, where = open_columns(dataset, "image", images)
    need_columns(table, ["caption", "a1", "a1_type", "a2", "a2_type", "counterfactual_set"], where)
    kinds = table[["a1_type", "a2_type"]].map(_kind)
    attributes = list(dict.fromkeys(kinds.to_numpy().ravel().tolist()))
    wanted = {_kind(kind) for kind in only}
    varied = [set(row) for row in kinds.to_numpy().tolist()]
    other = [bool(wanted) and row != wanted for row in varied]
    if all(other):
        found = sorted({" and ".join(sorted(row)) for row in varied})
        raise DataError(
            f"{where} has no row that varies {' and '.join(sorted(wanted))}. It has: {'; '.join(found)}."
        )
    attributes = [kind for kind in attributes if not wanted or kind in wanted]
    columns = {}
    for kind in attributes:
        first = table["a1"].where(kinds["a1_type"] == kind, "")
        columns[kind] = first.where(first != "", table["a2"].where(kinds["a2_type"] == kind, "")).astype(str)
    pair = kinds["a1_type"] + " and " + kinds["a2_type"]
    occupation = [_after(str(c), str(a)) for c, a in zip(table["caption"], table["a2"], strict=True)]
    base = (
        table["counterfactual_set"].astype(str)
        + "/"
        + table["a1"].astype(str)
        + "/"
        + table["a2"].astype(str)
    )
    number = base.groupby(base).cumcount()
    ids = base.where(number == 0, base + "/" + number.astype(str))
    table = table.assign(
        **columns,
        occupation=occupation,
        pair=pair,
        scene=table["counterfactual_set"].astype(str),
        image_id=ids,
    )
    rows = label_columns(table, [*attributes, "occupation", "pair"], levels=None, where=where)
    return finish_columns(
        rows, read, name=name, attributes=attributes, contexts=("occupation", "pair"),
        licence="MIT (SocialCounterfactuals; generated pictures)", source="Howard et al. 2024, SocialCounterfactuals",
        skip={"varies other attributes than those asked for": other},
    )  # fmt: skip


def _without_numbers(found: ImageSet, attributes: Sequence[str]) -> tuple[ImageSet, tuple[str, ...]]:
    """Read ``man1`` as ``man`` where ``man`` is a level as well."""
    table, notes = found.table.copy(), []
    for column in attributes:
        text = table[column].astype(str)
        bare = text.str.replace(r"\d+$", "", regex=True)
        numbered = (bare != text) & bare.isin(set(text))
        if numbered.any():
            notes.append(
                f"{int(numbered.sum())} labels of {column!r} had a number behind them ({text[numbered].iloc[0]})."
            )
            mended = text.mask(numbered, bare)
            levels = [level for level in found.column(column).categories if level in set(mended)]
            table[column] = pd.Categorical(mended, levels)
    return replace(found, table=table), tuple(notes)


def _kind(value: object) -> str:
    text = _SPACE.sub("_", str(value).strip().lower())
    return {"physicaltrait": "physical_trait", "physical": "physical_trait"}.get(text, text)


def _after(caption: str, word: str) -> str:
    """Return what a caption says after a word: the occupation."""
    _, found, rest = caption.partition(f" {word} ")
    return rest.strip().rstrip(".").lower() if found else ""


def _twins(table: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Return the one picture of the same scene that differs in the last attribute alone, or blank."""
    kept, flipped = [*map(str, attributes[:-1])], attributes[-1]
    key = table[["scene", *kept]].astype(str).agg("/".join, axis=1)
    twin = [""] * len(table)
    for rows in key.groupby(key).indices.values():
        if len(rows) == 2 and table[flipped].iloc[rows[0]] != table[flipped].iloc[rows[1]]:
            twin[rows[0]], twin[rows[1]] = table["image_id"].iloc[rows[1]], table["image_id"].iloc[rows[0]]
    return twin


def _incomplete(table: pd.DataFrame, attributes: Sequence[str]) -> tuple[str, ...]:
    cells = table[list(attributes)].astype(str).agg("/".join, axis=1)
    count = cells.groupby(table["scene"]).nunique()
    return tuple(count.index[count < cells.nunique()])
