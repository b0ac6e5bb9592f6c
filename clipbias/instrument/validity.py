"""The proof on planted truth: measured bias against planted strength (analysis/validity.toml)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from clipbias.analysis import correlate
from clipbias.instrument.bands import TIED
from clipbias.instrument.question import Question, question
from clipbias.metrics.record import get
from clipbias.probes.world import ties

COLUMNS = [
    "metric", "attribute", "image_set", "declared", "spearman", "ci_low", "ci_high", "p", "spearman_unsigned", "bound", "verdict",
    "false_positive_rate", "false_positive_bound", "n_models", "reason",
]  # fmt: skip
MIN_MODELS = 4


def summaries(
    intrinsic: pd.DataFrame, asked: Question, *, tied: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return one number per model and metric, with and without a direction.

    Parameters
    ----------
    intrinsic : DataFrame
        Result rows with one row per probe (and group).
    tied : mapping of str to str, optional
        Group tied to each probe; by default what the world plants.

    Returns
    -------
    DataFrame
        ``model, metric, value, unsigned``. ``unsigned``: the mean over probes of the largest distance to the ideal over
        groups, >= 0. ``value``: the same with a plus where the metric points to the group that planting ties to the probe
        and a minus where it points away, so that asymmetries nobody planted cancel instead of adding a floor. A value per
        group without an ideal (a share) is compared with the mean over groups.
        A probe without a value in some group is taken over the others. ``value`` is NaN where a metric takes its
        direction from another one that was not measured.
    """
    rows = intrinsic[
        (intrinsic["image_set"] == asked.image_set) & (intrinsic["attribute"] == asked.attribute)
        & (intrinsic["view"] == asked.view) & (intrinsic["stage"] == "pre") & (intrinsic["probe"] != "")
    ]  # fmt: skip
    tie = rows["probe"].map(tied or ties(asked.attribute))
    value = rows["value"].astype(float).replace([np.inf, -np.inf], np.nan)
    ideal = rows["metric"].map({name: get(name).ideal for name in rows["metric"].unique()}).astype(float)
    ideal = ideal.fillna(value.groupby([rows[k] for k in ("model", "metric", "probe")]).transform("mean"))
    rows = rows.assign(tied=rows["group"] == tie, off=value - ideal)[tie.notna()]
    parts = [_directed(rows, name, asked) for name in [*asked.metrics, *asked.also]]
    each = pd.concat(parts, ignore_index=True)
    return each.groupby(["model", "metric"], sort=False)[["value", "unsigned"]].mean().reset_index()


def _directed(rows: pd.DataFrame, name: str, asked: Question) -> pd.DataFrame:
    """Return ``model, probe, metric, value, unsigned`` of one metric."""
    m = get(name)
    mine = rows[rows["metric"] == name]
    key = ["model", "probe"]
    unsigned = mine["off"].abs().groupby([mine[k] for k in key], sort=False).max()
    if m.per_group:
        # A value per group: the tied group's own.
        value = mine[mine["tied"]].set_index(key)["off"]
    else:
        if m.extreme_of and name not in asked.direction:
            # The row names the group at an extreme: over-represented at a maximum, under-represented at a minimum.
            towards = mine.set_index(key)["tied"] == (m.extreme_of[1] == "max")
        else:
            sibling = rows[(rows["metric"] == asked.direction.get(name, "")) & rows["value"].notna()]
            side = (
                sibling.assign(side=np.where(sibling["tied"], 1.0, -1.0) * sibling["value"])
                .groupby(key, sort=False)["side"]
                .sum()
            )
            towards = side.reindex(unsigned.index)  # without a value of the sibling nothing has a side
            towards = (towards > 0).astype(float).where(towards.notna())
        towards = towards.reindex(unsigned.index).astype(float).to_numpy()
        value = unsigned * np.where(np.isnan(towards), np.nan, np.where(towards > 0, 1.0, -1.0))
    return pd.DataFrame({"value": value, "unsigned": unsigned}).reset_index().assign(metric=name)


def validity(
    intrinsic: pd.DataFrame,
    models: pd.DataFrame,
    *,
    bands: pd.DataFrame | None = None,
    false_positives: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the validity table: one row per metric, and one per model with a local bias.

    Parameters
    ----------
    intrinsic, models : DataFrame
        Tables of a run.
    bands : DataFrame, optional
        Table ``null_bands`` of the run: what random subsets show; local biases are judged by it.
    false_positives : DataFrame, optional
        ``model, metric, rate``.

    Returns
    -------
    DataFrame
        Columns ``COLUMNS``; empty when fewer than four models have a planted strength. ``spearman`` with its
        interval over models and exact or Monte-Carlo permutation p; ``verdict`` is "holds" where the bound is
        met, "falls short" where it is not, "shown" for metrics without a declared bound.
    """
    asked = question()
    planted = (
        models[models["planted_strength"].notna() & (models[asked.exclude].fillna("") == "")]
        if "planted_strength" in models
        else models[:0]
    )
    values = (
        summaries(intrinsic, asked).merge(planted[["model", "planted_strength"]], on="model")
        if len(planted) >= MIN_MODELS
        else pd.DataFrame()
    )
    records = []
    for name in [*asked.metrics, *asked.also] if len(values) else []:
        part = values[values["metric"] == name].dropna()
        declared = name in asked.metrics
        record: dict[str, object] = {
            "metric": name, "attribute": asked.attribute, "image_set": asked.image_set, "declared": declared,
            "bound": asked.bound if declared else np.nan, "n_models": len(part), "false_positive_bound": asked.false_positive_bound,
        }  # fmt: skip
        if len(part) < MIN_MODELS or part["planted_strength"].nunique() < 3:
            source = asked.direction.get(name, "")
            lost = source and name in set(values["metric"]) and source not in set(intrinsic["metric"])
            record |= {
                "verdict": "not tested",
                "reason": f"its direction comes from {source}, which was not measured."
                if lost
                else f"{len(part)} models with a value and {part['planted_strength'].nunique()} planted strengths; {MIN_MODELS} models and 3 strengths are needed.",
            }
        else:
            found = correlate(part["planted_strength"].to_numpy(), part["value"].to_numpy())
            met = found.estimate >= asked.bound
            record |= {
                "spearman": found.estimate, "ci_low": found.ci_low, "ci_high": found.ci_high, "p": found.p_value,
                "spearman_unsigned": correlate(part["planted_strength"].to_numpy(), part["unsigned"].to_numpy()).estimate,
                "verdict": ("holds" if met else "falls short") if declared else "shown", "reason": "",
            }  # fmt: skip
        if false_positives is not None and len(false_positives):
            mine = false_positives.loc[false_positives["metric"] == name, "rate"]
            record["false_positive_rate"] = float(mine.mean()) if len(mine) else np.nan
        records.append(record)
    records += local_records(bands, models, asked) if bands is not None else []
    return pd.DataFrame(records, columns=COLUMNS)


def local_records(bands: pd.DataFrame, models: pd.DataFrame, asked: Question) -> list[dict[str, object]]:
    """Return one record per model with a local bias: beyond what random subsets show in its own view, and only there.

    ``p`` is that of the planted view, one-sided in the planted direction, after Holm's correction over the views.
    """
    local = asked.local
    planted = (
        models[models["planted_context"].fillna("") != ""] if "planted_context" in models else models[:0]
    )
    if local is None or bands.empty:
        return []
    rows = bands[
        (bands["image_set"] == asked.image_set) & (bands["attribute"] == asked.attribute) & (bands["probe"] == TIED)
        & (bands["metric"] == local.metric) & bands["view"].str.startswith(f"{local.views}=") & bands["p_high"].notna()
    ]  # fmt: skip
    records = []
    for model, context in zip(planted["model"], planted["planted_context"], strict=True):
        mine = rows[rows["model"] == model]
        view = f"{local.views}={context}"
        if view not in set(mine["view"]):
            continue
        corrected = pd.Series(multipletests(mine["p_high"], method="holm")[1], index=mine["view"])
        value = mine.set_index("view")["value"]
        others = corrected.drop(view)
        found = corrected[view] < local.alpha and (others >= local.alpha).all()
        records.append(
            {"metric": f"{local.metric} in {view}", "attribute": asked.attribute, "image_set": asked.image_set, "declared": True,
             "p": corrected[view], "n_models": 1, "verdict": "holds" if found else "falls short",
             "reason": f"{model}: planted in {context} only; {value[view]:.2f} there (p {corrected[view]:.3f}), at most "
                       f"{value.drop(view).max():.2f} elsewhere (p at least {others.min():.3f}); random subsets of the same "
                       "size, Holm."}
        )  # fmt: skip
    return records
