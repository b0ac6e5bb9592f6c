"""The numbers that several sections speak about, each computed once and in one way.

``headline``: one row per model, image set, attribute and metric on the global view.
``local``: the same for every other view, beside the global value and the band of random subsets.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.reports.tables import Tables

CELL = ["model", "image_set", "view", "attribute", "metric"]
GLOBAL = "global"
_KEEP = [
    *CELL, "stage", "probe", "group", "value", "ci_low", "ci_high", "n", "null_mean", "null_sd", "z", "p", "status", "reason",
]  # fmt: skip


def ideals(tables: Tables) -> dict[str, float]:
    """Return the ideal value per metric; 0 for a metric that declares none."""
    metrics = tables["metrics"]
    return {m: (0.0 if np.isnan(v) else v) for m, v in zip(metrics["metric"], metrics["ideal"], strict=True)}


def ideal_of(frame: pd.DataFrame, ideal: dict[str, float]) -> pd.Series:
    """Return each row's ideal value; 0 for a metric that declares none."""
    return frame["metric"].map(ideal).astype("float64").fillna(0.0)


def headline(tables: Tables) -> pd.DataFrame:
    """Return the global value of every model × image set × attribute × metric.

    Returns
    -------
    DataFrame
        Columns of the rows contract plus ``worst`` (the group farthest from the ideal, "" if unknown),
        ``distance`` (|value − ideal|, in the metric's unit), ``over_groups`` (True when the value is the
        worst of several group values), ``strength`` (mean over probes of the largest distance to the ideal over
        groups: a mean of signed values cancels where probes lean to opposite groups; the distance where there
        are no rows per probe; >= 0) and the model's ``family``, ``planted_rho``, ``planted_context``.
    """
    rows = _stage(tables["intrinsic"])
    rows = rows[rows["view"] == GLOBAL]
    frame = _one_per_cell(rows, ideals(tables))
    frame["worst"] = _worst_groups(rows, frame, tables)
    frame["strength"] = _strength(rows, frame, ideals(tables))
    models = tables["models"].drop_duplicates("model")[["model", "family", "planted_rho", "planted_context"]]
    frame = frame.merge(models, on="model", how="left")
    return frame.fillna({"family": "", "planted_context": ""}).reset_index(drop=True)


def local(tables: Tables) -> pd.DataFrame:
    """Return every local value with its global value and its band of random subsets of the same size.

    Returns
    -------
    DataFrame
        As ``headline`` plus ``global_value``, ``kind``, ``q_low``, ``q_high`` (95 % band, NaN if none) and
        ``finding``: "outside", "inside" or "no band". Values picked over several groups are left out: a
        maximum over groups has no band of its own.
    """
    rows = _stage(tables["intrinsic"])
    views = tables["views"].drop_duplicates(["model", "image_set", "view"])
    rows = rows[rows["view"] != GLOBAL].merge(
        views[["model", "image_set", "view", "kind", "n"]].rename(columns={"n": "size"}),
        on=["model", "image_set", "view"],
        how="left",
    )
    rows = rows[~rows["kind"].fillna("").str.startswith("random")]
    kinds = rows.drop_duplicates(["model", "image_set", "view"])[
        ["model", "image_set", "view", "kind", "size"]
    ]
    frame = _one_per_cell(rows, ideals(tables))
    frame = frame[~frame["over_groups"]].merge(kinds, on=["model", "image_set", "view"], how="left")
    frame["kind"] = frame["kind"].fillna("")
    frame["size"] = frame["size"].fillna(frame["n"])
    key = ["model", "image_set", "attribute", "metric"]
    whole = headline(tables)[[*key, "value"]].rename(columns={"value": "global_value"})
    frame = _with_bands(frame.merge(whole, on=key, how="left"), tables["null_bands"])
    outside = (frame["value"] < frame["q_low"]) | (frame["value"] > frame["q_high"])
    known = frame["value"].notna() & frame["q_low"].notna()
    frame["finding"] = np.where(~known, "no band", np.where(outside, "outside", "inside"))
    return frame.sort_values(CELL, kind="stable").reset_index(drop=True)


def rank_correlation(x: pd.Series, y: pd.Series) -> float:
    """Return Spearman's rank correlation of two columns, ties averaged; NaN below three pairs."""
    both = pd.DataFrame({"x": x.to_numpy(), "y": y.to_numpy()}).dropna()
    if len(both) < 3 or both["x"].nunique() < 2 or both["y"].nunique() < 2:
        return float("nan")
    return float(both["x"].rank().corr(both["y"].rank()))


def primary(present: list[str], wanted: list[str]) -> str:
    """Return the first wanted name that is present, else the first present one, else ""."""
    return next((w for w in wanted if w in present), present[0] if present else "")


def _stage(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the models as they came; what adaptation made of them has sections of its own."""
    return rows[rows["stage"].isin(["", "pre"])]


def _one_per_cell(rows: pd.DataFrame, ideal: dict[str, float]) -> pd.DataFrame:
    """Pick one row per cell: the mean over probes and groups where there is one, else the worst one."""
    rows = rows[_KEEP].copy()
    rows["distance"] = (rows["value"] - ideal_of(rows, ideal)).abs()
    for column in ("probe", "group"):
        whole = (rows[column] == "").groupby([rows[c] for c in CELL], sort=False).transform("any")
        rows = rows[~whole | (rows[column] == "")]
    rows = _farthest_first(rows)
    rows["over_groups"] = rows.groupby(CELL)["value"].transform("size") > 1
    return rows.drop_duplicates(CELL).sort_values(CELL, kind="stable").reset_index(drop=True)


def _strength(rows: pd.DataFrame, frame: pd.DataFrame, ideal: dict[str, float]) -> pd.Series:
    each = rows[rows["probe"] != ""]
    distance = (each["value"] - ideal_of(each, ideal)).abs().replace(np.inf, np.nan)
    largest = distance.groupby([each[c] for c in (*CELL, "probe")], sort=False).max()
    means = largest.groupby(level=CELL, sort=False).mean()
    found = pd.Series(
        [means.get(tuple(cell), np.nan) for cell in frame[CELL].to_numpy()], index=frame.index, dtype=float
    )
    return found.fillna(frame["distance"])


def _farthest_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort by distance to the ideal; of two equally far the larger value first.

    Two opposite groups (woman −.3, man +.3) are so named by the favoured one, whatever the order of the rows.
    """
    keys = rows.assign(distance=rows["distance"].round(12))
    order = keys.sort_values(
        ["distance", "value", "group", "probe"],
        ascending=[False, False, True, True],
        kind="stable",
        na_position="last",
    ).index
    return rows.loc[order]


def _worst_groups(rows: pd.DataFrame, frame: pd.DataFrame, tables: Tables) -> list[str]:
    """Name the worst group: the row's own, the metric's group rows, or those of its per-group sibling."""
    grouped = rows[(rows["group"] != "") & rows["value"].notna()].copy()
    whole = grouped["probe"] == ""
    grouped = grouped[whole] if whole.any() else grouped
    grouped["distance"] = (grouped["value"] - ideal_of(grouped, ideals(tables))).abs()
    grouped = _farthest_first(grouped)
    first = grouped.drop_duplicates(CELL).set_index(CELL)["group"].to_dict()
    signed = {
        end: grouped.sort_values(["value", "group"], ascending=[end == "min", True], kind="stable")
        .drop_duplicates(CELL)
        .set_index(CELL)["group"]
        .to_dict()
        for end in ("max", "min")
    }
    names = []
    for row in frame.itertuples():
        cell = [row.model, row.image_set, row.view, row.attribute]
        end, _, sibling = row.metric.partition("_")
        name = row.group or first.get((*cell, row.metric), "")
        if not name and end in signed:
            name = signed[end].get((*cell, sibling), "")
        names.append(name if row.status == "ok" else "")
    return names


def _with_bands(frame: pd.DataFrame, bands: pd.DataFrame) -> pd.DataFrame:
    """Join each view's own band, or else the band of the nearest size; more than a tenth away is no match."""
    if "view" in bands and len(bands):
        by = [*CELL, "probe"]
        own = bands.drop_duplicates(by)[[*by, "q_low", "q_high"]]
        return frame.merge(own, on=by, how="left")
    by = ["model", "image_set", "attribute", "probe", "metric"]
    frame = frame.assign(size=frame["size"].astype("float64"))
    if bands.empty or frame.empty:
        return frame.assign(q_low=np.nan, q_high=np.nan)
    sized = frame.dropna(subset=["size"]).sort_values("size", kind="stable")
    right = bands.dropna(subset=["size"]).sort_values("size", kind="stable")
    right = right[[*by, "size", "q_low", "q_high"]].assign(band_size=right["size"])
    joined = pd.merge_asof(sized, right, on="size", by=by, direction="nearest")
    far = (joined["band_size"] - joined["size"]).abs() > 0.1 * joined["size"]
    joined.loc[far, ["q_low", "q_high"]] = np.nan
    rest = frame[frame["size"].isna()].assign(q_low=np.nan, q_high=np.nan)
    return pd.concat([joined.drop(columns="band_size"), rest], ignore_index=True)
