"""Word lists that tell which gender a caption speaks of: data files, loaded by name."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.data.imageset import UNKNOWN
from clipbias.errors import DataError, nearest

FOLDER = "words"
BOTH, NEUTRAL, NONE = "both", "neutral", "none"
# A wide list of our own: gendered words that it knows and another list does not are worth a warning.
WIDE = "english-gender"
# What people call the two groups of the shipped lists.
ALIASES = {
    "masculine": ("masculine", "male", "males", "man", "men", "boy", "m"),
    "feminine": ("feminine", "female", "females", "woman", "women", "girl", "f"),
}
_TOKEN = re.compile(r"<\w+>|\w+(?:-\w+)*")


class _WordFile(BaseModel):
    """What a word list's file may say; anything else in it is an error."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: str
    title: str
    attribute: str
    rule: str
    source: str
    licence: str
    caution: str
    neutral: list[str] = []
    groups: dict[str, list[str]]


@dataclass(frozen=True, eq=False)
class WordList:
    """Words of two or more groups.

    Attributes
    ----------
    name : str
    groups : mapping of str to tuple of str
        Group to its words, lower-case; no word belongs to two groups.
    neutral : tuple of str
        Words for people that tell no group.
    attribute, version, title, rule, source, licence, caution : str
        ``rule`` says how its source reads a caption with it, ``caution`` what is wrong with it.
    """

    name: str
    groups: Mapping[str, tuple[str, ...]]
    neutral: tuple[str, ...] = ()
    attribute: str = "gender"
    version: str = "1"
    title: str = ""
    rule: str = ""
    source: str = ""
    licence: str = "not stated"
    caution: str = ""

    def __post_init__(self) -> None:
        groups = {str(g): tuple(dict.fromkeys(w.lower() for w in ws)) for g, ws in self.groups.items()}
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "neutral", tuple(dict.fromkeys(w.lower() for w in self.neutral)))
        if len(groups) < 2:
            raise DataError(f"word list {self.name!r} has {len(groups)} group(s); at least two are needed.")
        seen: dict[str, str] = {}
        for group, words in groups.items():
            if not words:
                raise DataError(f"word list {self.name!r}: group {group!r} has no words.")
            for word in words:
                if seen.setdefault(word, group) != group:
                    raise DataError(
                        f"word list {self.name!r}: {word!r} belongs to {seen[word]!r} and to {group!r}; "
                        "keep it in one of them."
                    )

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that belongs to a group."""
        return frozenset(word for words in self.groups.values() for word in words)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(self.groups)


Words = str | WordList | Mapping[str, Sequence[str]]


def list_words() -> pd.DataFrame:
    """Return one row per word list that can be loaded: the study's own and the shipped ones.

    Returns
    -------
    pandas.DataFrame
        Columns ``name, title, attribute, groups`` (words per group), ``neutral, licence, source, caution``.
    """
    rows = []
    for name in _files():
        found = load_words(name)
        rows.append(
            {
                "name": name, "title": found.title, "attribute": found.attribute,
                "groups": {g: len(ws) for g, ws in found.groups.items()}, "neutral": len(found.neutral),
                "licence": found.licence, "source": found.source, "caution": found.caution,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def load_words(words: Words) -> WordList:
    """Return a word list by name, or make one of a mapping of group to words.

    Raises
    ------
    DataError
        There is no such list, or its file is not right.
    """
    if isinstance(words, WordList):
        return words
    if isinstance(words, Mapping):
        return WordList("custom", {g: tuple(ws) for g, ws in words.items()}, source="given by the caller")
    files = _files()
    if words not in files:
        raise DataError(f"there is no word list {words!r}." + nearest(str(words), files))
    path = files[words]
    return _read_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read_file(path: Path, changed: int) -> WordList:
    """Read a list; ``changed`` makes an edited file a new one to the cache."""
    try:
        said = _WordFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = nearest(key, _WordFile.model_fields) if first["type"] == "extra_forbidden" else ""
        raise DataError(f"{path}: key {key!r}: {first['msg']}.{hint}") from error
    if said.name != path.stem:
        raise DataError(f"{path} says name = {said.name!r}; make it agree with the file's name.")
    fields = said.model_dump()
    fields["groups"] = {g: tuple(ws) for g, ws in fields["groups"].items()}
    return WordList(**{**fields, "neutral": tuple(fields["neutral"])})


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in content.roots():
        for path in sorted((root / "probes" / FOLDER).glob("*.toml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def tokens(caption: str) -> list[str]:
    """Split a caption into lower-case words; hyphens stay inside a word, ``man's`` is ``man`` and ``s``."""
    return _TOKEN.findall(caption.lower())


def as_captions(captions: Iterable[Any], name: str = "captions") -> list[str]:
    """Return captions as a list of strings, or say which one is none.

    Raises
    ------
    DataError
        A caption is missing or no text. An empty string is a caption without words.
    """
    if isinstance(captions, str):
        raise DataError(f"{name} needs a list of captions, not one string.")
    found = list(captions)
    for place, caption in enumerate(found):
        if not isinstance(caption, str):
            raise DataError(f"{name} at position {place} is {caption!r}, which is no text.")
    return cast("list[str]", found)


def mentions(captions: Sequence[str], words: Words = "hendricks2018") -> np.ndarray:
    """Return which groups each caption names, a boolean array (n, groups) in the order of ``levels``."""
    listed = load_words(words)
    sets = [frozenset(ws) for ws in listed.groups.values()]
    said = (frozenset(tokens(caption)) for caption in as_captions(captions))
    flat = [not group.isdisjoint(seen) for seen in said for group in sets]
    return np.array(flat, dtype=bool).reshape(-1, len(sets))


def caption_group(
    captions: Sequence[str] | Sequence[Sequence[str]], words: Words = "hendricks2018"
) -> np.ndarray:
    """Return the group that each caption (or all captions of an image together) speaks of.

    Parameters
    ----------
    captions : sequence of str, or of sequences of str
        One caption per image, or all captions of each image: then the words of all count together.
    words : str, WordList or mapping

    Returns
    -------
    ndarray of str (n,)
        A level of the list where only words of that group occur; ``"both"`` where words of several do,
        ``"neutral"`` where only neutral words do, else ``"none"``.
    """
    listed = load_words(words)
    joined = [c if isinstance(c, str) else " ".join(as_captions(c)) for c in captions]
    named = mentions(joined, listed)
    neutral = frozenset(listed.neutral)
    plain = np.array([not neutral.isdisjoint(tokens(c)) for c in joined], dtype=bool)
    levels = np.array([*listed.levels, BOTH, NEUTRAL, NONE], dtype=object)
    place = np.where(plain, len(levels) - 2, len(levels) - 1)
    place = np.where(named.sum(1) > 1, len(levels) - 3, place)
    return levels[np.where(named.sum(1) == 1, named.argmax(1), place)]


def missed_words(
    captions: Iterable[str], words: Words = "hendricks2018", *, wide: Words = WIDE
) -> dict[str, int]:
    """Count gendered words of the captions that the list does not know.

    Parameters
    ----------
    captions : iterable of str
    words : str, WordList or mapping
    wide : str, WordList or mapping
        Where gendered words are looked up.

    Returns
    -------
    dict of str to int
        Word to the number of captions that have it, the commonest first; empty if nothing is missed.
    """
    missing = load_words(wide).words - load_words(words).words
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(missing.intersection(tokens(caption)))
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def group_codes(
    labels: Any, listed: WordList, levels: Mapping[Any, str | None] | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Match the groups that people were labelled with to the groups of a word list.

    Parameters
    ----------
    labels : array (n,)
        For example ``"Male"``, ``"woman"``, ``"unknown"``.
    listed : WordList
    levels : mapping, optional
        Label to group of the list, or to None for "leave these images out". Default: the usual names.

    Returns
    -------
    codes : ndarray of int (n,)
        Position of the group in ``listed.levels``; −1 where the label is unknown or left out.
    names : dict
        Group of the list to the label it was matched with.

    Raises
    ------
    DataError
        A label cannot be matched.
    """
    column = np.asarray(labels, dtype=object)
    if column.ndim != 1:
        raise DataError(f"one label per caption is needed, these have shape {column.shape}.")
    given = {str(k): v for k, v in levels.items()} if levels is not None else None
    usual = {a: group for group in listed.levels for a in (group.lower(), *ALIASES.get(group, ()))}
    match: dict[Any, int] = {}
    names: dict[str, Any] = {}
    for label in dict.fromkeys(column.tolist()):
        if pd.isna(label) or (given is None and str(label).strip().lower() in (UNKNOWN, "")):
            match[label] = -1
            continue
        known = given if given is not None else usual
        key = str(label) if given is not None else str(label).strip().lower()
        group = known.get(key, "")
        if group is None:
            match[label] = -1
        elif group in listed.levels:
            match[label] = listed.levels.index(group)
            names.setdefault(group, label)
        else:
            raise DataError(
                f"label {label!r} is no group of the word list {listed.name!r}." + nearest(key, usual)
                + " Leave these images out, or say what they are: "
                + f"levels={{{label!r}: {listed.levels[0]!r}}}, or None to leave them out."
            )  # fmt: skip
    return np.array([match[label] for label in column.tolist()], dtype=np.int64), names
