"""What all answers share: verdict rows with tables behind them, and how a question names its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from clipbias.analysis.heterogeneity import split_correlation
from clipbias.analysis.mean import MeanCorrelation
from clipbias.analysis.questions import Question
from clipbias.analysis.result import decide
from clipbias.analysis.values import bias_values
from clipbias.analysis.verdicts import verdict_row, what_it_takes
from clipbias.errors import StatusError


@dataclass
class Answer:
    """Verdict rows and the tables behind them.

    Attributes
    ----------
    verdicts : list of dict
    tables : dict of DataFrame
        ``transfer``, ``heterogeneity``, ``reliability``, ``agreement``, ``convergence``, ``similarity``.
    """

    verdicts: list[dict[str, object]] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    def add(self, name: str, frame: pd.DataFrame, question: Question, **more: str) -> None:
        """Append rows to a table, marked with their question."""
        if len(frame) == 0:
            return
        frame = frame.copy()
        for place, (column, value) in enumerate({"question": question.name, **more}.items()):
            if column not in frame.columns:
                frame.insert(place, column, value)
        old = self.tables.get(name)
        self.tables[name] = frame if old is None else pd.concat([old, frame], ignore_index=True)


def side_table(question: Question, side: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Return the table a side is read from; None when it is not there."""
    return tables.get(question.section(side).get("table", side))


def side_values(
    question: Question,
    side: str,
    table: pd.DataFrame,
    on: list[str],
    ideals: Mapping[str, float],
    *,
    items: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Return values of one side and the keys its table has."""
    spec = question.section(side)
    keys = [k for k in spec.get("keys", ["metric"]) if k in table.columns]
    values = bias_values(
        table, keys=[*on, *keys], where=spec.get("where"), transform=spec.get("transform", "distance"),
        ideals={**ideals, **spec.get("ideal", {})}, items=items, name=side,
    )  # fmt: skip
    return values, keys


def missing_tables(question: Question, tables: Mapping[str, pd.DataFrame], sides: tuple[str, ...]) -> str:
    """Return in words which tables of the sides are not there; empty when all are."""
    gone = [question.section(s).get("table", s) for s in sides if side_table(question, s, tables) is None]
    return f"there is no table {' and no table '.join(map(repr, gone))}" if gone else ""


def matches(cells: pd.DataFrame, wanted: Mapping[str, object]) -> pd.Series:
    """Return which cells have the wanted value, or one of several, in every wanted column."""
    keep = pd.Series(True, index=cells.index)
    for column, value in wanted.items():
        if column in cells.columns:
            keep &= cells[column].astype(str).isin([str(v) for v in several(value)])
    return keep


def several(value: object) -> list[object]:
    """Return a value, or the values of a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def primary_pair(question: Question) -> dict[str, object]:
    """Return the columns of the transfer table that the primary pair fixes."""
    spec = dict(question.section("primary"))
    wanted: dict[str, object] = {}
    for side in ("intrinsic", "extrinsic"):
        wanted |= {f"{side}_{k}": v for k, v in dict(spec.pop(side, {})).items()}
    return spec | wanted


def words(wanted: Mapping[str, object]) -> str:
    """Return column names and values as one phrase."""
    return ", ".join(f"{k.replace('_', ' ')} {' and '.join(map(str, several(v)))}" for k, v in wanted.items())


def cell_series(values: pd.DataFrame, row: pd.Series, side: str, on: list[str], keys: list[str]) -> pd.Series:
    """Return one side of a cell as a series over models."""
    keep = pd.Series(True, index=values.index)
    for column in on:
        keep &= values[column].astype(str) == str(row[column])
    for column in keys:
        keep &= values[column].astype(str) == str(row[f"{side}_{column}"])
    return values[keep].set_index("model")["value"]


def mean_row(
    question: Question,
    subject: str,
    found: MeanCorrelation,
    n: int,
    method: str,
    *,
    primary: bool = False,
    reason: str = "",
) -> dict[str, object]:
    """Return the verdict row of a mean over cells."""
    verdict = decide(found.p_value, found.equivalence_p, bound=question.bound, alpha=question.alpha)
    return verdict_row(
        question, subject, primary=primary, statistic=f"mean {method}", estimate=found.estimate, ci_low=found.ci_low,
        ci_high=found.ci_high, p=found.p_value, n=n, equivalence_p=found.equivalence_p, excluded_bound=found.excluded_bound,
        minimum_detectable=found.minimum_detectable, detectable_bound=found.detectable_bound, verdict=verdict,
        to_decide=what_it_takes(found.estimate, n, bound=question.bound, method=method, controls=found.partialled)
        if verdict == "undecided"
        else "",
        reason="; ".join(filter(None, [f"largest cell: p {found.joint.any_p:.3g} for all cells together", reason])),
    )  # fmt: skip


def split_row(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, object]:
    """Return the total, between and within parts of a correlation as columns."""
    try:
        s = split_correlation(x, y, groups)
    except StatusError as error:
        return {"status": error.status, "reason": error.reason}
    names = ("total", "between", "within", "eta_x", "eta_y", "reversed", "groups", "n")
    return {k: getattr(s, k) for k in names} | {"status": "ok", "reason": ""}
