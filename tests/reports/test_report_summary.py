"""The numbers behind the sections: which row speaks for a cell, which group is worst, what lies outside its band."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import report_tables
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from clipbias.reports import summary
from clipbias.reports.tables import read


def row(**given) -> dict:
    return {
        "model": "m",
        "image_set": "s",
        "view": "global",
        "attribute": "gender",
        "metric": "c_asc",
        "value": 0.0,
    } | given


def tables(rows, **others):
    metrics = pd.DataFrame({"metric": ["c_asc", "entropy", "max_skew"], "ideal": [0.0, 1.0, 0.0]})
    return read({"intrinsic": pd.DataFrame(rows), "metrics": metrics, **others})


def test_the_mean_over_probes_and_groups_speaks_for_a_cell():
    rows = [row(value=0.2), row(probe="nurse", value=0.9), row(group="woman", value=-0.8)]
    (found,) = summary.headline(tables(rows)).to_dict("records")
    assert found["value"] == 0.2
    assert not found["over_groups"]


def test_without_one_the_group_farthest_from_the_ideal_speaks_and_is_named():
    rows = [row(group="woman", value=-0.8), row(group="man", value=0.5)]
    (found,) = summary.headline(tables(rows)).to_dict("records")
    assert (found["value"], found["worst"], found["over_groups"]) == (-0.8, "woman", True)
    assert found["distance"] == pytest.approx(0.8)


def test_distance_is_from_the_metrics_own_ideal():
    rows = [row(metric="entropy", group="woman", value=0.7), row(metric="entropy", group="man", value=1.0)]
    (found,) = summary.headline(tables(rows)).to_dict("records")
    assert (found["worst"], found["value"]) == ("woman", 0.7)
    assert found["distance"] == pytest.approx(0.3)


def test_a_maximum_takes_its_group_from_the_per_group_metric():
    rows = [
        row(metric="max_skew", value=0.4),
        row(metric="skew", group="woman", value=-0.9),
        row(metric="skew", group="man", value=0.4),
    ]
    found = summary.headline(tables(rows)).set_index("metric")
    assert found.loc["max_skew", "worst"] == "man"
    assert found.loc["skew", "worst"] == "woman"


def test_a_failed_value_stays_a_row_and_names_no_group():
    rows = [row(value=math.nan, status="empty group", reason="No man.")]
    (found,) = summary.headline(tables(rows)).to_dict("records")
    assert (found["status"], found["worst"]) == ("empty group", "")


def test_adapted_models_are_not_mixed_in():
    rows = [row(value=0.2, stage="pre"), row(value=0.9, stage="post")]
    assert summary.headline(tables(rows))["value"].tolist() == [0.2]


def local_case(value: float, size: int = 100, band_size: int = 100, kind: str = "metadata"):
    rows = [row(value=0.1), row(view="kitchen", value=value, n=size)]
    views = pd.DataFrame(
        {"model": ["m"], "image_set": ["s"], "view": ["kitchen"], "kind": [kind], "n": [size]}
    )
    band = {"model": "m", "image_set": "s", "attribute": "gender", "probe": "", "metric": "c_asc"}
    bands = pd.DataFrame(
        [
            {**band, "size": band_size, "q_low": 0.0, "q_mid": 0.1, "q_high": 0.2},
            {**band, "size": 5000, "q_low": 0.09, "q_mid": 0.1, "q_high": 0.11},
        ]
    )
    return summary.local(tables(rows, views=views, null_bands=bands))


@pytest.mark.parametrize(
    ("value", "finding"),
    [(0.15, "inside"), (0.2, "inside"), (0.21, "outside"), (-0.01, "outside"), (math.nan, "no band")],
)
def test_a_local_value_is_set_against_the_band_of_its_size(value, finding):
    (found,) = local_case(value).to_dict("records")
    assert found["finding"] == finding
    assert found["global_value"] == 0.1


def test_a_band_of_another_size_is_no_band():
    assert local_case(0.5, size=100, band_size=109)["finding"].tolist() == ["outside"]
    assert local_case(0.5, size=100, band_size=120)["finding"].tolist() == ["no band"]


def test_random_subsets_are_the_null_and_not_a_view():
    assert local_case(0.5, kind="random").empty


def test_the_local_plant_is_found_in_its_view_only():
    run = read(report_tables.make(12, 4))
    found = summary.local(run).query(
        "model == 'zoo:convnext-kitchen' and attribute == 'gender' and finding == 'outside'"
    )
    by_view = found.groupby("view").size()
    assert by_view["context=kitchen"] == 10
    assert by_view.drop("context=kitchen").max() <= 2 if len(by_view) > 1 else True


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_rank_correlation_is_spearmans(pairs):
    x, y = (pd.Series(v, dtype=float) for v in zip(*pairs, strict=True))
    found = summary.rank_correlation(x, y)
    if x.nunique() < 2 or y.nunique() < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_order_of_rows_changes_nothing():
    given = report_tables.make(3, 3)
    mixed = {**given, "intrinsic": given["intrinsic"].sample(frac=1, random_state=1)}
    pd.testing.assert_frame_equal(summary.headline(read(given)), summary.headline(read(mixed)))
    pd.testing.assert_frame_equal(summary.local(read(given)), summary.local(read(mixed)))


def test_empty_tables_give_empty_frames_with_their_columns():
    run = read({})
    assert {"worst", "distance", "planted_rho"} <= set(summary.headline(run).columns)
    assert {"finding", "q_low", "global_value"} <= set(summary.local(run).columns)
    assert np.isnan(summary.rank_correlation(pd.Series([1.0]), pd.Series([2.0])))


def test_strength_sees_what_a_mean_of_signed_values_hides():
    rows = [row(group=g, value=v) for g, v in (("woman", 0.0), ("man", 0.0))]
    for probe, lean in (("nurse", 0.6), ("engineer", -0.4)):
        rows += [row(probe=probe, group="woman", value=lean), row(probe=probe, group="man", value=-lean)]
    (found,) = summary.headline(tables(rows)).to_dict("records")
    assert found["distance"] == 0.0
    assert found["strength"] == pytest.approx(0.5)


def test_without_rows_per_probe_the_strength_is_the_distance():
    (found,) = summary.headline(tables([row(metric="entropy", value=0.7)])).to_dict("records")
    assert found["strength"] == found["distance"] == pytest.approx(0.3)


def test_a_view_with_a_band_of_its_own_is_set_against_that_one():
    rows = [row(value=0.1), row(view="kitchen", value=0.5, n=100), row(view="office", value=0.5, n=100)]
    band = {
        "model": "m",
        "image_set": "s",
        "attribute": "gender",
        "probe": "",
        "metric": "c_asc",
        "size": 100,
        "q_mid": 0.1,
    }
    bands = pd.DataFrame(
        [
            {**band, "view": "kitchen", "q_low": 0.0, "q_high": 0.2},
            {**band, "view": "office", "q_low": 0.0, "q_high": 0.6},
        ]
    )
    found = summary.local(tables(rows, null_bands=bands)).set_index("view")["finding"]
    assert found.to_dict() == {"kitchen": "outside", "office": "inside"}


def test_models_are_matched_by_their_spec_where_metadata_has_another_name():
    models = pd.DataFrame({"model": ["vit-95"], "spec": ["zoo:vit-95"], "planted_rho": [0.95]})
    (found,) = summary.headline(tables([row(model="zoo:vit-95")], models=models)).to_dict("records")
    assert found["planted_rho"] == 0.95
