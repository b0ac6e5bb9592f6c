import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from clipbias.analysis.mixed import dose_response, mixed_effects
from clipbias.errors import DataError, StatusError


def rows(rng, models=15, attributes=4, slope=0.5, between=1.0, noise=0.5):
    x = rng.normal(size=models)
    out = []
    for i in range(models):
        level = between * rng.normal()
        for a in range(attributes):
            out.append(
                {
                    "model": f"m{i}",
                    "attribute": f"a{a}",
                    "x": x[i],
                    "y": slope * x[i] + level + a + noise * rng.normal(),
                }
            )
    return pd.DataFrame(out)


def test_slope_is_found_and_its_scale_kept():
    rng = np.random.default_rng(0)
    data = rows(rng, models=60, slope=2.0, between=0.5)
    found = mixed_effects(data, outcome="y", predictor="x", fixed=("attribute",))
    assert found.ci_low < 2 < found.ci_high
    assert found.slope == pytest.approx(found.means_slope, abs=1e-3)  # balanced: both are the same
    assert found.group_sd == pytest.approx(0.5, abs=0.2)
    scaled = mixed_effects(
        data.assign(y=1e4 * data["y"], x=1e-3 * data["x"]), outcome="y", predictor="x", fixed=("attribute",)
    )
    assert scaled.slope == pytest.approx(1e7 * found.slope, rel=1e-3)
    assert (found.models, found.rows) == (60, 240)


def test_no_group_variance_is_quiet_and_flagged():
    rng = np.random.default_rng(1)
    data = rows(rng, between=0.0)
    data["y"] -= data.groupby("model")["y"].transform("mean") - 0.5 * data["x"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mixed_effects(data, outcome="y", predictor="x", fixed=("attribute",))
    assert found.singular
    assert found.slope == pytest.approx(0.5, abs=1e-3)


def test_type_one_error_stays_where_pooled_rows_lose_it():
    rng = np.random.default_rng(2)
    mixed, pooled = 0, 0
    for _ in range(100):
        data = rows(rng, models=10, slope=0.0)
        mixed += mixed_effects(data, outcome="y", predictor="x", fixed=("attribute",)).p_value < 0.05
        pooled += (
            stats.linregress(data["x"], data["y"] - data.groupby("attribute")["y"].transform("mean")).pvalue
            < 0.05
        )
    assert mixed <= 11
    assert pooled >= 15


def test_mixed_effects_says_what_is_wrong():
    data = rows(np.random.default_rng(3))
    with pytest.raises(DataError, match="'z'"):
        mixed_effects(data, outcome="y", predictor="z")
    with pytest.raises(StatusError, match="3 models"):
        mixed_effects(data[data["model"].isin(["m0", "m1", "m2"])], outcome="y", predictor="x")
    with pytest.raises(StatusError, match="one row"):
        mixed_effects(data.drop_duplicates("model"), outcome="y", predictor="x")
    with pytest.raises(StatusError, match="everywhere"):
        mixed_effects(data.assign(x=1.0), outcome="y", predictor="x")
    with pytest.raises(StatusError, match="same thing"):
        mixed_effects(data.assign(copy=data["x"]), outcome="y", predictor="x", fixed=("copy",))


def test_dose_response_on_planted_truth():
    rng = np.random.default_rng(4)
    dose = np.repeat([0, 0.3, 0.6, 0.9], 4)
    found = dose_response(dose, 0.5 * dose + 0.02 * rng.normal(size=16))
    assert found.correlation.verdict == "related"
    assert found.ci_low < 0.5 < found.ci_high
    assert found.concordance > 0.97
    assert found.zero_low < 0.0 < found.zero_high or abs(found.at_zero) < 0.03
    assert found.doses == 4
    with pytest.raises(StatusError, match="equal"):
        dose_response([0.5] * 6, rng.normal(size=6))
