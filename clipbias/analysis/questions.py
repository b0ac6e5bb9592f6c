"""The questions of a study: TOML files of a few lines in analysis/."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipbias import content
from clipbias.analysis.power import METHODS
from clipbias.errors import DataError, nearest

_SIDE = {"table", "where", "keys", "transform", "ideal"}
_TEST = {"statistic", "bound", "alpha", "controls", "families", "resamples"}
# kind -> section -> keys it may hold; None: any.
_SCHEMA: dict[str, dict[str, set[str] | None]] = {
    "transfer": {"primary": None, "intrinsic": _SIDE, "extrinsic": _SIDE, "test": _TEST | {"on", "each"}},
    "interventions": {
        "primary": None,
        "intrinsic": _SIDE,
        "extrinsic": _SIDE,
        "test": _TEST | {"on", "baseline"},
    },
    "global-local": {"primary": None, "intrinsic": _SIDE, "test": _TEST | {"whole", "exclude_kinds"}},
    "convergence": {
        "primary": {"layer", "measure"},
        "states": {"where", "before", "after"},
        "test": {"measures", "standardize", "neighbours", "bound", "alpha", "families", "resamples"},
    },
}
KINDS = (*_SCHEMA, "validity")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    name : str
        Of the file, without its ending.
    kind : str
        One of `KINDS`; it says which analysis answers it.
    text : str
        The question in words.
    spec : dict
        The file as read.
    """

    name: str
    kind: str
    text: str
    spec: dict

    def section(self, name: str) -> dict:
        """Return a section, empty when the file has none."""
        return self.spec.get(name, {})

    def test(self, key: str, default: object = None) -> Any:
        """Return a setting of the test (for a validity file, of the file itself)."""
        return (self.spec if self.kind == "validity" else self.section("test")).get(key, default)

    @property
    def bound(self) -> float:
        """The declared bound."""
        return float(self.test("bound", 0.05 if self.kind == "convergence" else 0.3))

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return float(self.test("alpha", 0.05))

    @property
    def statistic(self) -> str:
        """Coefficient the verdict rests on."""
        return str(self.test("statistic", "spearman"))

    @property
    def resamples(self) -> int:
        """Random permutations."""
        return int(self.test("resamples", 9999))


def parse(name: str, spec: Mapping, *, where: str) -> Question:
    """Check a question; messages name the file and the key.

    Raises
    ------
    DataError
        No question in words, an unknown kind, section, key or statistic, a bound or alpha out of range.
    """
    kind = spec.get("kind", name)
    if kind not in KINDS:
        raise DataError(f"{where}: kind {kind!r} is not known." + nearest(str(kind), KINDS))
    if not isinstance(spec.get("question"), str) or not spec["question"].strip():
        raise DataError(f"{where}: 'question' is missing: say in words what is asked.")
    schema = _SCHEMA.get(kind)
    if schema is not None:
        for section, values in spec.items():
            if section in ("kind", "question"):
                continue
            if section not in schema:
                raise DataError(
                    f"{where}: {section!r} is not part of a {kind} question." + nearest(section, schema)
                )
            if not isinstance(values, Mapping):
                raise DataError(f"{where}: {section!r} must be a section, [{section}].")
            allowed = schema[section]
            for key in values:
                if allowed is not None and key not in allowed:
                    raise DataError(f"{where}: {section}.{key} is not known." + nearest(key, allowed))
    question = Question(str(name), str(kind), spec["question"].strip(), dict(spec))
    for key, value in (("bound", question.bound), ("alpha", question.alpha)):
        if not 0 < value < 1:
            raise DataError(f"{where}: {key} = {value} must lie between 0 and 1.")
    if question.statistic not in METHODS:
        raise DataError(
            f"{where}: statistic {question.statistic!r} is not known." + nearest(question.statistic, METHODS)
        )
    for side in ("intrinsic", "extrinsic"):
        transform = question.section(side).get("transform", "distance")
        if transform not in ("distance", "value"):
            raise DataError(f"{where}: {side}.transform {transform!r} is not one of 'distance', 'value'.")
    return question


def load_question(path: Path) -> Question:
    """Read one file.

    Raises
    ------
    DataError
        Not TOML, or not a question.
    """
    try:
        spec = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    return parse(path.stem, spec, where=str(path))


def load_questions(names: list[str] | None = None) -> list[Question]:
    """Return the questions of the study: those named, or all files of analysis/.

    Raises
    ------
    DataError
        No question of that name, or a file that is not one.
    """
    if names is None:
        paths = [p for p in content.entries("analysis") if p.suffix == ".toml"]
    else:
        known = [p.stem for p in content.entries("analysis") if p.suffix == ".toml"]
        for name in names:
            if name not in known:
                raise DataError(f"there is no question {name!r} in analysis/." + nearest(name, known))
        paths = [content.find("analysis", f"{name}.toml") for name in names]
    if not paths:
        raise DataError("analysis/ holds no questions (*.toml).")
    return [load_question(p) for p in sorted(paths, key=lambda p: p.stem)]
