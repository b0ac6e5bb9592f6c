"""How bias downstream follows the bias planted in pretraining: rank correlation and slope per mode, and how slopes differ.

The models of the zoo differ in how strongly a role was tied to a gender when they were pretrained. Where they are adapted on
neutral data, what is left of that order downstream was carried over by the CLIP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.analysis.mixed import dose_response
from clipbias.errors import StatusError

METRICS = ("flip_rate", "flip_rate_signed", "delta_p", "delta_p_signed")
BY = ["task", "head", "mode", "intervention", "view", "attribute", "metric"]
COLUMNS = [
    *BY, "compared_with", "n", "doses", "spearman", "spearman_low", "spearman_high", "p", "slope", "slope_low", "slope_high",
    "slope_p", "at_zero", "zero_low", "zero_high", "status", "reason",
]  # fmt: skip
FIRST = "frozen"  # the mode that others are compared with
EVIDENCE = "evidence="  # views by how much of the role a picture shows


def planted_transfer(
    extrinsic: pd.DataFrame, models: pd.DataFrame, *, metrics: Sequence[str] = METRICS, seed: int = 0
) -> pd.DataFrame:
    """Relate bias to planted strength, over models: on all test images, and by how much of the role they show.

    Parameters
    ----------
    extrinsic : DataFrame
        The table of ``adapt``; of it the views ``global`` and ``evidence=...``, rows that compare groups. Seeds of one model are averaged, and models that
        are not competent have no value.
    models : DataFrame
        Columns ``model, planted_strength, planted_context``. Models planted in one context only are left out.
    metrics : sequence of str
        Signed ones point towards the planted ties.
    seed : int
        Of permutations and bootstrap draws.

    Returns
    -------
    DataFrame
        A row per task, head, mode, intervention, view and metric. ``slope``: measured bias per unit of planted strength (the
        probability of the tied gender minus one half), least squares with a t interval; 0 says that nothing comes along. ``spearman`` in
        [-1, 1] with its interval and permutation p. ``at_zero``: mean of the models with nothing planted. With ``compared_with``: the same
        models in two modes, and the slope of the difference; below 0, less of the planted bias comes along than in that mode.
    """
    if not {"planted_strength", "model"} <= set(models.columns) or extrinsic.empty:
        return pd.DataFrame(columns=COLUMNS)
    known = models.drop_duplicates("model").set_index("model")
    if "planted_context" in known:
        known = known[known["planted_context"].fillna("").astype(str).isin(["", "None", "nan"])]
    dose = pd.to_numeric(known["planted_strength"], errors="coerce").dropna()
    rows = extrinsic[
        ((extrinsic["view"] == "global") | extrinsic["view"].astype(str).str.startswith(EVIDENCE))
        & (extrinsic["group"] == "")
        & (extrinsic["probe"] == "")
        & (extrinsic["mode"] != "blind")
        & extrinsic["metric"].isin(list(metrics))
        & extrinsic["model"].isin(dose.index)
    ]
    values = rows[rows["status"].isin(["ok", ""])].assign(
        value=lambda t: pd.to_numeric(t["value"], errors="coerce")
    )
    means = values.dropna(subset=["value"]).groupby([*BY, "model"], observed=True)["value"].mean()
    out = []
    for key, part in rows.groupby(BY, observed=True, sort=True):
        here = dict(zip(BY, key, strict=True))
        own = _series(means, key)
        missing = part["model"].nunique() - len(own)
        note = f"{missing} models have no value, most often as they are not competent" if missing else ""
        out.append(here | _with_note(_dose(dose, own, seed), note) if len(own) else _empty(here, note))
        if here["mode"] == FIRST:
            continue
        other = _series(means, tuple(FIRST if name == "mode" else value for name, value in here.items()))
        shared = own.index.intersection(other.index)
        if len(shared):
            out.append({**here, "compared_with": FIRST, **_line(dose[shared], own[shared] - other[shared])})
    return pd.DataFrame(out, columns=COLUMNS)


def _series(means: pd.Series, key: tuple) -> pd.Series:
    """Return the values of one cell by model; empty where there are none."""
    try:
        return means.loc[key]
    except KeyError:
        return pd.Series(dtype=float)


def _empty(here: dict, reason: str) -> dict[str, object]:
    return {**here, "compared_with": "", "n": 0, "status": "no data", "reason": reason or "no value"}


def _with_note(found: dict, note: str) -> dict[str, object]:
    return {**found, "compared_with": "", "reason": "; ".join(filter(None, [found["reason"], note]))}


def _dose(dose: pd.Series, values: pd.Series, seed: int) -> dict[str, object]:
    """Return rank correlation, slope and floor; with fewer than four models the slope alone."""
    planted = dose[values.index]
    found = _line(planted, values)
    try:
        answer = dose_response(planted, values, seed=seed)
    except StatusError as error:
        return found | ({"status": error.status, "reason": error.reason} if found["status"] == "ok" else {})
    one = answer.correlation
    return found | {
        "spearman": one.estimate, "spearman_low": one.ci_low, "spearman_high": one.ci_high, "p": one.p_value,
        "at_zero": answer.at_zero, "zero_low": answer.zero_low, "zero_high": answer.zero_high,
    }  # fmt: skip


def _line(planted: pd.Series, values: pd.Series) -> dict[str, object]:
    """Return the least-squares slope with its t interval and two-sided p."""
    x, y = planted.to_numpy(float), values.to_numpy(float)
    n, doses = len(x), len(np.unique(x))
    base: dict[str, object] = {"n": n, "doses": doses, "slope": math.nan, "status": "ok", "reason": ""}
    if n < 3 or doses < 2:
        why = f"{n} models at {doses} planted strengths; a slope with an interval needs 3 models and 2 strengths."
        return base | {"status": "too few models", "reason": why}
    line = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, n - 2) * line.stderr)
    slope = float(line.slope)
    return base | {
        "slope": slope,
        "slope_low": slope - half,
        "slope_high": slope + half,
        "slope_p": float(line.pvalue),
    }
