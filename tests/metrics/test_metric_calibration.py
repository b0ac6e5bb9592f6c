"""Do the intervals cover, and do the tests keep their level? The full table: benchmarks/coverage.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipbias.metrics import Classification, Pronouns, Protocol, Ranking, evaluate, get
from clipbias.metrics.inference import _null
from clipbias.metrics.intervals import (
    excess_interval,
    interval,
    mean_interval,
    moved_interval,
    share_interval,
)

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


def test_wilson_interval_of_a_binomial_share():
    # Ten of forty: the published Wilson interval, when the draws show exactly binomial dispersion.
    boot = 0.25 + np.array([-1, 1]) * np.sqrt(0.25 * 0.75 / 40 / 2)
    low, high = share_interval(0.25, boot, trials=40, level=0.95)
    assert (low, high) == pytest.approx((0.14187, 0.40194), abs=2e-5)
    low, high = share_interval(0.0, np.zeros(9), trials=10, level=0.95)
    assert (low, high) == pytest.approx((0.0, 0.27754), abs=2e-5)


def test_t_interval_is_wider_for_few():
    boot = np.random.default_rng(0).normal(size=500)
    wide = mean_interval(0.0, boot, level=0.95, df=4)
    assert mean_interval(0.0, boot, level=0.95)[1] == pytest.approx(1.96 * boot.std(ddof=1), rel=1e-3)
    assert wide[1] == pytest.approx(2.776 * boot.std(ddof=1), rel=1e-3)


def test_excess_interval_takes_the_null_variance_at_the_null():
    rng = np.random.default_rng(0)
    null = rng.chisquare(3, 5000)
    # A value at the null mean whose bootstrap has the floor twice and three times the variance.
    boot = rng.noncentral_chisquare(3, 3, 5000)
    low, high = excess_interval(3.0, boot, null, level=0.95)
    assert low == pytest.approx(3 - 1.96 * np.sqrt(6), abs=0.3)
    # Above: (u - e)^2 = z^2 (6 + 4 e) at u = 0, the variance of a noncentral chi-square with mean 3 + e.
    z2 = 1.96**2
    assert high == pytest.approx(3 + 2 * z2 + np.sqrt(4 * z2**2 + 6 * z2), rel=0.1)
    # Mirrored for a metric that is fairer when high.
    mirror = excess_interval(-3.0, -boot, -null, level=0.95)
    assert mirror == pytest.approx((-high, -low))


@pytest.mark.parametrize(("spread", "slope"), [(0.1, 0.45 * 4), (400.0, 3 * 4)])
def test_the_slope_of_the_variance_is_kept_near_that_of_a_quadratic(spread, slope):
    # Mean 3 and variance 6 of a chi-square with its minimum at 0: its noncentral variance rises by 4 per unit of the mean.
    null = 3 + np.sqrt(6) * np.array([-1.0, 1.0]) / np.sqrt(2)
    boot = 4 + np.sqrt(spread) * np.array([-1.0, 1.0]) / np.sqrt(2)
    high = excess_interval(3.0, boot, null, level=0.95, ideal=0.0)[1]
    z2 = 1.95996**2
    assert high == pytest.approx(3 + z2 * slope / 2 + np.sqrt((z2 * slope / 2) ** 2 + 6 * z2), rel=1e-4)
    assert excess_interval(3.0, boot, null, level=0.95)[1] != pytest.approx(high, rel=0.05)


def test_where_the_first_places_weigh_most_the_null_says_the_least_spread():
    boot, null = 0.4 + 0.01 * np.array([-1.0, 1.0]), 0.1 * np.array([-1.0, 1.0])
    narrow, wide = interval("t", 0.4, boot, null), interval("ranked t", 0.4, boot, null)
    assert wide[1] - 0.4 == pytest.approx(10 * (narrow[1] - 0.4))
    assert interval("ranked t", 0.4, boot, 0.01 * null) == narrow


# Cells outside 92 to 98 % in the shipped results: without an effect the expectation is the floor, and only the lower end can miss.
OUTSIDE = {("max_skew", "value", 100, 0.0), ("min_skew", "value", 100, 0.0)}


def test_shipped_coverage_is_within_its_bounds():
    table = pd.read_csv(BENCHMARK.with_suffix(".csv"))
    assert {(n, g) for n, g in zip(table["n"], table["groups"], strict=True)} == {
        (100, 2),
        (100, 7),
        (1000, 2),
        (1000, 7),
    }
    assert table["replications"].min() >= 300
    outside = table[~table["covered_percent"].between(92, 98)]
    assert {tuple(row) for row in outside[["metric", "of", "n", "effect"]].to_numpy()} <= OUTSIDE


@pytest.mark.parametrize("shift", [0.0, 10.0, 60.0])
def test_excess_interval_covers_the_mean_of_a_quadratic(shift):
    # Noncentral chi-square is where the variance line is exact: mean df + l, variance 2 df + 4 l.
    rng = np.random.default_rng(1)
    df, null = 30, rng.chisquare(30, 2000)
    x = rng.noncentral_chisquare(df, shift, 500) if shift else rng.chisquare(df, 500)
    draws = [rng.noncentral_chisquare(df, v, 400) for v in x]
    ends = [excess_interval(v, boot, null, level=0.95) for v, boot in zip(x, draws, strict=True)]
    assert 0.92 <= np.mean([low <= df + shift <= high for low, high in ends]) <= 0.98
    # The percentile interval has the floor twice and lies beside the value.
    percentile = [np.quantile(boot, [0.025, 0.975]) for boot in draws]
    assert np.mean([low <= df + shift <= high for low, high in percentile]) < 0.8


def test_interval_keeps_to_the_range_and_holds_the_value():
    boot = np.array([0.0, 0.5, 1.0])
    assert interval("t", 0.9, boot, None, bounds=(0, 1))[1] == 1.0
    assert np.isnan(interval("t", 0.9, boot[:1], None)).all()
    low, high = interval("log share", 0.0, np.array([-np.inf, 0.0, 0.4]), None, trials=10, reference=0.2)
    assert low < 0.0 < high < np.log(1 / 0.2)


def false_positives(names, n, groups, k, sets=15, labels=80):
    """Share of 5 % tests that reject fresh random labels, over sets × labels draws."""
    rng = np.random.default_rng(n + groups)
    rejected = {name: [] for name in names}
    protocol = Protocol(k=k, n_boot=0, n_perm=199, min_group=1)
    g = np.arange(n) % groups
    for i in range(sets):
        # The draws of the null are those of `evaluate`; the labels tested come from another stream.
        r = Ranking(rng.normal(size=(2, n)), ["p", "q"], g)
        fresh = protocol.model_copy(update={"n_perm": labels, "seed": 1000 + i})
        for name in names:
            m = get(name)
            values, null = (m.kernel(r.tally("permuted", p, m)).mean(1) for p in (fresh, protocol))
            values, null = (a.reshape(len(a), -1) for a in (values, null))
            for group in range(values.shape[1]):
                rejected[name] += [_null(v, null[:, group], m.worse)["p"] <= 0.05 for v in values[:, group]]
    return {name: (np.mean(r), len(r)) for name, r in rejected.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "groups", "k"), [(100, 2, 20), (140, 7, 42)])
def test_false_positive_rate_of_the_permutation_tests(n, groups, k):
    names = ("skew", "max_skew", "ndkl", "bias_at_k", "normalized_entropy", "c_asc")
    for name, (rate, draws) in false_positives(names, n, groups, k).items():
        assert draws >= 1000
        assert rate <= 0.07, name
        # A test that never rejects would pass too. Counts are discrete, so its level is often below 5 %.
        assert rate >= 0.005, name


@pytest.mark.slow
def test_intervals_cover_in_simulation():
    spec = importlib.util.spec_from_file_location("coverage_benchmark", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    table = benchmark.coverage(
        replications=200, draws=200, sizes=(100,), groups=(2, 7), effects=(0.5,), means=False, truth=1000,
        metrics=("skew", "c_asc", "max_skew", "normalized_entropy", "zero_shot_recall", "recall_at_k"),
    )  # fmt: skip
    # 95 % over 200 replications has a standard error of 1.5 points; the groups of one cell are averaged.
    assert len(table) == 24
    assert table["covered_percent"].between(90, 99.6).all(), table.to_string()
    # The null of a recall moves with it: an interval that was only shifted covered 99 % and more.
    moving = table[(table["of"] == "excess") & table["metric"].isin(["zero_shot_recall", "recall_at_k"])]
    assert moving["covered_percent"].between(91, 98.5).all(), moving.to_string()


def test_interval_of_an_excess_shrinks_by_what_value_and_null_share():
    boot = np.array([0.4, 0.5, 0.6, 0.7])
    low, high = moved_interval(0.55, (0.35, 0.75), boot, 0.5, np.full(4, 0.5))
    assert (low, high) == pytest.approx((-0.15, 0.25))  # a null that stays: shifted
    low, high = moved_interval(0.55, (0.35, 0.75), boot, 0.5, boot / 2)
    assert (low, high) == pytest.approx((-0.05, 0.15))  # a null that takes half of every move: half as wide


def test_excess_of_a_recall_is_narrower_than_the_shifted_interval_and_holds_z():
    rng = np.random.default_rng(3)
    hit = rng.random(200) < 0.7
    given = Classification(["a"] * 200, np.where(hit, "a", "b"), ["a", "b"], np.arange(200) % 2)
    rows = evaluate("zero_shot_recall", given, protocol=Protocol(min_group=1), excess=True)
    for row in (r for r in rows if r["probe"] == "a"):
        width = (row["ci_high"] - row["ci_low"]) / row["null_sd"]
        assert row["excess_low"] < row["z"] < row["excess_high"]
        # Two groups of equal size: value less overall recall is half a difference, so its sd is 1/sqrt(2) of the value's.
        assert (row["excess_high"] - row["excess_low"]) / width == pytest.approx(0.5**0.5, abs=0.06)
    plain = evaluate("zero_shot_recall", given, protocol=Protocol(min_group=1))
    assert "excess_low" not in plain[0]


@pytest.mark.parametrize("metric", ["resolution_accuracy", "resolution_neutral"])
def test_excess_of_a_resolution_moves_with_its_null(metric):
    table = pd.read_csv(BENCHMARK.with_name("coverage_others.csv")).query("metric == @metric")
    assert set(table["of"]) == {"value", "excess"}
    assert table["covered_percent"].between(92, 98).all(), table.to_string()
    # Half of the images of each group are right: the interval is that of the difference from all, not of a share.
    said = np.where(np.arange(200) % 4 < 2, np.array(["m", "f"])[np.arange(200) % 2], "their")
    given = Pronouns(said, np.array(["m", "f"])[np.arange(200) % 2])
    for row in evaluate(metric, given, protocol=Protocol(min_group=1), excess=True):
        width = (row["ci_high"] - row["ci_low"]) / row["null_sd"]
        assert (row["excess_high"] - row["excess_low"]) / width == pytest.approx(0.5**0.5, abs=0.06)
