"""Section files (TOML) and their texts: Markdown by the author, fields filled by Jinja.

Markdown runs first and never sees a value from the data; the fields are filled after it with autoescape on.
A model called ``**x**`` or ``<script>`` is therefore shown as just that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from clipbias import content
from clipbias.errors import DataError, nearest
from clipbias.reports import words
from clipbias.reports.cited import Cited

# Fields stand in the Markdown as punctuation, so that **bold** may begin or end at one.
_OPEN, _CLOSE = "\u2997", "\u2998"
_FIELD = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


@dataclass(frozen=True)
class SectionFile:
    """One file of ``reports/sections``: where the section stands, what it needs and what it says."""

    id: str
    path: Path
    order: float
    title: str
    nav: str = ""
    builder: str = ""
    needs: tuple[str, ...] = ()
    text: str = ""
    notes: str = ""
    absent: str = ""
    question: str = ""
    answer: str = ""
    show: bool = True
    gathers: bool = False
    tables: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def sections() -> list[SectionFile]:
    """Return the section files in their order; a study's own replace shipped ones of the same name.

    Raises
    ------
    DataError
        A file is no TOML, or has an entry that is unknown or missing.
    """
    found: dict[str, Path] = {}
    for root in content.roots():
        for path in sorted((root / "reports" / "sections").glob("*.toml")):
            found.setdefault(path.name, path)
    read = [_read(path) for path in found.values()]
    return sorted((s for s in read if s.show), key=lambda s: (s.order, s.id))


def _read(path: Path) -> SectionFile:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable TOML file: {error}.") from error
    known = set(SectionFile.__dataclass_fields__) - {"id", "path"}
    for name in raw:
        if name not in known:
            raise DataError(f"{path}: unknown entry {name!r}.{nearest(name, known)}")
    for name in ("order", "title"):
        if name not in raw:
            raise DataError(f"{path}: the entry {name!r} is missing; a section needs an order and a title.")
    raw["needs"] = tuple(raw.get("needs", ()))
    raw["tables"] = tuple(raw.get("tables", ()))
    return SectionFile(id=path.stem, path=path, **raw)


def environment() -> jinja2.Environment:
    """Return the Jinja environment: templates from ``reports/``, autoescape on, unknown fields an error."""
    env = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: content.find("reports", name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": words.number, "percent": words.percent, "count": words.count, "joined": words.joined,
        "p_value": words.p_value,
    }  # fmt: skip
    return env


def rendered(
    text: str,
    facts: dict[str, Any],
    *,
    env: jinja2.Environment,
    where: str,
    inline: bool = False,
    trail: list[Cited] | None = None,
) -> Markup:
    """Return an author's Markdown with its fields filled, as HTML.

    Parameters
    ----------
    text : str
        Markdown with Jinja fields. Raw HTML in it is shown, not run.
    facts : dict
        What the fields may name.
    where : str
        The file, for the error message.
    inline : bool
        Without the paragraph around it.
    trail : list, optional
        Takes up the numbers with a proof that the text shows, once each.

    Raises
    ------
    DataError
        A field names a fact that the section does not have, or the template does not parse.
    """
    fields: list[str] = []

    def stash(match: re.Match[str]) -> str:
        fields.append(match[0])
        return f"{_OPEN}{len(fields) - 1}{_CLOSE}"

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    source = _FIELD.sub(stash, text.strip())
    html = markdown.renderInline(source) if inline else markdown.render(source)
    # A control tag alone in its paragraph stands around paragraphs, not inside one.
    html = re.sub(
        rf"<p>({_OPEN}(\d+){_CLOSE})</p>",
        lambda m: m[1] if fields[int(m[2])].startswith("{%") else m[0],
        html,
    )
    html = re.sub(rf"{_OPEN}(\d+){_CLOSE}", lambda m: fields[int(m[1])], html)
    if trail is not None:
        env = env.overlay(finalize=lambda shown: _kept(shown, trail))
    try:
        return Markup(env.from_string(html).render(facts))
    except jinja2.UndefinedError as error:
        raise DataError(f"{where}: {error.message}.{nearest(_named(error), facts)}") from error
    except jinja2.TemplateError as error:
        raise DataError(f"{where}: the text does not render: {error}.") from error


def filled(
    text: str, facts: dict[str, Any], *, env: jinja2.Environment, where: str, finalize: Callable[[Any], Any]
) -> str:
    """Return an author's Markdown with its fields filled, still as Markdown; ``finalize`` escapes the values.

    Raises
    ------
    DataError
        As `rendered`.
    """
    try:
        return env.overlay(finalize=finalize, autoescape=False).from_string(text.strip()).render(facts)
    except jinja2.TemplateError as error:
        raise DataError(f"{where}: the text does not render: {error}.") from error


def plain(html: str) -> str:
    """Return HTML as text."""
    return Markup(html).striptags()


def _kept(shown: Any, trail: list[Cited]) -> Any:
    if isinstance(shown, Cited) and all((shown, shown.code) != (old, old.code) for old in trail):
        trail.append(shown)
    return shown


def _named(error: jinja2.UndefinedError) -> str:
    return next(iter(re.findall(r"'([^']*)'", error.message or "")), "")
