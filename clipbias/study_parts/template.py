"""The study file as a form to fill in, and its JSON Schema, both made from the one schema."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from clipbias.study_parts.reading import known_words
from clipbias.study_parts.schema import SECTIONS, Part, Shared, Study

SCHEMA_NAME = "study.schema.json"
_SET = ("models", "out", "steps")  # set in the template; all else is shown as a comment
# Lists of names that an editor can complete.
_COMPLETED = {
    "Measure": {"metrics": "metric", "probe": "probe set"},
    "Adapt": {"task": "task", "mode": "mode"},
    "Analyze": {"questions": "question"},
}
_HEAD = """\
#:schema ./{schema}
# A study: one file in, one page out. Run it with
#   clipbias study run {name} --dry-run     (what it would do, and for how long)
#   clipbias study run {name}
# An interrupted run goes on where it stopped. Folders probes/, tasks/, analysis/ and reports/ beside this file come
# before the shipped ones. Keys with a # before them show what can be set.
"""


def template(name: str = "study.toml") -> str:
    """Return a commented study file that is valid as it is.

    Parameters
    ----------
    name : str
        Name of the file, for the comments in it.
    """
    parts = [_HEAD.format(schema=SCHEMA_NAME, name=name), *_keys(Study)]
    for section in SECTIONS:
        model: Any = Study.model_fields[section].annotation
        about = " ".join((model.__doc__ or "").split())
        about = about.partition(": ")[2]
        shared = [key for key in Shared.model_fields if key in model.model_fields and key not in _SET]
        also = f" Own values of {', '.join(shared)} can be set here too." if len(shared) > 2 else ""
        parts += [_comment(about[:1].upper() + about[1:] + also) + f"[{section}]\n", *_keys(model)]
    return "\n".join(parts)


def _keys(model: type[Part]) -> list[str]:
    found = []
    for key, field in model.model_fields.items():
        if key in SECTIONS or (
            field.description == getattr(Shared.model_fields.get(key), "description", "")
            and model is not Study
        ):
            continue  # shown once, above the tables
        value = json.dumps((field.examples or [None])[0], ensure_ascii=False)
        lead = "" if model is Study and key in _SET else "# "
        found.append(f"{_comment(field.description or '')}{lead}{key} = {value}\n")
    return found


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 105, break_long_words=False)) if text else ""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study file, with the names that this installation knows."""
    made = Study.model_json_schema()
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "clipbias study"}
    for model, keys in _COMPLETED.items():
        for key, what in keys.items():
            known = sorted(known_words(what))
            for choice in made["$defs"][model]["properties"][key]["anyOf"]:
                if choice.get("type") == "array":
                    choice["items"] = {"type": "string", "enum": known}
                elif choice.get("type") == "string":
                    choice["enum"] = known
    return _tidy(made)


def _tidy(node: Any) -> Any:
    """Return a schema without null, which TOML does not have, and with one string where a list of them may be."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {k: _tidy(v) for k, v in node.items() if not (k == "default" and v is None)}
    choices = [c for c in node.get("anyOf", []) if c != {"type": "null"}]
    if not choices:
        return node
    listed = [c["items"] for c in choices if c.get("type") == "array" and c["items"].get("type") == "string"]
    rest = {k: v for k, v in node.items() if k != "anyOf"}
    choices += listed
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def write_template(path: Path, *, force: bool = False) -> list[Path]:
    """Write a study file and its schema beside it; return their paths.

    Raises
    ------
    DataError
        The file is there and ``force`` is not given, or the folder cannot be written.
    """
    from clipbias.errors import DataError

    if path.exists() and not force:
        raise DataError(f"{path} is there already. Name another file, or overwrite it with --force.")
    schema = path.with_name(SCHEMA_NAME)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template(path.name), encoding="utf-8")
        write_schema(schema)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be written: {error.strerror}.") from error
    return [path, schema]


def write_schema(path: Path) -> None:
    """Write the JSON Schema to a file."""
    path.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
