"""Whether a local view ranks the models as the whole set does, as far as both can be measured at all.

A correlation of two noisy rankings cannot exceed the root of the product of their reliabilities. Each reliability is that
of the two halves of the probes, stepped up to all probes by Spearman and Brown's formula.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.analysis.coefficients import coefficient
from clipbias.analysis.reliability import spearman_brown
from clipbias.errors import DataError

KEYS = ["image_set", "attribute", "metric", "view"]
COLUMNS = [
    *KEYS, "models", "spearman", "ci_low", "ci_high", "reliability_global", "reliability_view", "ceiling", "share_of_ceiling",
    "status", "reason",
]  # fmt: skip
MIN_MODELS = 4


def rank_stability(local: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Compare the ranking of models in every view with their ranking on all images.

    Parameters
    ----------
    local : DataFrame
        One row per model, image set, attribute, metric and view with ``value, global`` (bias in the view and on all images)
        and the values on two halves of the probes: ``half_1, half_2, global_1, global_2``.
    level : float
        Of the interval (Fisher's z, with the standard error of a rank correlation; over models).

    Returns
    -------
    DataFrame
        ``spearman`` in [-1, 1], 1 is the same order; ``ceiling``, the most that two rankings of these reliabilities can
        agree, and ``share_of_ceiling`` (above 1 by sampling error only; missing where a reliability is not positive).

    Raises
    ------
    DataError
        A column is missing.
    """
    for column in ("model", *KEYS, "value", "global", "half_1", "half_2", "global_1", "global_2"):
        if column not in local:
            raise DataError(f"the table of local values has no column {column!r}.")
    rows = []
    for cell, part in local.groupby(KEYS, sort=True):
        own = part[np.isfinite(part["value"]) & np.isfinite(part["global"])]
        row: dict[str, object] = dict(zip(KEYS, cell, strict=True)) | {
            "models": len(own),
            "status": "ok",
            "reason": "",
        }
        if len(own) < MIN_MODELS:
            reason = f"{len(own)} models have a value in the view; {MIN_MODELS} are needed."
            rows.append(row | {"status": "too few models", "reason": reason})
            continue
        r = float(coefficient(own["value"].to_numpy(), own["global"].to_numpy(), method="spearman"))
        if not math.isfinite(r):
            rows.append(row | {"status": "constant column", "reason": "the models do not differ."})
            continue
        half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt((1 + r * r / 2) / max(1, len(own) - 3))
        z = math.atanh(min(max(r, -1 + 1e-9), 1 - 1e-9))
        whole, view = (_halves(own, a) for a in ("global", "half"))
        ceiling = math.sqrt(whole * view) if whole > 0 and view > 0 else math.nan
        row |= {
            "spearman": r, "ci_low": math.tanh(z - half), "ci_high": math.tanh(z + half), "reliability_global": whole,
            "reliability_view": view, "ceiling": ceiling, "share_of_ceiling": r / ceiling if ceiling > 0 else math.nan,
        }  # fmt: skip
        if not ceiling > 0:
            row["reason"] = (
                "a ranking does not repeat itself on the other half of the probes: agreement cannot be judged."
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _halves(rows: pd.DataFrame, name: str) -> float:
    """Return the reliability over all probes of the values on two halves of them."""
    pair = rows[[f"{name}_1", f"{name}_2"]].replace([np.inf, -np.inf], np.nan).dropna()
    if len(pair) < MIN_MODELS:
        return math.nan
    r = float(coefficient(pair.iloc[:, 0].to_numpy(), pair.iloc[:, 1].to_numpy(), method="spearman"))
    return spearman_brown(r) if r > -1 else math.nan
