"""Rank stability against its ceiling, on models whose true order is known."""

import numpy as np
import pandas as pd
import pytest

from clipbias.analysis.stability import rank_stability
from clipbias.errors import DataError


def table(rng, models=400, noise=0.5, same=True):
    true = rng.normal(size=models)
    other = true if same else rng.normal(size=models)
    halves = {name: of + noise * rng.normal(size=models) for name, of in
              (("global_1", true), ("global_2", true), ("half_1", other), ("half_2", other))}  # fmt: skip
    frame = pd.DataFrame({"model": [f"m{i}" for i in range(models)], **halves})
    frame["global"] = frame[["global_1", "global_2"]].mean(axis=1)
    frame["value"] = frame[["half_1", "half_2"]].mean(axis=1)
    return frame.assign(image_set="s", attribute="gender", metric="max_skew", view="place=sea")


def test_the_same_ranking_reaches_its_ceiling():
    row = rank_stability(table(np.random.default_rng(0))).iloc[0]
    # Reliability of a mean of two halves: 1 / (1 + noise^2 / 2).
    assert row["reliability_view"] == pytest.approx(1 / (1 + 0.25 / 2), abs=0.03)
    assert row["ceiling"] == pytest.approx(1 / (1 + 0.25 / 2), abs=0.03)
    assert row["share_of_ceiling"] == pytest.approx(1.0, abs=0.06)
    assert row["ci_low"] < row["spearman"] < row["ci_high"]


def test_another_ranking_does_not():
    row = rank_stability(table(np.random.default_rng(1), same=False)).iloc[0]
    assert abs(row["share_of_ceiling"]) < 0.2


def test_what_cannot_be_judged_has_a_reason():
    rng = np.random.default_rng(2)
    assert rank_stability(table(rng, models=3)).iloc[0]["status"] == "too few models"
    flat = table(rng, models=10).assign(value=1.0)
    assert rank_stability(flat).iloc[0]["status"] == "constant column"
    noisy = table(rng, models=10)
    noisy["half_2"] = -noisy["half_1"]
    row = rank_stability(noisy).iloc[0]
    assert np.isnan(row["ceiling"])
    assert "does not repeat itself" in row["reason"]
    with pytest.raises(DataError, match="half_2"):
        rank_stability(noisy.drop(columns="half_2"))
