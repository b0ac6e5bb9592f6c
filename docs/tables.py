"""Refresh the tables of README.md and of the site from a run folder: ``python docs/tables.py RUN``.

Between ``<!-- table: NAME -->`` and ``<!-- end -->`` README.md holds what a run says: ``validity`` (do the instruments see what was planted) and
``transfer`` (the verdicts of `clipbias analyze`); ``metrics`` is the line of proof of every metric (analysis/metric_validity.csv).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_KINDS = re.compile(r"\b(attribute|intrinsic image set|intrinsic metric|extrinsic task|extrinsic metric) ")


def marked(text: str, name: str, table: str) -> str:
    """Return a text with a table between its markers; a text without the markers is an error."""
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"README.md has no markers '<!-- table: {name} -->' and '<!-- end -->'.")
    return pattern.sub(lambda m: f"{m.group(1)}{table}\n{m.group(2)}", text)


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def validity(table: pd.DataFrame) -> pd.DataFrame:
    """Return the proof on planted truth as text, as `clipbias measure` prints it."""
    from clipbias.instrument.overview import proof

    return proof(table)


def transfer(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts in short: what was asked, of what, the answer, the estimate with its interval, n."""

    def number(row: pd.Series) -> str:
        if pd.isna(row.get("estimate")):
            return ""
        low, high = row.get("ci_low"), row.get("ci_high")
        return f"{row['estimate']:.2f}" + (
            f" [{low:.2f}, {high:.2f}]" if pd.notna(low) and pd.notna(high) else ""
        )

    rows = [
        {"question": row["question"], "about": _KINDS.sub("", row["subject"]), "verdict": row["verdict"], "estimate": number(row),
         "n": "" if pd.isna(row.get("n")) else f"{row['n']:.0f}"}
        for _, row in verdicts.iterrows()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["question", "about", "verdict", "estimate", "n"])


def every_metric(table: pd.DataFrame) -> pd.DataFrame:
    """Return the line of proof of each metric in short."""

    def number(value: float, form: str = ".2f") -> str:
        return "" if pd.isna(value) else f"{value:{form}}"

    return pd.DataFrame(
        {"metric": row["metric"], "Spearman": number(row["spearman"]) + (f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if pd.notna(row["ci_low"]) else ""),
         "reliability": number(row["reliability"]), "false positives": number(row["false_positive_rate"], ".3f"),
         "coverage": number(row["coverage"], ".3f"), "note": row["reason"]}
        for _, row in table.iterrows()
    )  # fmt: skip


def main(folder: str) -> None:
    """Write what the run has."""
    sys.path.insert(0, str(ROOT))
    from clipbias.instrument.proven import metric_validity
    from clipbias.results.run import RunFolder

    run = RunFolder(folder)
    text = README.read_text(encoding="utf-8")
    text = marked(text, "metrics", markdown(every_metric(metric_validity())))
    if "validity" in run.tables():
        text = marked(text, "validity", markdown(validity(run.read("validity"))))
    if "verdicts" in run.tables():
        found = run.read("verdicts")
        main_ones = found[found["question"] == "transfer"]
        text = marked(text, "transfer", markdown(transfer(main_ones)))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
