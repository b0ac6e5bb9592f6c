"""Differences of two sets of result rows, pair by pair, with intervals that say how they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from clipbias.results.rows import KEY

PAIRED = "paired t over probes"
SEPARATE = "from the two intervals"
METHODS = {
    PAIRED: "mean of the differences probe by probe, on the same images, ± t · standard error over the probes: how sure "
    "for probes like these; the images are taken as given",
    SEPARATE: "the two intervals put together as if they were independent (MOVER: the roots of the summed squares of their arms); "
    "where both saw the same images this is wider than need be",
}
MIN_PROBES = 5  # below, a standard error over probes says little
COLUMNS = (
    "table", "image_set", "view", "attribute", "metric", "group", "a", "b", "value_a", "value_b", "difference", "ci_low", "ci_high", "p",
    "p_holm", "n_a", "n_b", "probes", "method", "closer_to_ideal", "status", "reason",
)  # fmt: skip


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    apart: Sequence[str],
    same_images: Mapping[str, bool],
    ideals: Mapping[str, float],
    per_group: Mapping[str, bool] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return B minus A for every value that both have.

    Parameters
    ----------
    first, second : DataFrame
        Rows of A and of B, with the column ``table`` besides those of `clipbias.results.rows`.
    apart : sequence of str
        Key columns in which A and B differ; rows are paired on the others.
    same_images : mapping of image set to bool
        Whether A and B saw the same images of a set; probes are paired only then.
    ideals : mapping of metric to float
        The value of a fair (or perfect) model.
    per_group : mapping of metric to bool, optional
        Whether a metric has one value per group; more than one row says so too. Otherwise ``group`` names the worst
        group and does not pair.
    level : float
        Of the intervals, the same as in the tables.

    Returns
    -------
    DataFrame
        `COLUMNS` and the other key columns, sorted by key; ``status`` is ok, or says why there is no difference or no
        interval. ``p_holm`` is Holm's p over all rows that have one.
    """
    keys = ["table", *(c for c in KEY if c not in ("group", "probe", *apart))]
    parts = []
    for metric in sorted(set(first["metric"]) | set(second["metric"])):
        a, b = (side[side["metric"] == metric] for side in (first, second))
        whole = [side[side["probe"] == ""] for side in (a, b)]
        grouped = (per_group or {}).get(metric, False) or any(side.duplicated(keys).any() for side in whole)
        on = [*keys, "group"] if grouped else keys
        parts += _of_metric(a, b, on, same_images, ideals.get(metric, math.nan), level)
    table = pd.DataFrame(parts)
    if table.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    table["p_holm"] = _holm(table["p"].to_numpy(float))
    rest = [c for c in KEY if c in table and c not in COLUMNS]
    return table[[*rest, *COLUMNS]].sort_values([*rest, *COLUMNS[:6]], kind="stable", ignore_index=True)


def _of_metric(
    a: pd.DataFrame, b: pd.DataFrame, on: list[str], same_images: Mapping[str, bool], ideal: float, level: float
) -> list[dict[str, Any]]:  # fmt: skip
    wholes = [_by_key(side[side["probe"] == ""], on) for side in (a, b)]
    probes = [_probes(side[side["probe"] != ""], on) for side in (a, b)]
    rows = []
    for key in dict.fromkeys([*wholes[0], *wholes[1]]):
        facts = dict(zip(on, key, strict=True))
        one, two = wholes[0].get(key), wholes[1].get(key)
        groups = [str(side["group"]) for side in (one, two) if side is not None]
        base: dict[str, Any] = {
            **facts, "group": " / ".join(dict.fromkeys(g for g in groups if g)), "value_a": _value(one), "value_b": _value(two),
            "n_a": _n(one), "n_b": _n(two), "a": _name(one), "b": _name(two),
        }  # fmt: skip
        rows.append(
            base
            | _pair(
                one, two, probes[0].get(key, {}), probes[1].get(key, {}), facts, same_images, ideal, level
            )
        )
    return rows


def _by_key(side: pd.DataFrame, on: list[str]) -> dict[tuple[str, ...], dict[Any, Any]]:
    return {tuple(r[c] for c in on): r for r in side.to_dict("records")}


def _probes(side: pd.DataFrame, on: list[str]) -> dict[tuple[str, ...], dict[str, float]]:
    """Return the finite values of each key by probe."""
    good = side[(side["status"] == "ok") & np.isfinite(side["value"].astype(float))]
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in good.to_dict("records"):
        found.setdefault(tuple(row[c] for c in on), {})[row["probe"]] = float(row["value"])
    return found


def _value(row: dict[Any, Any] | None) -> float:
    return math.nan if row is None or row["status"] != "ok" else float(row["value"])


def _n(row: dict[Any, Any] | None) -> Any:
    return pd.NA if row is None else row["n"]


def _name(row: dict[Any, Any] | None) -> str:
    return "" if row is None else str(row["model"])


_NOTHING = {
    "difference": math.nan, "ci_low": math.nan, "ci_high": math.nan, "p": math.nan, "p_holm": math.nan, "probes": 0,
    "method": "", "closer_to_ideal": "", "status": "ok", "reason": "",
}  # fmt: skip


def _pair(
    one: dict[Any, Any] | None, two: dict[Any, Any] | None, probes_a: dict[str, float], probes_b: dict[str, float],
    facts: Mapping[str, str], same_images: Mapping[str, bool], ideal: float, level: float,
) -> dict[str, Any]:  # fmt: skip
    if one is None or two is None:
        side = "B" if one is None else "A"
        return _NOTHING | {"status": f"only in {side}", "reason": f"{side} alone has this value."}
    for side, row in (("A", one), ("B", two)):
        if row["status"] != "ok":
            return _NOTHING | {"status": row["status"], "reason": f"{side}: {row['reason']}"}
    if one["protocol"] != two["protocol"]:
        return _NOTHING | {
            "status": "other protocol",
            "reason": f"A was measured by protocol {one['protocol'] or 'unknown'}, B by {two['protocol'] or 'unknown'}.",
        }
    a, b = float(one["value"]), float(two["value"])
    found = _NOTHING | {"difference": b - a}
    if not math.isfinite(b - a):
        return found | {"status": "not finite", "reason": f"A is {a:g} and B is {b:g}."}
    common = sorted(set(probes_a) & set(probes_b))
    together = same_images.get(facts["image_set"], False)
    whole = len(common) == len(probes_a) == len(probes_b) >= MIN_PROBES
    if together and whole and _is_mean(a, probes_a) and _is_mean(b, probes_b):
        found |= _paired(np.array([probes_b[p] - probes_a[p] for p in common]), level)
    else:
        found |= _separate(a, b, one, two, level)
    return found | {"closer_to_ideal": _closer(a, b, found, ideal)}


def _paired(deltas: np.ndarray, level: float) -> dict[str, Any]:
    """Mean of the differences of P probes with its t interval."""
    mean, error, df = (
        float(deltas.mean()),
        float(deltas.std(ddof=1)) / math.sqrt(len(deltas)),
        len(deltas) - 1,
    )
    half = float(stats.t.ppf(0.5 + level / 2, df)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, df)) if error > 0 else (1.0 if mean == 0 else 0.0)
    return {
        "difference": mean, "ci_low": mean - half, "ci_high": mean + half, "p": p, "probes": len(deltas), "method": PAIRED
    }  # fmt: skip


def _is_mean(value: float, probes: Mapping[str, float]) -> bool:
    """Return whether a value is the mean over its probes; a pooled rate is not, and its probes are no sample of it."""
    return math.isclose(value, float(np.mean(list(probes.values()))), rel_tol=1e-6, abs_tol=1e-9)


def _separate(a: float, b: float, one: dict[str, Any], two: dict[str, Any], level: float) -> dict[str, Any]:
    """Zou and Donner's interval of a difference (doi:10.1002/sim.3095); for symmetric intervals the normal one."""
    ends = [float(row[end]) for row in (one, two) for end in ("ci_low", "ci_high")]
    if not all(map(math.isfinite, ends)):
        return {
            "status": "no interval",
            "reason": "A or B has no finite interval, so how sure the difference is cannot be said.",
        }
    low_a, high_a, low_b, high_b = ends
    difference = b - a
    below = math.hypot(b - low_b, high_a - a)
    above = math.hypot(high_b - b, a - low_a)
    z = float(stats.norm.ppf(0.5 + level / 2))
    towards_zero = below if difference > 0 else above
    p = (
        1.0
        if difference == 0
        else float(2 * stats.norm.sf(z * abs(difference) / towards_zero))
        if towards_zero
        else 0.0
    )
    return {"ci_low": difference - below, "ci_high": difference + above, "p": p, "method": SEPARATE}


def _closer(a: float, b: float, found: Mapping[str, Any], ideal: float) -> str:
    """Return which side is closer to the ideal, if the interval of the difference leaves no doubt."""
    if found["status"] != "ok" or math.isnan(ideal):
        return ""
    if found["ci_low"] <= 0 <= found["ci_high"]:
        return "undecided"
    if (a - ideal) * (b - ideal) < 0:
        return "opposite sides"  # a difference in the value is not one in the distance
    return "A" if abs(a - ideal) < abs(b - ideal) else "B"


def _holm(p: np.ndarray) -> np.ndarray:
    out = np.full(len(p), np.nan)
    have = ~np.isnan(p)
    if have.any():
        out[have] = multipletests(p[have], method="holm")[1]
    return out
