"""What a section is made of: tables, grids of charts, pictures, cards, lists and code. Data only; templates draw them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Cell:
    """One table cell: the text, smaller lines below it, CSS classes and whether it is a hidden word."""

    text: str
    sub: tuple[str, ...] = ()
    css: str = ""
    offensive: bool = False


@dataclass(frozen=True)
class Column:
    """One column: heading, smaller line below it, kind ("text" or "number") and what a filter matches it with."""

    label: str
    note: str = ""
    kind: str = "text"
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row: its cells (the first is the row's heading) and what a filter matches it with."""

    cells: tuple[Cell, ...]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """Rows under one (optional) heading inside a table."""

    rows: tuple[Row, ...]
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``source`` names the data set that its CSV download holds, at full precision."""

    kind: ClassVar[str] = "table"
    id: str
    caption: str
    columns: tuple[Column, ...]
    bodies: tuple[Body, ...]
    source: str = ""
    legend: str = ""
    notes: tuple[str, ...] = ()
    folded: str = ""
    tall: bool = False


@dataclass(frozen=True)
class Figure:
    """One chart: static SVG now, live when seen.

    ``source`` is the data set, ``where`` fixes columns of it (a filter that contradicts it hides the figure),
    ``default`` holds columns that a filter may replace, ``highlight`` names columns that a filter marks
    instead of removing. A ``wide`` figure takes a row of its own.
    """

    id: str
    title: str
    finding: str
    spec: str
    source: str
    svg: str
    note: str = ""
    where: dict[str, str] = field(default_factory=dict)
    default: dict[str, str] = field(default_factory=dict)
    highlight: tuple[str, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Grid:
    """Charts of one kind side by side under a heading; ``current`` lists columns the heading shows."""

    kind: ClassVar[str] = "grid"
    figures: tuple[Figure, ...]
    heading: str = ""
    current: tuple[tuple[str, str], ...] = ()
    folded: bool = False
    legend: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Rows of example pictures: ``rows`` of (heading, offensive, tags, [(picture id, group, caption, score)])."""

    kind: ClassVar[str] = "pictures"
    rows: tuple[dict[str, Any], ...]
    sheet: dict[str, str]


@dataclass(frozen=True)
class Facts:
    """Large numbers with a word below each."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answers:
    """The first screen's questions and answers."""

    kind: ClassVar[str] = "answers"
    answers: tuple[Any, ...]


@dataclass(frozen=True)
class Code:
    """A command or a piece of text to copy."""

    kind: ClassVar[str] = "code"
    text: str
    label: str


@dataclass(frozen=True)
class Words:
    """A folded list of words or prompts; offensive ones are covered until the switch is set."""

    kind: ClassVar[str] = "words"
    heading: str
    text: str
    words: tuple[str, ...]
    offensive: bool = False


@dataclass(frozen=True)
class Content:
    """What a section function returns: facts for the section's text, and blocks to draw."""

    facts: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[Any, ...] = ()
