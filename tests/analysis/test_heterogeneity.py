import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clipbias.analysis.heterogeneity import heterogeneity, split_correlation, within_models
from clipbias.errors import DataError, StatusError


def test_cochran_q_by_hand():
    # Equal errors: Q is the sum of squares over the variance, I2 = 1 - df/Q.
    y = np.array([0.1, 0.5, 0.9])
    found = heterogeneity(y, np.full(3, 0.2))
    assert found.q == pytest.approx(((y - 0.5) ** 2).sum() / 0.04)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.q, 2))
    assert found.i2 == pytest.approx(1 - 2 / found.q)
    assert found.tau2 == pytest.approx(0.16 - 0.04)  # variance of y less the sampling variance
    assert found.mean == pytest.approx(0.5)
    assert found.low < 0.1
    assert found.high > 0.9


def test_homogeneous_estimates_and_bad_input():
    found = heterogeneity(np.full(4, 0.3), np.full(4, 0.1))
    assert (found.q, found.i2, found.tau2) == pytest.approx((0, 0, 0))
    assert found.p_value == pytest.approx(1)
    with pytest.raises(StatusError, match="1 estimates"):
        heterogeneity(np.array([0.1, np.nan]), np.array([0.1, 0.2]))
    with pytest.raises(DataError):
        heterogeneity(np.zeros(3), np.zeros(2))


def test_bootstrap_null_allows_for_shared_models():
    """Cells from the same models: errors move together, chi-squared p would be far too large."""
    rng = np.random.default_rng(0)
    y = np.array([0.0, 0.15, 0.3])
    common = rng.normal(scale=0.3, size=(800, 1))
    draws = y + common + 0.03 * rng.normal(size=(800, 3))
    errors = np.full(3, 0.3)
    assert heterogeneity(y, errors).p_value > 0.3
    found = heterogeneity(y, errors, draws=draws)
    assert found.p_value < 0.05
    assert found.dependent


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_split_obeys_its_identity(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 4, 30)
    x = rng.normal(size=30) + groups * rng.normal()
    y = rng.normal(size=30) + groups * rng.normal()
    s = split_correlation(x, y, groups)
    rebuilt = s.eta_x * s.eta_y * s.between + np.sqrt((1 - s.eta_x**2) * (1 - s.eta_y**2)) * s.within
    assert s.total == pytest.approx(stats.pearsonr(x, y)[0])
    assert rebuilt == pytest.approx(s.total, abs=1e-9)


def test_simpson_is_seen():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(5), 10)
    inside = rng.normal(size=50)
    x, y = 3 * groups + inside, 3 * groups - 0.8 * inside + 0.3 * rng.normal(size=50)
    s = split_correlation(x, y, groups)
    assert s.total > 0.5
    assert s.between > 0.95
    assert s.within < -0.5
    assert s.reversed
    assert not split_correlation(x, x + rng.normal(size=50), groups).reversed
    one = split_correlation(x, y, np.zeros(50))
    assert np.isnan(one.between)
    assert one.within == pytest.approx(one.total)
    with pytest.raises(StatusError):
        split_correlation(np.ones(5), np.arange(5), np.zeros(5))
    with pytest.raises(DataError):
        split_correlation(np.ones(5), np.ones(4), np.zeros(5))


def test_within_models_can_disagree_with_across_models():
    rng = np.random.default_rng(2)
    level = np.arange(8)[:, None]
    inside = rng.normal(size=(8, 12))
    names, concepts = [f"m{i}" for i in range(8)], [f"c{i}" for i in range(12)]
    x = pd.DataFrame(level + inside, index=names, columns=concepts)
    y = pd.DataFrame(-level + 0.9 * inside, index=names, columns=concepts)
    found = within_models(x, y)
    assert found.mean > 0.9
    assert found.p_value == pytest.approx(2 / 2**8)
    assert stats.spearmanr(x.mean(axis=1), y.mean(axis=1))[0] < -0.5
    assert found.unit == "concepts within models"
    assert found.ci_low <= found.mean <= found.ci_high
    with pytest.raises(DataError, match="3 concepts"):
        within_models(x.iloc[:, :3], y)
    with pytest.raises(DataError, match="no model"):
        within_models(x, y.rename(index=str.upper))
