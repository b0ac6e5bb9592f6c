"""Registered metrics against their functions, values worked out by hand, and what holds for every one of them."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clipbias.errors import DataError
from clipbias.metrics import (
    Classification,
    Labels,
    Pronouns,
    Protocol,
    Ranking,
    Retrieval,
    Targets,
    awrf,
    composition,
    dependence,
    direct_bias,
    draws,
    ect,
    evaluate,
    get,
    mac,
    minimum_detectable,
    pairwise,
    power_at,
    real_world_deviation,
    recall_at_k,
    registry,
    resolution_bias,
    ripa,
    rnd,
    rnsb,
)
from clipbias.metrics.power import corrected_tests
from clipbias.metrics.prefix import prefix_divergence
from clipbias.metrics.tally import Order

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "neutral.py"
BARE = Protocol(k=4, n_boot=0, n_perm=0, min_group=1)


@pytest.fixture(scope="module")
def neutral():
    spec = importlib.util.spec_from_file_location("neutral_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def value(name, given, group=None, probe="", protocol=BARE):
    rows = [r for r in evaluate(name, given, protocol=protocol) if r["probe"] == probe]
    rows = rows if group is None else [r for r in rows if r["group"] == group]
    assert len(rows) == 1
    return rows[0]["value"]


@pytest.fixture
def ranking():
    # First four: a a a b; four a and six b in all.
    return Ranking(np.arange(10, 0, -1.0)[None], ["p"], list("aaababbbbb"))


def test_unsigned_forms_by_hand(ranking):
    assert value("bias_at_k", ranking, "a") == pytest.approx(2 * (0.75 - 0.4))
    assert value("max_bias_at_k", ranking) == pytest.approx(0.7)
    assert value("mad_at_k", ranking) == pytest.approx(0.35)
    each = [value("c_asc", ranking, g) for g in "ab"]
    assert value("max_c_asc", ranking) == pytest.approx(max(np.abs(each)))


def test_unsigned_forms_do_not_cancel_over_probes():
    up = np.arange(10, 0, -1.0)
    both = Ranking(np.stack([up, -up]), ["p", "q"], list("aaaaabbbbb"))
    assert value("bias_at_k", both, "a") == pytest.approx(0.0)
    assert value("max_bias_at_k", both) == pytest.approx(1.0)


def test_pairwise_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    s, g = np.round(rng.normal(size=50), 1), np.array(list("ab"))[rng.integers(0, 2, 50)]
    area = roc_auc_score(g == "a", s)
    assert pairwise(s, g).by_group["a"] == pytest.approx(area)
    r = Ranking(s[None], ["p"], g)
    assert value("pairwise", r, "a") == pytest.approx(2 * area - 1)
    assert value("pairwise_gap", r) == pytest.approx(2 * abs(2 * area - 1))
    three = pairwise([5, 4, 3, 2], list("aabc")).by_group
    assert three == pytest.approx({"a": 1.0, "b": 1 / 3, "c": 0.0})


def test_awrf_kernel_is_the_function(ranking):
    found = awrf(ranking.scores[0], ranking.groups)
    assert value("awrf_gap", ranking) == pytest.approx(1 - found.ratio)
    mean = 0.4 * found.by_group["a"] + 0.6 * found.by_group["b"]
    assert value("awrf", ranking, "a") == pytest.approx(found.by_group["a"] / mean - 1)


def test_bootstrap_of_pairs_counts_copies_as_ties(ranking):
    # Every image twice is the same balance of pairs; a repeated image ties with itself inside its own group only.
    twice = Ranking(np.repeat(ranking.scores, 2, axis=1), ["p"], np.repeat(ranking.groups, 2))
    assert value("pairwise", twice, "a") == pytest.approx(value("pairwise", ranking, "a"))


def test_rates_against_the_rest():
    truth = ["x"] * 6 + ["y"] * 2
    said = ["x", "x", "y", "x", "y", "y", "y", "x"]
    c = Classification(truth, said, ["x", "y"], list("aabbccab"), harmful=["y"])
    assert value("zero_shot_recall", c, "a", "x") == 1.0
    assert value("zero_shot_gap", c, "a", "x") == pytest.approx(1.0 - 0.25)
    assert value("selection_rate", c, "b", "x") == pytest.approx(2 / 3)
    assert value("selection_gap", c, "b", "x") == pytest.approx(2 / 3 - 2 / 5)
    assert value("harm_gap", c, "c") == pytest.approx(1 - 2 / 6)
    # Two of two harmed against two of six, half a case added to each cell.
    assert value("harm_odds", c, "c") == pytest.approx(math.log(2.5 * 4.5 / (0.5 * 2.5)))


def test_recall_with_and_without_a_restricted_gallery():
    similarity = np.array([[2.0, 3, 1, 0], [0, 1.0, 3, 2], [1, 0, 2.0, 3], [3, 2, 1, 0.5]])
    groups = list("abab")
    assert recall_at_k(similarity, groups, k=1) == {"a": 0.0, "b": 0.0}
    # Among its own group query 0 finds item 0 first; query 3 has item 1 before item 3.
    assert recall_at_k(similarity, groups, k=1, gallery=groups) == {"a": 1.0, "b": 0.0}
    with pytest.raises(DataError, match="not of the query's group"):
        recall_at_k(similarity, groups, k=1, gallery=list("aabb"))
    r = Retrieval(similarity, np.arange(4), groups, k=2)
    recalls = recall_at_k(similarity, groups, k=2)
    assert value("recall_gap", r, "a") == pytest.approx(recalls["a"] - recalls["b"])
    assert value("recall_disparity", r) == pytest.approx(abs(recalls["a"] - recalls["b"]))


def test_pronouns_by_hand():
    said = ["m", "m", "f", "f", "their", "m"]
    true = ["m", "m", "m", "f", "f", "f"]
    p = Pronouns(said, true)
    found = resolution_bias(said, true, masculine="m", feminine="f", neutral="their")
    assert (found.masculine, found.feminine) == pytest.approx((2 / 3, 1 / 3))
    assert value("resolution_accuracy", p, "m") == pytest.approx(found.masculine)
    assert value("resolution_gap", p, "m") == pytest.approx(found.gap)
    assert value("resolution_disparity", p) == pytest.approx(abs(found.gap))
    assert value("resolution_neutral", p, "f") == pytest.approx(1 / 3)
    by_role = Pronouns(said, true, occupations=["cook", "cook", "judge", "cook", "judge", "judge"])
    assert value("resolution_gap", by_role, "m", "cook") == pytest.approx(0.0)


def test_composition_of_a_view():
    rng = np.random.default_rng(1)
    place, gender = (
        np.array(list("xyz"))[rng.integers(0, 3, 90)],
        np.array(list("fm"))[rng.integers(0, 2, 90)],
    )
    view, found = Labels(place, gender), dependence(place, gender)
    assert value("cramers_v", view) == pytest.approx(found.cramers_v)
    assert value("npmi", view, "f", "y") == pytest.approx(found.npmi.loc["y", "f"])
    assert value("effective_groups", view) == pytest.approx(composition(gender).effective)
    tied = Labels(list("xxyy"), list("ffmm"))
    assert value("cramers_v", tied) == pytest.approx(1.0)
    assert value("npmi", tied, "f", "x") == pytest.approx(1.0)


@pytest.fixture
def rows():
    rng = np.random.default_rng(2)

    def unit(*shape):
        x = rng.normal(size=shape)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    return Targets(X=unit(7, 5), Y=unit(7, 5), A=unit(6, 5), B=unit(4, 5), paired=True)


def test_target_kernels_are_their_functions(rows):
    x, y, a, b = rows.X, rows.Y, rows.A, rows.B
    pairs = np.stack([x, y], axis=1)
    assert value("rnd", rows) == pytest.approx(rnd(x, y, a))
    assert value("ect", rows) == pytest.approx(ect(x, y, np.concatenate([a, b])))
    assert value("mac", rows) == pytest.approx(mac(np.concatenate([x, y]), [a, b]))
    assert value("ripa", rows) == pytest.approx(ripa(pairs, a))
    assert value("direct_bias", rows) == pytest.approx(direct_bias(np.concatenate([a, b]), pairs))
    # Two targets: the function's shares are those of the groups.
    one = Targets(X=x[:1], Y=y[:1], A=a, B=b)
    assert value("rnsb", one) == pytest.approx(rnsb(np.stack([x[0], y[0]]), a, b))
    row = evaluate("ripa", Targets(X=x, Y=y[:3], A=a, B=b), protocol=BARE)[0]
    assert row["status"] == "not paired"
    with pytest.raises(DataError, match="cannot be pairs"):
        Targets(X=x, Y=y[:3], A=a, B=b, paired=True)


@pytest.fixture(scope="module")
def planted():
    """Two groups that share a direction and differ in another, and words that go with one group each."""
    rng = np.random.default_rng(3)
    away, common = np.eye(6)[0], np.eye(6)[1]
    x, y, a, b = (rng.normal(size=(n, 6)) * 0.2 for n in (20, 20, 8, 8))
    a, b = (words + rng.uniform(-1, 1, (8, 1)) * common for words in (a, b))
    return Targets(X=x + 2 * common + away, Y=y + 2 * common - away, A=a + away, B=b - away, paired=True)


@pytest.mark.parametrize("name", ["rnd", "ect", "ripa", "rnsb"])
def test_target_metrics_find_a_difference_between_the_groups(planted, name):
    row = evaluate(name, planted, protocol=Protocol(n_boot=60, n_perm=99, min_group=1))[0]
    assert row["p"] <= 0.02
    assert row["ci_low"] <= row["value"] <= row["ci_high"]


def test_mac_sees_an_association_and_direct_bias_a_direction(planted):
    # Targets and words of one cone beside a set of words that lies elsewhere: exchanging them raises the distance.
    away = np.eye(6)[0]
    rng = np.random.default_rng(4)
    x, y, a, b = (rng.normal(size=(n, 6)) * 0.2 for n in (20, 20, 8, 8))
    apart = Targets(X=x + away, Y=y + away, A=a - away, B=b - away)
    assert evaluate("mac", apart, protocol=Protocol(n_boot=20, n_perm=99, min_group=1))[0]["value"] > 1.5
    assert value("direct_bias", planted) > 0.7
    sideways = Targets(X=planted.X, Y=planted.Y, A=a + np.eye(6)[2] * 3, B=b + np.eye(6)[3] * 3, paired=True)
    assert value("direct_bias", sideways) < 0.15


def test_real_world_deviation_by_hand():
    found = real_world_deviation(
        {"nurse": 0.9, "cook": 0.5, "pilot": 0.0}, {"nurse": 0.8, "cook": 0.4, "pilot": 0.1, "tailor": 0.7}
    )
    assert found.deviation == pytest.approx({"nurse": 0.1, "cook": 0.1, "pilot": -0.1})
    assert found.mean == pytest.approx(0.1 / 3)
    assert found.mean_absolute == pytest.approx(0.1)
    assert found.spearman == pytest.approx(1.0)
    assert found.slope == pytest.approx(np.polyfit([0.8, 0.4, 0.1], [0.9, 0.5, 0.0], 1)[0])
    with pytest.raises(DataError, match="'nurse'.*Did you mean 'nurses'"):
        real_world_deviation({"nurse": 0.5}, {"nurses": 0.5})
    with pytest.raises(DataError, match="no share in"):
        real_world_deviation({"nurse": 50.0}, {"nurse": 0.5})


def test_labour_shares_in_a_ranking(ranking):
    world = Ranking(ranking.scores, ["p"], ranking.groups, world=[[0.5, 0.5]])
    assert value("world_gap", world, "a") == pytest.approx(0.25)
    assert value("world_distance", world) == pytest.approx(0.25)
    assert evaluate("world_gap", ranking, protocol=BARE)[0]["status"] == "no table"
    with pytest.raises(DataError, match="one share per probe and level"):
        Ranking(ranking.scores, ["p"], ranking.groups, world=[[0.5, 0.2, 0.3]])


def test_minimum_detectable_value():
    # z(.95) + z(.8) = 2.486 null standard deviations above the null mean.
    assert minimum_detectable(0.15, 0.06) == pytest.approx(0.15 + 2.48648 * 0.06, abs=1e-5)
    assert minimum_detectable(0.0, 1.0, worse="both") == pytest.approx(2.80159, abs=1e-5)
    assert minimum_detectable(-0.1, 0.1, worse="low") == pytest.approx(-0.1 - 0.248648, abs=1e-5)
    assert power_at(2.48648, 1.0) == pytest.approx(0.8, abs=1e-5)
    assert power_at(0.0, 1.0, worse="both") == pytest.approx(0.05)


def test_a_value_at_the_minimum_is_found_four_times_in_five(neutral):
    found = neutral.detected(sets=150, permutations=199)["found"]
    assert 0.7 <= found <= 0.9


def test_tests_are_corrected_within_a_metric():
    import pandas as pd

    rows = pd.DataFrame({
        "model": "m", "metric": ["max_skew"] * 4 + ["c_asc"] * 2, "probe": ["a", "b", "c", "", "a", ""], "p": [0.01, 0.02, 0.03, 0.04, np.nan, 0.2],
        "z": 1.0, "null_mean": 0.1, "null_sd": 0.1,
    })  # fmt: skip
    out = corrected_tests(rows, {"max_skew": "high", "c_asc": "both"}).set_index(["metric", "probe"])
    assert len(out) == 5
    assert out.loc["max_skew", "q"].to_dict() == pytest.approx({"a": 0.03, "b": 0.03, "c": 0.03, "": 0.04})
    assert out.loc[("max_skew", "a"), "tests"] == 3
    assert out.loc[("max_skew", "a"), "minimum_detectable"] == pytest.approx(minimum_detectable(0.1, 0.1))
    assert not out.loc[("c_asc", ""), "found"]


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_metric_has_interval_null_and_worst_group(neutral, name):
    m = get(name)
    rng = np.random.default_rng(5)
    given = neutral.single(rng) if name == "sc_weat" else neutral.neutral(m.needs, rng)
    rows = evaluate(name, given, protocol=Protocol(k=60, n_boot=60, n_perm=60, min_group=1))
    assert all(r["status"] == "ok" for r in rows), rows[0]
    for r in rows:
        assert m.range[0] - 1e-9 <= r["value"] <= m.range[1] + 1e-9
        assert r["ci_low"] <= r["value"] <= r["ci_high"]
        assert 0 < r["p"] <= 1
    compares = m.needs not in ("association", "targets") and name not in ("effective_groups", "cramers_v")
    if compares:  # a group is named: the row's own, or the one at the extreme
        assert all(r["group"] in "abc" and r["group"] for r in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(registry()) - {"rnsb"}))
def test_random_slices_do_not_look_biased(neutral, name):
    row = neutral.table([name], sets=16, labels=60, permutations=400).iloc[0]
    if row["verdict"] == "does not depend on the labels":
        assert name in ("effective_groups",)
        return
    # 960 draws: standard errors .033 of a mean and .024 of an sd, and the 16 nulls have errors of their own.
    assert abs(row["mean"]) <= 0.12
    assert abs(row["sd"] - 1) <= 0.12
    assert row["fires"] <= 0.08


def _by_hand(order, codes, weight, q):
    """Divergence of every prefix, with the expected counts inside tied blocks; plain loops."""
    images = order.order[0]
    block = np.arange(images.size) if order.block[0] is None else order.block[0]
    counts, total, norm, place = np.zeros(len(q)), 0.0, 0.0, 0
    for b in np.unique(block):
        inside = images[block == b]
        held = np.bincount(codes[inside], weight[inside], minlength=len(q))
        for j in range(1, int(held.sum()) + 1):
            place += 1
            share = (counts + held * j / held.sum()) / place
            a = 1 / math.log2(place + 1)
            total += a * sum(s * math.log(s / r) for s, r in zip(share, q, strict=True) if s > 0)
            norm += a
        counts = counts + held
    return total / norm


@pytest.mark.parametrize("levels", [3, 12, 10_000])
@pytest.mark.parametrize("kind", ["bootstrap", "subsets", "permuted"])
def test_divergence_with_few_and_many_ties_is_the_sum_over_prefixes(levels, kind):
    rng = np.random.default_rng(levels)
    order = Order(rng.integers(0, levels, (1, 40)).astype(float))
    codes = np.sort(np.arange(40) % 3).astype(np.int16)
    drawn = {
        "bootstrap": lambda: draws.bootstrap(codes, 3, size=6, seed=0),
        "subsets": lambda: draws.subsets(codes, 3, rng.permuted(np.tile(np.arange(40) < 17, (6, 1)), axis=1)),
        "permuted": lambda: draws.permuted(codes, 3, size=6, seed=0),
    }[kind]()
    totals = drawn.totals
    q = totals / totals.sum(1, keepdims=True)
    found = prefix_divergence(order, drawn, q, totals.sum(1).astype(int))[:, 0]
    for d in range(6):
        own = drawn.codes if drawn.codes.ndim == 1 else drawn.codes[d]
        weight = np.ones(40) if drawn.weights is None else drawn.weights[d]
        assert found[d] == pytest.approx(_by_hand(order, own, weight, q[d]), abs=1e-12)
