"""Reading a study file; whatever is wrong is said with its line and the nearest word that is right."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from clipbias.content import KINDS
from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.study_parts.schema import SECTIONS, Shared, Step, Study

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class StudyFile:
    """A study file that has been read and found to be in order.

    Attributes
    ----------
    path : Path
    study : Study
    text : str
    """

    path: Path
    study: Study
    text: str

    @contextmanager
    def content(self) -> Iterator[None]:
        """Let the content folders beside the file (probes/, tasks/, ...) come before the shipped ones."""
        with _content(self.path):
            yield


def read(path: str | Path) -> StudyFile:
    """Read and check a study file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    StudyFile

    Raises
    ------
    ClipbiasError
        No such file.
    DataError
        Not TOML, or keys and values that no study has: one line for each, with its line in the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ClipbiasError(f"{path} does not exist. `clipbias study init {path}` writes one.") from error
    except OSError as error:
        raise ClipbiasError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        # A value that fits none of the types it may have gives an error for each; the first says it.
        firsts = {_trimmed(e["loc"], data): e for e in reversed(error.errors())}
        found = [(place, _message(place, e)) for place, e in reversed(firsts.items())]
        raise DataError(_said(path, text, found)) from error
    with _content(path):
        wrong = list(_checked(study))
    if wrong:
        raise DataError(_said(path, text, wrong))
    return StudyFile(path, study, text)


def verb_options(path: str | Path, verb: str) -> dict[str, Any]:
    """Return what a study file sets for a verb that is called alone (``--study FILE``).

    The content folders beside the file come before the shipped ones from here on.

    Raises
    ------
    ClipbiasError
        As `read`.
    """
    file = read(path)
    folder = content_folder(file.path)
    if folder is not None:
        os.environ["CLIPBIAS_STUDY"] = str(folder)
    given = file.study.options(verb)
    return {**given, **({"out": Path(given["out"])} if "out" in given else {})}


def content_folder(path: Path) -> Path | None:
    """Return the folder of a study file if it holds content of its own."""
    folder = path.resolve().parent
    return folder if any((folder / kind).is_dir() for kind in KINDS) else None


@contextmanager
def _content(path: Path) -> Iterator[None]:
    folder, before = content_folder(path), os.environ.get("CLIPBIAS_STUDY")
    if folder is not None:
        os.environ["CLIPBIAS_STUDY"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CLIPBIAS_STUDY", None)
        else:
            os.environ["CLIPBIAS_STUDY"] = before


# -- where ----------------------------------------------------------------------------------------


def line_of(text: str, place: Place) -> int | None:
    """Return the line (from 1) on which a key, a table or an item of a list stands; None if it is not there.

    The file is read again line by line: the first beginning of it that is TOML and holds the key ends with
    the key's last line, and the longest one before it ends where the key begins.
    """
    lines = text.splitlines()
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            data = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _has(data, place):
            return _item_line(lines, start, end, place, data)
        start = end + 1
    return None


def _has(data: Any, place: Place) -> bool:
    return _at(data, place) is not _ABSENT


_ABSENT = object()


def _at(data: Any, place: Place) -> Any:
    for part in place:
        try:
            data = data[part] if isinstance(data, dict | list) else _ABSENT  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return data


def _item_line(lines: Sequence[str], start: int, end: int, place: Place, data: Any) -> int:
    """Return the line of an item of a list that goes over several lines."""
    value = _at(data, place)
    if place and isinstance(place[-1], int) and isinstance(value, str):
        for number in range(start, end + 1):
            if (
                json.dumps(value, ensure_ascii=False) in lines[number - 1]
                or f"'{value}'" in lines[number - 1]
            ):
                return number
    return start


def _trimmed(place: Place, data: Mapping[str, Any]) -> Place:
    """Return the part of a place that is in the file (a missing key: its table), without pydantic's own marks."""
    while place and not _has(data, place):
        place = place[:-1]
    return place


def _said(path: Path, text: str, found: Sequence[tuple[Place, str]]) -> str:
    data = tomllib.loads(text)
    lines = []
    for place, message in found:
        place = _trimmed(place, data)  # one word where a list may be has no items
        lines.append(((line_of(text, place) or 0) if place else 0, message))
    return "\n".join(f"{path}, line {n}: {m}" if n else f"{path}: {m}" for n, m in sorted(lines))


# -- what -----------------------------------------------------------------------------------------


def _name(place: Place) -> str:
    keys = [str(part) for part in place if isinstance(part, str)]
    if len(keys) > 1 and keys[0] in SECTIONS:
        return f"[{keys[0]}] {'.'.join(keys[1:])}"
    return ".".join(keys)


def _keys_at(place: Place) -> list[str]:
    model: Any = Study
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _message(place: Place, error: Any) -> str:
    found = str(error["input"])[:80]
    if error["type"] == "extra_forbidden":
        where = f"[{place[0]}]" if len(place) > 1 else "a study"
        wrong = str(place[-1])
        hint = nearest(wrong, _keys_at(place[:-1]))
        if len(place) == 1 and not hint.startswith(" Did"):
            homes = [s for s in SECTIONS if wrong in _keys_at((s,))]
            hint = f" It belongs into [{homes[0]}]." if homes else hint
        return f"{where} has no key {wrong!r}.{hint}"
    if error["type"] == "literal_error":
        known = get_args(Step) if place[0] == "steps" else ("fp32", "fp16", "bf16")
        return f"{_name(place)}: there is no {found!r}." + nearest(found, known)
    text = error["msg"][:1].lower() + error["msg"][1:]
    return f"{_name(place)}: {text} (found {found!r})."


def _checked(study: Study) -> Iterator[tuple[Place, str]]:
    """Yield what no type can say: names that stand for nothing, and keys that do not go together."""
    for place, word, known, what in _named(study):
        if word not in known:
            yield place, f"{_name(place)}: there is no {what} {word!r}." + nearest(word, known)
    for place, engine in _set(study, "engine"):
        if not (engine == "auto" and place[0] == "adapt"):
            yield from _engine(place, engine)
    if study.adapt.steps and study.adapt.epochs:
        yield ("adapt", "epochs"), "[adapt] epochs: give steps or epochs, not both."
    outs = [place for place, out in _set(study, "out") if out != study.folder]
    if outs:
        yield outs[0], f"{_name(outs[0])}: all steps write one run folder, {study.folder!r} here."


def _engine(place: Place, engine: str) -> Iterator[tuple[Place, str]]:
    from clipbias.engine import parse_engine

    try:
        parse_engine(engine)
    except ClipbiasError as error:
        yield place, f"{_name(place)}: {error}"


def _set(study: Study, key: str) -> Iterator[tuple[Place, Any]]:
    """Yield the places where a shared key is set."""
    for place, part in (((), study), (("measure",), study.measure), (("adapt",), study.adapt)):
        if key in Shared.model_fields and getattr(part, key) is not None:
            yield (*place, key), getattr(part, key)


def _named(study: Study) -> Iterator[tuple[Place, str, Sequence[str], str]]:
    """Yield place, word, words that are known, and what they name."""
    for section, key, what in (
        ("measure", "metrics", "metric"), ("measure", "probe", "probe set"), ("measure", "image_set", "image set"),
        ("adapt", "task", "task"), ("adapt", "mode", "mode"), ("adapt", "head", "head"), ("analyze", "questions", "question"),
    ):  # fmt: skip
        value = getattr(getattr(study, section), key)
        if value is None:
            continue
        known = known_words(what)
        for number, word in enumerate(value if isinstance(value, list) else [value]):
            place: Place = (section, key, number) if isinstance(value, list) else (section, key)
            if what == "head":
                word = word.rpartition("=")[2]
            if not (what == "image set" and ":" in word):
                yield place, word, known, what


def known_words(what: str) -> list[str]:
    """Return the names of a kind of thing that a study can name.

    Parameters
    ----------
    what : {"metric", "probe set", "image set", "task", "mode", "head", "question"}
    """
    if what == "metric":
        from clipbias.metrics.record import registry

        return list(registry())
    if what in ("probe set", "image set"):
        from clipbias import probes

        return probes.image_sets() if what == "image set" else probes.list_sets()["name"].tolist()
    if what in ("task", "mode"):
        from clipbias.tasks import recipe

        return list(recipe.TASKS if what == "task" else recipe.MODES)
    if what == "head":
        from clipbias.tasks.heads import head_names

        return list(head_names())
    from clipbias import content

    return [p.stem for p in content.entries("analysis") if p.suffix == ".toml"]
