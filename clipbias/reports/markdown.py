"""The report as Markdown: the same sections, tables as pipe tables, charts as SVG files beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clipbias.reports import markup
from clipbias.reports.assemble import Report, Section
from clipbias.reports.blocks import Answers, Cell, Code, Facts, Grid, Pictures, Table, Words
from clipbias.reports.cited import PREFACE
from clipbias.reports.files import write

_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
MAX_ROWS = 60  # of a table; the paper format has them all


def escape(text: object) -> str:
    """Return a text that Markdown shows as it is: no emphasis, link, heading, table cell or HTML."""
    flat = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", flat).replace("<", "&lt;").replace(">", "&gt;")


def save(report: Report, path: Path, *, title: str) -> Path:
    """Write the report as ``path`` and its charts into a folder beside it called like it."""
    folder = path.with_name(f"{path.stem}_files")
    figures: dict[str, str] = {}
    write(text_of(report, title=title, figures=figures, folder=folder.name), path)
    for name, svg in figures.items():
        write(svg, folder / name)
    return path


def text_of(report: Report, *, title: str, figures: dict[str, str], folder: str) -> str:
    """Return the report as Markdown; ``figures`` takes up the SVG of each chart by file name."""
    out = [f"# {escape(title)}"]
    for section in report.sections:
        out += [f"## {escape(section.title)}", _filled(section.file.text, section, report)]
        for block in section.blocks:
            out += _block(block, report, figures, folder)
        out.append(_filled(section.file.notes, section, report))
    return "\n\n".join(part for part in out if part.strip()) + "\n"


def _filled(source: str, section: Section, report: Report) -> str:
    return markup.filled(source, section.facts, env=report.env, where=str(section.file.path), finalize=escape)


def _block(block: Any, report: Report, figures: dict[str, str], folder: str) -> list[str]:
    if isinstance(block, Facts):
        return ["\n".join(f"- **{escape(value)}** {escape(label)}" for value, label in block.items)]
    if isinstance(block, Answers):
        return [part for answer in block.answers for part in _answer(answer, report)]
    if isinstance(block, Grid):
        out = [f"### {escape(block.heading)}"] if block.heading else []
        for figure in block.figures:
            figures[f"{figure.id}.svg"] = figure.svg
            out.append(f"![{escape(figure.finding)}]({folder}/{figure.id}.svg)")
        return out
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Code):
        return [f"{escape(block.label)}:", _fenced(block.text)]
    if isinstance(block, Words):
        shown = (
            "*offensive words, shown in the HTML page only*"
            if block.offensive
            else ", ".join(map(escape, block.words))
        )
        return [f"**{escape(block.heading)}**: {escape(block.text)}", shown]
    if isinstance(block, Pictures):
        return ["*Example pictures are in the HTML page.*"] if block.sheet else []
    raise TypeError(f"no Markdown for {type(block).__name__}")


def _fenced(code: str, language: str = "") -> str:
    """Return code in a fence longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", code)), default=0))
    return f"{fence}{language}\n{code}\n{fence}"


def _answer(answer: Any, report: Report) -> list[str]:
    section = next(s for s in report.sections if s.id == answer.anchor)
    out = [f"**{escape(answer.question)}** {_filled(section.file.answer, section, report).strip()}"]
    if answer.proofs:
        lines = "\n".join(f"{proof.code}  # {proof}" for proof in answer.proofs)
        out.append(_fenced(f"{PREFACE}\n{lines}", "python"))
    return out


def _table(block: Table) -> list[str]:
    heads = [escape(c.label or " ") + (f" ({escape(c.note)})" if c.note else "") for c in block.columns]
    rule = ["---:" if c.kind == "number" else "---" for c in block.columns]
    lines, count = [], sum(len(body.rows) for body in block.bodies)
    for body in block.bodies:
        if body.heading:
            lines.append([f"**{escape(body.heading)}**", *[""] * (len(heads) - 1)])
        lines += [[_cell(c) for c in row.cells] for row in body.rows]
    shown = [heads, rule, *lines[:MAX_ROWS]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in shown)
    notes = [*block.notes]
    if len(lines) > MAX_ROWS:
        notes.append(f"{MAX_ROWS} of {count} rows.")
    return [f"*{escape(block.caption)}*", text, *(escape(n) for n in notes)]


def _cell(cell: Cell) -> str:
    if cell.offensive:
        return "(covered word)"
    return " ".join(escape(t) for t in (cell.text, *cell.sub) if t)
