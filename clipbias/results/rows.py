"""The one table every measurement is a row of."""

from __future__ import annotations

import pandas as pd

KEY = (
    "model", "stage", "task", "head", "mode", "intervention", "seed", "image_set", "view",
    "attribute", "probe", "metric", "group",
)  # fmt: skip
VALUES = ("value", "ci_low", "ci_high", "n", "null_mean", "null_sd", "z", "p", "protocol", "status", "reason")
COLUMNS = KEY + VALUES
_NUMBERS = ("value", "ci_low", "ci_high", "null_mean", "null_sd", "z", "p")


def table(rows: list[dict]) -> pd.DataFrame:
    """Return tidy rows as a table with every column of the contract, in order and with fixed types.

    Keys that do not apply are empty strings; numbers that do not apply are missing, and then
    ``status`` says why (``"ok"`` otherwise).

    Raises
    ------
    ValueError
        A row has a column the contract does not know, or lacks a value without a status.
    """
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    unknown = {name for row in rows for name in row} - set(COLUMNS)
    if unknown:
        raise ValueError(f"unknown result columns: {sorted(unknown)}")
    for name in (*KEY, "protocol", "reason", "status"):
        blank = "ok" if name == "status" else ""
        text = frame[name].astype(object)
        frame[name] = text.where(text.notna(), blank).map(str).astype("string")
    for name in _NUMBERS:
        frame[name] = pd.to_numeric(frame[name]).astype("float64")
    frame["n"] = pd.to_numeric(frame["n"]).astype("Int64")
    silent = frame["value"].isna() & ((frame["status"] == "ok") | (frame["reason"] == ""))
    if silent.any():
        raise ValueError(
            f"{int(silent.sum())} rows have no value and no reason, first: {frame[silent].iloc[0].to_dict()}"
        )
    return frame
