"""What a view of a given size can see: the smallest value that its permutation test would find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri


def minimum_detectable(
    null_mean: Any, null_sd: Any, *, worse: str = "high", alpha: float = 0.05, power: float = 0.8
) -> Any:
    """Return the expected value of a metric at which the permutation test rejects with the given power.

    Parameters
    ----------
    null_mean, null_sd : float or array
        Mean and standard deviation of the value under permuted labels, as in the result rows.
    worse : {"high", "low", "both"}
        As the metric declares; ``both`` tests two-sided and gives the value above the null mean.
    alpha, power : float

    Returns
    -------
    float or ndarray
        In units of the metric. For ``low`` it lies below the null mean. With a null mean of .15 and a null sd of .06
        a MaxSkew below .30 cannot be told from chance: it says nothing that the test did not reject.

    Notes
    -----
    Normal approximation, with the spread of the null taken for that of the alternative. Check: `benchmarks/neutral.py`.
    """
    reach = ndtri(1 - (alpha / 2 if worse == "both" else alpha)) + ndtri(power)
    return null_mean + (-reach if worse == "low" else reach) * np.asarray(null_sd, float)[()]


def power_at(effect: Any, null_sd: Any, *, worse: str = "high", alpha: float = 0.05) -> Any:
    """Return the chance that the permutation test finds an effect: a distance from the null mean, 0 or more."""
    bar = ndtri(1 - (alpha / 2 if worse == "both" else alpha))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.asarray(effect, float)[()] / np.asarray(null_sd, float)[()]
    return ndtr(shift - bar) + (ndtr(-shift - bar) if worse == "both" else 0.0)


def corrected_tests(
    rows: pd.DataFrame, worse: dict[str, str], *, alpha: float = 0.05, power: float = 0.8
) -> pd.DataFrame:
    """Correct the tests of a run for their number, and say what each could have seen.

    Parameters
    ----------
    rows : DataFrame
        Result rows with ``metric, p, z, null_mean, null_sd``.
    worse : dict
        Metric to the side on which it is unfair.
    alpha, power : float

    Returns
    -------
    DataFrame
        The key of each row that has a p, with ``p``, ``q`` (Benjamini-Hochberg within one metric, over all its probes,
        groups, attributes, views, image sets and models; rows of means over probes are a family of their own),
        ``found`` (q <= alpha), ``minimum_detectable`` (a value of the metric) and ``tests`` (size of the family).
    """
    from statsmodels.stats.multitest import multipletests

    table = rows[rows["p"].notna()].copy()
    keep = [
        c
        for c in (
            "model",
            "stage",
            "image_set",
            "view",
            "attribute",
            "probe",
            "metric",
            "group",
            "n",
            "p",
            "z",
        )
        if c in table
    ]
    out = table[keep].reset_index(drop=True)
    family = pd.Series(
        list(zip(out["metric"].astype(str), out["probe"].astype(str) == "", strict=True)), dtype=object
    )
    out["q"], out["tests"] = math.nan, 0
    for _, at in family.groupby(family).groups.items():
        out.loc[at, "q"] = multipletests(out.loc[at, "p"].to_numpy(float), method="fdr_bh")[1]
        out.loc[at, "tests"] = len(at)
    out["found"] = out["q"] <= alpha
    side = table["metric"].astype(str).map(worse).fillna("both").to_numpy()
    mean, sd = table["null_mean"].to_numpy(float), table["null_sd"].to_numpy(float)
    out["minimum_detectable"] = math.nan
    for s in ("high", "low", "both"):
        mine = side == s
        out.loc[mine, "minimum_detectable"] = minimum_detectable(
            mean[mine], sd[mine], worse=s, alpha=alpha, power=power
        )
    return out
