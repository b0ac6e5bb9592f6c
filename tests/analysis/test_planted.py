"""Downstream bias against planted strength, on tables whose slopes are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clipbias.analysis.planted import COLUMNS, planted_transfer

STRENGTHS = [0.0, 0.2, 0.35, 0.45] * 3
MODELS = [f"m{i}" for i in range(12)]


def models() -> pd.DataFrame:
    table = pd.DataFrame({"model": MODELS, "planted_strength": STRENGTHS, "planted_context": ""})
    local = pd.DataFrame({"model": ["local"], "planted_strength": [0.0], "planted_context": ["beach"]})
    return pd.concat([table, local])


def extrinsic(slopes: dict[str, float], *, noise: float = 0.0, only: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"model": model, "task": "vqa", "head": "answers", "mode": mode, "intervention": "", "seed": "0", "attribute": "gender",
         "view": "global", "group": "", "probe": "", "metric": "flip_rate", "status": "ok",
         "value": 0.1 + slope * strength + noise * rng.standard_normal()}
        for mode, slope in slopes.items()
        for model, strength in list(zip(MODELS, STRENGTHS, strict=True))[:only]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def row(table: pd.DataFrame, mode: str, compared: str = "") -> pd.Series:
    [found] = table[(table["mode"] == mode) & (table["compared_with"] == compared)].to_dict("records")
    return pd.Series(found)


def test_slopes_order_and_their_difference():
    found = planted_transfer(extrinsic({"frozen": 0.8, "full": 0.2}, noise=0.01), models())
    assert list(found.columns) == COLUMNS
    frozen, full, apart = row(found, "frozen"), row(found, "full"), row(found, "full", "frozen")
    assert frozen["spearman"] > 0.9
    assert frozen["slope_low"] < 0.8 < frozen["slope_high"]
    assert frozen["zero_low"] < 0.1 < frozen["zero_high"]
    assert full["slope_low"] < 0.2 < full["slope_high"]
    assert apart["slope"] == pytest.approx(full["slope"] - frozen["slope"])  # the same models in both
    assert apart["slope_high"] < 0
    assert np.isnan(apart["spearman"])
    assert frozen["n"] == apart["n"] == 12


def test_only_models_in_both_modes_are_compared():
    table = pd.concat([extrinsic({"frozen": 0.8}), extrinsic({"full": 0.2}, only=4)])
    found = planted_transfer(table, models())
    assert row(found, "full", "frozen")["n"] == 4
    assert row(found, "full", "frozen")["slope"] == pytest.approx(-0.6)


def test_seeds_are_averaged_and_what_has_no_value_is_counted():
    table = extrinsic({"frozen": 0.8})
    second = table[table["model"] == "m3"].assign(seed="1", value=lambda t: t["value"] + 0.2)
    silent = table["model"] == "m7"
    table.loc[silent, ["value", "status"]] = [np.nan, "not competent"]
    found = row(planted_transfer(pd.concat([table, second]), models()), "frozen")
    assert found["n"] == 11
    assert "1 models have no value" in found["reason"]
    kept = ~silent.to_numpy()
    values = table["value"].to_numpy(float) + np.where(table["model"] == "m3", 0.1, 0)
    assert found["slope"] == pytest.approx(np.polyfit(np.array(STRENGTHS)[kept], values[kept], 1)[0])


def test_local_models_blind_baselines_and_other_views_are_left_out():
    table = extrinsic({"frozen": 0.8})
    more = [
        table.assign(model="local", value=9.0),
        table.assign(mode="blind", value=9.0),
        table.assign(view="kmeans:4/0", value=9.0),
    ]
    assert planted_transfer(pd.concat([table, *more]), models()).equals(planted_transfer(table, models()))


def test_too_few_models_have_a_status_and_no_table_no_rows():
    found = row(planted_transfer(extrinsic({"frozen": 0.8}, only=2), models()), "frozen")
    assert found["status"] == "too few models"
    assert "2 models" in found["reason"]
    three = row(planted_transfer(extrinsic({"frozen": 0.8}, only=3), models()), "frozen")
    assert three["slope"] == pytest.approx(0.8)
    assert three["status"] != "ok"  # a rank correlation needs more
    assert planted_transfer(extrinsic({"frozen": 0.8}), pd.DataFrame({"model": MODELS})).empty


def test_pictures_are_told_apart_by_how_much_of_the_role_they_show():
    mixed = extrinsic({"frozen": 0.6, "full": 0.1}).assign(view="evidence=mixed")
    cluster = extrinsic({"frozen": 0.5}).assign(view="kmeans:4#1")
    found = planted_transfer(pd.concat([extrinsic({"frozen": 0.8}), mixed, cluster]), models())
    slopes = found[found["compared_with"] == ""].set_index(["view", "mode"])["slope"]
    assert set(slopes.index) == {
        ("global", "frozen"),
        ("evidence=mixed", "frozen"),
        ("evidence=mixed", "full"),
    }
    assert slopes["global", "frozen"] == pytest.approx(0.8)
    assert slopes["evidence=mixed", "full"] == pytest.approx(0.1)
    apart = row(found, "full", "frozen")
    assert apart["view"] == "evidence=mixed"
    assert apart["slope"] == pytest.approx(-0.5)
