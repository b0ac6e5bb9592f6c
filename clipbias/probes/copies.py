"""Probe sets whose terms do not let them be shipped: read from the user's own copy of the published files.

A folder of ``probes/`` with a ``copy.toml`` says which files are needed, where to get them and which reader
takes them. The files go into a folder of the same name in the user's study.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import DataError, nearest
from clipbias.probes.articles import article
from clipbias.probes.probeset import ProbeSet

MARK = "copy.toml"


class CopyFile(BaseModel):
    """What ``copy.toml`` may say."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    reader: str
    files: list[str] = Field(min_length=1)
    terms: str
    source: str
    how: str
    offensive: bool = False
    suited_for: str = Field("", alias="for")
    not_for: str = ""


def described(name: str) -> CopyFile:
    """Return what the shipped or the study's ``copy.toml`` says of a set.

    Raises
    ------
    DataError
        The file is not right.
    """
    path = _find(name, MARK)
    if path is None:
        raise DataError(f"probes/{name} has no {MARK}.")
    try:
        found = CopyFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: key {'.'.join(map(str, first['loc']))!r}: {first['msg']}.") from error
    if found.reader not in READERS:
        raise DataError(f"{path}: there is no reader {found.reader!r}." + nearest(found.reader, READERS))
    return found


def names() -> list[str]:
    """Return the sets that need the user's own copy."""
    return sorted({p.parent.name for root in content.roots() for p in (root / "probes").glob(f"*/{MARK}")})


def paths(name: str) -> list[Path | None]:
    """Return where the files of a set lie, None for one that is not there."""
    return [_find(name, file) for file in described(name).files]


def load(name: str) -> ProbeSet:
    """Read a set from the user's copy.

    Raises
    ------
    DataError
        The copy is not there (the message says how to get it), or is not what it should be.
    """
    about = described(name)
    found = paths(name)
    missing = [file for file, path in zip(about.files, found, strict=True) if path is None]
    if missing:
        raise DataError(
            f"probe set {name!r} is not shipped ({about.terms}). {about.how} Put {' and '.join(missing)} into "
            f"probes/{name}/ of your study folder and name that folder with CLIPBIAS_STUDY=DIR (or --study)."
        )
    return READERS[about.reader](*[path for path in found if path is not None], about=about)


def _find(name: str, file: str) -> Path | None:
    places = (root / "probes" / name / file for root in content.roots())
    return next((path for path in places if path.is_file()), None)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _version(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return f"copy-{digest.hexdigest()[:12]}"


def _make(
    about: CopyFile | None, name: str, files: Sequence[Path], items: pd.DataFrame, **more: Any
) -> ProbeSet:
    facts: dict[str, Any] = {"offensive": True}
    if about is not None:
        name = about.name
        card = _find(name, "card.md")
        facts = {
            "title": about.title, "licence": about.terms, "source": about.source, "offensive": about.offensive,
            "suited_for": about.suited_for, "not_for": about.not_for,
            "card": card.read_text(encoding="utf-8") if card else "",
        }  # fmt: skip
    return ProbeSet(name, _version(files), items=items, origin=str(files[0].parent), **more, **facts)


def read_sobit(
    taxonomy: str | Path, parts_of_speech: str | Path, *, about: CopyFile | None = None
) -> ProbeSet:
    """Read the So-B-IT taxonomy of words (Hamidieh et al. 2024) as its replica writes it.

    Parameters
    ----------
    taxonomy : str or Path
        JSON, ``{category: [word, ...]}``. A word may be in several categories.
    parts_of_speech : str or Path
        JSON, ``{word: "ADJECTIVE" | "NOUN"}``: an adjective stands before "person" in the prompt.
    about : CopyFile, optional

    Returns
    -------
    ProbeSet
        One concept per word; ``groups`` are the categories; ``offensive`` is True.

    Raises
    ------
    DataError
        A file is no such JSON, or a word has no known part of speech.
    """
    files = [Path(taxonomy), Path(parts_of_speech)]
    groups, speech = _json(files[0]), _json(files[1])
    lists = isinstance(groups, dict) and groups and all(isinstance(words, list) for words in groups.values())
    if not lists or not isinstance(speech, dict):
        raise DataError(
            f"{files[0]} should map categories to lists of words, {files[1].name} words to parts of speech."
        )
    words = list(dict.fromkeys(str(word) for members in groups.values() for word in members))
    rows = []
    for word in words:
        kind = str(speech.get(word, "")).upper()
        if kind not in ("ADJECTIVE", "NOUN"):
            # The word itself may hurt: its place is named instead.
            raise DataError(
                f"{files[1]}: word number {words.index(word) + 1} of {files[0].name} is neither ADJECTIVE nor NOUN "
                f"(found {speech.get(word)!r})."
            )
        item = f"{word} person" if kind == "ADJECTIVE" else word
        rows.append({"item": item, "concept": word, "part_of_speech": kind.lower(), "article": article(word)})
    members = {str(name): tuple(dict.fromkeys(map(str, found))) for name, found in groups.items()}
    return _make(
        about, "sobit", files, pd.DataFrame(rows), templates=("a photo of {a} {item}",), groups=members
    )


def read_seat(*tests: str | Path, about: CopyFile | None = None) -> ProbeSet:
    """Read sentence association tests (May et al. 2019), one JSON file each.

    Parameters
    ----------
    *tests : str or Path
        ``{"targ1": {"category", "examples"}, "targ2", "attr1", "attr2"}``; the file's name is the test's.
    about : CopyFile, optional

    Returns
    -------
    ProbeSet
        Items are whole sentences; a concept is one side of one test, ``tests`` names them.

    Raises
    ------
    DataError
        No file, or a file is not of that form.
    """
    files = [Path(test) for test in tests]
    if not files:
        raise DataError("no file of a sentence association test was given.")
    rows: list[dict[str, str]] = []
    sides: dict[str, dict[str, str]] = {}
    for path in files:
        body = _json(path)
        sides[path.stem] = {}
        for side, key in (("X", "targ1"), ("Y", "targ2"), ("A", "attr1"), ("B", "attr2")):
            part = body.get(key) if isinstance(body, dict) else None
            if not isinstance(part, dict) or not part.get("examples"):
                raise DataError(f"{path} has no {key!r} with examples; is this a test of May et al. (2019)?")
            concept = f"{path.stem} {part.get('category', key)}"
            sides[path.stem][side] = concept
            rows += [{"item": str(text), "concept": concept} for text in dict.fromkeys(part["examples"])]
    return _make(about, "seat", files, pd.DataFrame(rows), templates=("{item}",), tests=sides)


READERS: dict[str, Callable[..., ProbeSet]] = {"sobit": read_sobit, "seat": read_seat}
