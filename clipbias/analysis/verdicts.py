"""The verdict table: one row for each thing a question asks, in the same columns."""

from __future__ import annotations

import math

import pandas as pd

from clipbias.analysis.power import (
    PowerOptions,
    minimum_detectable_correlation,
    models_to_detect,
    models_to_exclude,
    smallest_equivalence_bound,
)
from clipbias.analysis.questions import Question
from clipbias.analysis.result import UNDECIDED, Correlation

COLUMNS = (
    "question", "kind", "text", "subject", "primary", "unit", "statistic", "estimate", "ci_low", "ci_high", "p", "n",
    "bound", "equivalence_p", "excluded_bound", "minimum_detectable", "detectable_bound", "verdict", "to_decide",
    "status", "reason",
)  # fmt: skip
_NUMBERS = (
    "estimate", "ci_low", "ci_high", "p", "bound", "equivalence_p", "excluded_bound", "minimum_detectable", "detectable_bound",
)  # fmt: skip


def verdict_row(
    question: Question, subject: str, *, primary: bool = True, **values: object
) -> dict[str, object]:
    """Return one row; what is not given is missing, and the verdict is then undecided."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, math.nan) | {
        "question": question.name, "kind": question.kind, "text": question.text, "subject": subject, "primary": primary,
        "unit": "models", "statistic": question.statistic, "n": 0, "bound": question.bound, "verdict": UNDECIDED,
        "to_decide": "", "status": "ok", "reason": "",
    }  # fmt: skip
    return row | values


def not_answered(question: Question, subject: str, status: str, reason: str) -> dict[str, object]:
    """Return the row of a question that these tables cannot answer."""
    return verdict_row(question, subject, status=status, reason=reason, to_decide=reason)


def what_it_takes(
    estimate: float, n: int, *, bound: float, method: str, controls: int = 0, unit: str = "models"
) -> str:
    """Return in words what would decide an undecided correlation."""
    power: PowerOptions = {"method": method, "controls": controls}
    detect, exclude = models_to_detect(estimate, **power), models_to_exclude(bound, **power)
    found = "no number" if math.isinf(detect) else f"{detect:.0f}"
    return (
        f"{found} {unit} to find a correlation of the size seen ({estimate:+.2f}), or {exclude} to confirm none within "
        f"±{bound:g}; {n} {unit} find |r| ≥ {minimum_detectable_correlation(n, **power):.2f} and confirm none within "
        f"±{smallest_equivalence_bound(n, **power):.2f} (both with 80 % power)"
    )


def correlation_row(
    question: Question, subject: str, found: Correlation, *, primary: bool = True, reason: str = ""
) -> dict[str, object]:
    """Return the row of one correlation."""
    note = "; ".join(t for t in (found.note, reason) if t)
    undecided = found.verdict == UNDECIDED
    return verdict_row(
        question,
        subject,
        primary=primary,
        unit=found.unit,
        estimate=found.estimate,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        p=found.p_value,
        n=found.n,
        equivalence_p=found.equivalence_p,
        excluded_bound=found.excluded_bound,
        minimum_detectable=found.minimum_detectable,
        detectable_bound=found.detectable_bound,
        verdict=found.verdict,
        to_decide=what_it_takes(
            found.estimate,
            found.n,
            bound=found.bound,
            method=found.method,
            controls=found.partialled,
            unit=found.unit,
        )
        if undecided
        else "",
        reason=note,
    )


def verdict_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows as a table with fixed columns and types."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in _NUMBERS:
        frame[name] = pd.to_numeric(frame[name]).astype("float64")
    frame["n"] = frame["n"].fillna(0).astype("int64")
    frame["primary"] = frame["primary"].astype(bool)
    for name in set(COLUMNS) - {*_NUMBERS, "n", "primary"}:
        frame[name] = frame[name].fillna("").astype("string")
    return frame
