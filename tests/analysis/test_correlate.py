import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clipbias.analysis.coefficients import coefficient
from clipbias.analysis.correlate import correlate
from clipbias.analysis.intervals import bca, bonett_wright
from clipbias.analysis.partial import freedman_lane
from clipbias.analysis.permutations import orders
from clipbias.analysis.power import (
    critical_correlation,
    equivalence_test,
    minimum_detectable_correlation,
    models_to_detect,
    models_to_exclude,
    smallest_equivalence_bound,
)
from clipbias.errors import DataError, StatusError


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=12))
def test_coefficients_equal_scipy_with_ties(points):
    x, y = np.array(points, float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(coefficient(x, y))
        return
    assert coefficient(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    assert coefficient(x, y, method="pearson") == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)
    assert coefficient(x, y, method="kendall") == pytest.approx(stats.kendalltau(x, y)[0], abs=1e-12)


@pytest.mark.parametrize(
    ("n", "critical", "mde", "spearman", "tost"),
    [(8, 0.71, 0.85, 0.86, None), (10, 0.63, 0.79, 0.80, 0.80), (20, 0.44, 0.59, 0.60, 0.61), (30, 0.36, 0.49, 0.50, 0.51),
     (40, 0.31, 0.43, 0.44, 0.45), (60, 0.25, 0.36, 0.36, 0.37), (100, 0.20, 0.28, 0.29, 0.29)],
)  # fmt: skip
def test_table_of_what_n_models_can_show(n, critical, mde, spearman, tost):
    assert critical_correlation(n) == pytest.approx(critical, abs=0.006)
    assert minimum_detectable_correlation(n) == pytest.approx(mde, abs=0.006)
    assert minimum_detectable_correlation(n, method="spearman") == pytest.approx(spearman, abs=0.006)
    if tost:
        assert smallest_equivalence_bound(n) == pytest.approx(tost, abs=0.006)


@pytest.mark.parametrize(("bound", "n"), [(0.2, 212), (0.3, 93), (0.4, 51), (0.5, 32)])
def test_models_needed_to_exclude_a_bound(bound, n):
    assert models_to_exclude(bound) == n
    assert smallest_equivalence_bound(n) <= bound < smallest_equivalence_bound(n - 2)


def test_models_needed_to_detect_is_the_inverse():
    for n in (12, 40, 90):
        assert models_to_detect(minimum_detectable_correlation(n) + 1e-9) == n
    assert models_to_detect(0.0) == math.inf


def test_equivalence_test_by_hand():
    found = equivalence_test(0.1, 100, bound=0.3)
    error = 1 / math.sqrt(97)
    assert found.p_value == pytest.approx(stats.norm.cdf((math.atanh(0.1) - math.atanh(0.3)) / error))
    assert found.equivalent
    assert not equivalence_test(0.1, 20, bound=0.3).equivalent
    assert equivalence_test(0.1, 100, bound=found.excluded_bound + 1e-9).equivalent
    assert not equivalence_test(0.1, 100, bound=found.excluded_bound - 1e-9).equivalent
    assert equivalence_test(-0.1, 100, bound=0.3).p_value == pytest.approx(found.p_value)
    with pytest.raises(DataError, match="between 0 and 1"):
        equivalence_test(0.1, 100, bound=1.2)
    with pytest.raises(StatusError):
        equivalence_test(0.1, 3, bound=0.3)


def test_exact_p_values():
    perfect = correlate([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
    assert perfect.p_value == pytest.approx(2 / 120)  # scipy's t approximation says 1e-24
    assert perfect.exact
    x, y = [1, 2, 3, 4, 5, 6, 7], [1, 1, 2, 4, 3, 5, 5]
    values = [stats.spearmanr(x, p)[0] for p in itertools.permutations(y)]
    seen = stats.spearmanr(x, y)[0]
    assert correlate(x, y).p_value == pytest.approx(np.mean(np.abs(values) >= abs(seen) - 1e-12))
    tau = stats.kendalltau(x, y)[0]
    taus = [stats.kendalltau(x, p)[0] for p in itertools.permutations(y)]
    assert correlate(x, y).methods["kendall"][1] == pytest.approx(np.mean(np.abs(taus) >= abs(tau) - 1e-12))


def test_sampled_p_agrees_with_theory_and_repeats(rng):
    x = rng.normal(size=40)
    y = 0.4 * x + rng.normal(size=40)
    one, two = correlate(x, y, method="pearson"), correlate(x, y, method="pearson")
    assert not one.exact
    assert one.p_value == two.p_value
    assert one.p_value == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.01)
    assert one.p_value >= 1 / 10_000


def test_permutations_within_families():
    found = orders(5, families=["a", "b", "a", "b", "b"])
    assert found.exact
    assert len(found.indices) == 12
    assert len({tuple(o) for o in found.indices}) == 12
    assert (found.indices[0] == np.arange(5)).all()
    assert all(set(o[[0, 2]]) == {0, 2} for o in found.indices)
    sampled = orders(30, families=["a"] * 15 + ["b"] * 15, resamples=50)
    assert not sampled.exact
    assert (sampled.indices[:, :15] < 15).all()
    assert (np.sort(sampled.indices, axis=1) == np.arange(30)).all()


def test_families_take_out_a_family_effect(rng):
    families = np.repeat(list("abcdef"), 6)
    level = np.repeat(rng.normal(size=6) * 5, 6)
    x, y = level + rng.normal(size=36), level + rng.normal(size=36)
    naive, grouped = correlate(x, y), correlate(x, y, families=families)
    assert naive.p_value < 0.001
    assert grouped.p_value > 0.05
    assert grouped.between_n == 6
    assert grouped.p_between < 0.05
    assert list(grouped.left_out_families["family"]) == list("abcdef")
    assert grouped.left_out_families["n"].eq(30).all()
    assert grouped.bca_low != naive.bca_low  # families are drawn, not models


def test_models_are_compared_within_families_of_any_size(rng):
    """Families are blocks: levels of their own, however large and however opposed, change nothing."""
    families = np.array([*"aaaa", *"bbbbbb", *"ccc", "d"])
    x = rng.normal(size=14)
    y = x + 0.3 * rng.normal(size=14)
    level = {"a": 0.0, "b": 50.0, "c": -80.0, "d": 9.0}
    shift = np.array([level[f] for f in families])
    naive = correlate(x + shift, y - shift, method="pearson")
    found = correlate(x + shift, y - shift, method="pearson", families=families)
    assert naive.estimate < -0.9
    assert found.verdict == "related"
    rest = [v - np.array([v[families == f].mean() for f in families]) for v in (x, y)]
    assert found.estimate == pytest.approx(stats.pearsonr(*rest)[0])
    assert found.partialled == 3
    assert found.estimate == pytest.approx(correlate(x, y, method="pearson", families=families).estimate)
    assert (found.left_out_families["estimate"] > 0.5).all()


def test_a_control_that_families_hold_takes_nothing_more(rng):
    families = np.repeat(list("abc"), 4)
    size = np.repeat([1.0, 2.0, 7.0], 4)
    x, y = rng.normal(size=(2, 12))
    bare, held = (
        correlate(x, y, families=families),
        correlate(x, y, families=families, controls={"size": size}),
    )
    assert held.estimate == pytest.approx(bare.estimate)
    assert held.p_value == pytest.approx(bare.p_value)
    assert (held.partialled, bare.partialled) == (2, 2)
    assert "size held by comparing within families" in held.note
    varying = correlate(x, y, families=families, controls={"size": size + rng.normal(size=12)})
    assert varying.partialled == 3
    with pytest.raises(StatusError, match="5 models in 2 families and 1 controls; at least 6"):
        correlate(x[:5], y[:5], families=list("aabbb"), controls={"s": rng.normal(size=5)})


def test_kendall_within_families_counts_pairs_of_one_family(rng):
    families = np.array([*"aaaa", *"bbb"])
    x, y = rng.normal(size=7), rng.normal(size=7)
    pairs = [(i, j) for i in range(7) for j in range(i) if families[i] == families[j]]
    tau = np.mean([np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs])
    found = correlate(x, y, families=families, method="kendall")
    assert found.estimate == pytest.approx(tau)
    assert correlate(x, y, families=families).methods["kendall"][0] == pytest.approx(tau)
    assert correlate(
        x + 9 * (families == "b"), y, families=families, method="kendall"
    ).estimate == pytest.approx(tau)


def test_the_interval_over_few_families_draws_models_within_them(rng):
    families = np.repeat(list("abc"), 8)
    x = rng.normal(size=24)
    y = 0.8 * x + 0.6 * rng.normal(size=24)
    found = correlate(x + 5 * np.repeat([0, 1, 2], 8), y, families=families, bootstrap=499)
    assert found.bca_low < found.estimate < found.bca_high
    assert 0.1 < found.bca_high - found.bca_low < 1.2


def test_bonett_wright_by_hand_and_at_a_perfect_order():
    low, high = bonett_wright(0.5, 28)
    width = 1.959963985 * math.sqrt(1.125 / 25)
    assert low == pytest.approx(math.tanh(math.atanh(0.5) - width))
    assert high == pytest.approx(math.tanh(math.atanh(0.5) + width))
    low, high = bonett_wright(1.0, 6)
    assert high == 1
    assert 0 < low < 1
    assert bonett_wright(-1.0, 6) == (-1, -low)
    with pytest.raises(StatusError):
        bonett_wright(0.5, 3)


def test_bca_agrees_with_scipy_and_survives_resamples_without_spread(rng):
    x = rng.normal(size=30)
    y = 0.6 * x + rng.normal(size=30)
    low, high, lost = bca(x, y, method="pearson", resamples=4000, seed=1)
    known = stats.bootstrap(
        (x, y), lambda a, b: stats.pearsonr(a, b)[0], paired=True, vectorized=False, n_resamples=2000, rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx((known.low, known.high), abs=0.05)
    assert lost == 0
    few = np.array([0.0, 0, 0, 0, 0, 1])  # a third of resamples has no spread
    low, high, lost = bca(few, np.array([1.0, 2, 3, 2, 1, 9]), resamples=500)
    assert lost > 0.2
    assert np.isfinite([low, high]).all()


def test_intervals_cover(rng):
    inside = 0
    for _ in range(300):
        z = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=20)
        low, high = bonett_wright(float(coefficient(z[:, 0], z[:, 1])), 20)
        inside += low <= 6 / math.pi * math.asin(0.25) <= high
    assert 0.91 <= inside / 300 <= 0.99


def test_partial_correlation_equals_residuals_and_freedman_lane_is_exact(rng):
    n = 7
    z = rng.normal(size=(n, 1))
    x, y = z[:, 0] + rng.normal(size=n), z[:, 0] + rng.normal(size=n)
    full = np.c_[np.ones(n), z]

    def rest(v):
        return v - full @ np.linalg.lstsq(full, v, rcond=None)[0]

    found = correlate(x, y, method="pearson", controls=pd.DataFrame({"accuracy": z[:, 0]}))
    assert found.estimate == pytest.approx(stats.pearsonr(rest(x), rest(y))[0])
    assert found.controls == ("accuracy",)
    fit = y - rest(y)
    values = [
        stats.pearsonr(rest(x), rest(fit + rest(y)[list(o)]))[0] for o in itertools.permutations(range(n))
    ]
    assert found.p_value == pytest.approx(np.mean(np.abs(values) >= abs(found.estimate) - 1e-12))


def test_a_confounder_is_partialled_out(rng):
    size = rng.normal(size=60)
    family = np.where(np.arange(60) % 3 == 0, "vit", "resnet")
    x, y = size + 0.5 * rng.normal(size=60), size + 0.5 * rng.normal(size=60)
    assert correlate(x, y).verdict == "related"
    partial = correlate(x, y, controls={"parameters": size, "kind": family})
    assert partial.p_value > 0.05
    assert partial.minimum_detectable > correlate(x, y).minimum_detectable
    with pytest.raises(StatusError, match="explain the intrinsic"):
        correlate(x, y, controls={"x": x})
    with pytest.raises(StatusError):
        freedman_lane(x, y, y[:, None], np.arange(60)[None], ranks=False)
    with pytest.raises(DataError, match="not kendall"):
        correlate(x, y, controls={"s": size}, method="kendall")


def test_type_one_error_of_partial_correlation(rng):
    rejected = 0
    for i in range(200):
        z = rng.normal(size=14)
        x, y = z + rng.normal(size=14), z + rng.normal(size=14)
        rejected += correlate(x, y, controls=z, resamples=199, bootstrap=10, seed=i).p_value < 0.05
    assert rejected / 200 <= 0.09


def test_three_verdicts(rng):
    x = rng.normal(size=200)
    noise = rng.normal(size=200)
    noise -= x * (x @ noise) / (x @ x)
    assert correlate(x, x + noise).verdict == "related"
    assert correlate(x, noise, method="pearson").verdict == "equivalent to none within ±0.3"
    assert correlate(x, noise, method="pearson", bound=0.05).verdict == "undecided"
    few = correlate(x[:8], noise[:8])
    assert few.verdict == "undecided"
    assert "deciding would take" in str(few)
    assert few.models_to_exclude == models_to_exclude(0.3, method="spearman")
    assert few.detectable_bound > 0.8
    assert few.row()["pearson"] == pytest.approx(few.methods["pearson"][0])


def test_labels_are_joined_and_missing_values_counted():
    x = pd.Series({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": np.nan, "f": 5.0})
    y = pd.Series({"f": 9.0, "d": 8.0, "c": 6.0, "b": 5.0, "a": 1.0, "e": 3.0, "z": 0.0})
    found = correlate(x, y)
    assert found.n == 5
    assert found.estimate == pytest.approx(1)
    assert "1 models without all values" in found.note
    with pytest.raises(DataError, match="no model is in both"):
        correlate(x, y.rename(index=str.upper))
    with pytest.raises(DataError, match="'a' twice"):
        correlate(pd.concat([x, x[:1]]), y)
    with pytest.raises(DataError, match="families are not known for"):
        correlate(x, y, families={"a": 1})


def test_what_cannot_be_correlated_says_why():
    with pytest.raises(StatusError, match="1 models"):
        correlate([1.0], [2.0])
    with pytest.raises(StatusError, match=r"extrinsic values of all 5 models are equal \(3\)"):
        correlate([1, 2, 3, 4, 5], [3] * 5)
    with pytest.raises(DataError, match="4 intrinsic and 5 extrinsic"):
        correlate([1, 2, 3, 4], [3] * 5)
    with pytest.raises(DataError, match="spearman"):
        correlate([1, 2, 3, 4], [1, 2, 3, 5], method="spearmann")
    small = correlate([1, 2, 3, 4], [1, 3, 2, 4])
    assert "smallest p" in small.note
