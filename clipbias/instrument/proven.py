"""What is known of each metric from planted truth (analysis/metric_validity.csv, written by benchmarks/validity.py)."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from clipbias import content
from clipbias.errors import DataError

COLUMNS = (
    "metric", "what", "spearman", "ci_low", "ci_high", "spearman_unsigned", "n_models", "reliability", "false_positive_rate",
    "coverage", "reason",
)  # fmt: skip


def metric_validity(metrics: Collection[str] | None = None) -> pd.DataFrame:
    """Return a line of proof for each metric.

    Parameters
    ----------
    metrics : collection of str, optional
        Only these, in the file's order; a metric that the file does not hold (a user's own) has no line.

    Returns
    -------
    DataFrame
        ``metric, what`` (zoo, or samples of the world for what describes images), ``spearman`` in [-1, 1] of planted strength
        and measured bias with ``ci_low, ci_high``, ``spearman_unsigned`` (without a direction), ``n_models``, ``reliability``
        (split-half, Spearman-Brown), ``false_positive_rate`` in [0, 1] of the 5 % test, ``coverage`` in [0, 1] of the 95 %
        interval, ``reason`` (why a number is not there or what a low one says).

    Raises
    ------
    DataError
        The file is missing, unreadable or lacks a column.
    """
    path = content.find("analysis", "metric_validity.csv")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a readable table: {error}.") from error
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise DataError(
            f"{path} lacks the columns {', '.join(lacking)}; run `python benchmarks/validity.py`."
        )
    table = table[list(COLUMNS)].assign(reason=lambda t: t["reason"].astype(object).fillna("").astype(str))
    return table if metrics is None else table[table["metric"].isin(metrics)].reset_index(drop=True)
