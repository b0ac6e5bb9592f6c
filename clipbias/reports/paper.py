"""The report for a paper: a folder of CSV (full precision), SVG and LaTeX (booktabs) tables, and an index that captions them."""

from __future__ import annotations

from pathlib import Path

from clipbias.reports.assemble import Report
from clipbias.reports.blocks import Cell, Grid, Table
from clipbias.reports.files import write

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\u2212": "$-$", "\u221e": r"$\infty$", "\u2013": "--", "\u202f": r"\,", "\u03c1": r"$\rho$", "\u03c6": r"$\varphi$",
    "\u00b1": r"$\pm$", "\u00b2": "$^2$", "\u00d7": r"$\times$", "\u25b2": r"$\uparrow$", "\u25bc": r"$\downarrow$",
    "\u25c6": r"$\diamond$", "\u25cf": r"$\bullet$", "\u25cb": r"$\circ$", "\u2713": "yes", "\u2717": "no", "\u2265": r"$\geq$",
    "\u00b7": r"$\cdot$", "\u2026": r"\dots{}",
}  # fmt: skip
_RUNS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run as a formula


def tex(text: object) -> str:
    """Return a text that LaTeX prints as it is."""
    return "".join(_TEX.get(ch, ch) for ch in " ".join(str(text).split(" ")).replace("\n", " "))


def save(report: Report, folder: Path) -> Path:
    """Write ``data/*.csv``, ``figures/*.svg``, ``tables/*.tex`` and ``index.md`` into a folder."""
    index = ["# What is in this folder", "`tables/*.tex` need the package booktabs.", "## Figures"]
    tables = []
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Grid):
                for figure in block.figures:
                    write(figure.svg, folder / "figures" / f"{figure.id}.svg")
                    index.append(
                        f"- `figures/{figure.id}.svg`: {' '.join(figure.finding.split())} Data: `data/{figure.source}.csv`."
                    )
            elif isinstance(block, Table):
                write(_table(block), folder / "tables" / f"{block.id}.tex")
                tables.append(f"- `tables/{block.id}.tex`: {' '.join(block.caption.split())}")
    for name, frame in report.context.shared.frames.items():
        text = frame.select_dtypes(include=["object", "string"]).columns
        safe = frame.assign(**{c: frame[c].map(_inert) for c in text})
        write(safe.to_csv(index=False), folder / "data" / f"{name}.csv")
    write("\n".join([*index, "## Tables", *tables]) + "\n", folder / "index.md")
    return folder


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_RUNS) else value


def _table(block: Table) -> str:
    align = "".join("r" if c.kind == "number" else "l" for c in block.columns)
    lines = [
        rf"% {' '.join(block.caption.split())}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(tex(c.label) for c in block.columns) + r" \\",
        r"\midrule",
    ]
    for place, body in enumerate(block.bodies):
        if body.heading:
            lines += [r"\addlinespace"] if place else []
            lines.append(rf"\multicolumn{{{len(block.columns)}}}{{l}}{{\emph{{{tex(body.heading)}}}}} \\")
        lines += [" & ".join(_cell(c) for c in row.cells) + r" \\" for row in body.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cell(cell: Cell) -> str:
    if cell.offensive:
        return "(covered word)"
    return " ".join(tex(t) for t in (cell.text, *cell.sub) if t)
