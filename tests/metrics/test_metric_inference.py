"""Rows with intervals and nulls: what is in them, and that fast forms equal slow ones."""

import math
import time

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import DataError, StatusError
from clipbias.metrics import (
    STRICT,
    Association,
    Classification,
    Protocol,
    Ranking,
    Retrieval,
    c_asc,
    draws,
    evaluate,
    evaluate_all,
    get,
    kl_recall,
    max_skew,
    ndkl,
    point_values,
    recall_at_k,
    registry,
    sc_weat,
    skew,
    weat,
    zero_shot_disparity,
)
from clipbias.results.rows import table

PARTS = {
    "probe", "group", "value", "ci_low", "ci_high", "n", "null_mean", "null_sd", "z", "p", "status", "reason",
}  # fmt: skip
# The metrics of the real world need a labour table as well; see test_metric_kernels.
RANKING = [m.name for m in registry().values() if m.needs == "ranking" and not m.name.startswith("world")]


def ranking(n=120, probes=3, groups=3, effect=0.8, seed=0, round_to=None, **more):
    rng = np.random.default_rng(seed)
    g = np.arange(n) % groups
    s = rng.normal(size=(probes, n)) + effect * (g == 0)
    s = s if round_to is None else np.round(s, round_to)
    return Ranking(s, [f"p{i}" for i in range(probes)], np.array(list("abcdefg"))[g], **more)


def pick(rows, probe="", group=None):
    found = [r for r in rows if r["probe"] == probe and group in (None, r["group"])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", RANKING)
def test_rows_are_complete(name):
    r = ranking()
    rows = evaluate(name, r)
    per = 3 if get(name).per_group else 1
    assert len(rows) == 4 * per
    for row in rows:
        assert set(row) == PARTS
        assert row["status"] == "ok"
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert 0 < row["p"] <= 1
        assert row["z"] == pytest.approx((row["value"] - row["null_mean"]) / row["null_sd"])
        assert row["n"] == (40 if get(name).per_group else 120)
    frame = table([{"metric": name, **row} for row in rows])
    assert frame["value"].notna().all()


def test_values_are_those_of_the_functions():
    r = ranking()
    g = np.asarray(r.groups)
    for i, probe in enumerate(r.probes):
        for group, value in skew(r.scores[i], g, k=0.2).items():
            assert pick(evaluate("skew", r), probe, group)["value"] == pytest.approx(value)
        for group, value in c_asc(r.scores[i], g).items():
            assert pick(evaluate("c_asc", r), probe, group)["value"] == pytest.approx(value)
        worst = pick(evaluate("max_skew", r), probe)
        assert worst["value"] == pytest.approx(max_skew(r.scores[i], g, k=0.2))
        assert worst["value"] == pytest.approx(skew(r.scores[i], g, k=0.2)[worst["group"]])
        assert pick(evaluate("ndkl", r), probe)["value"] == pytest.approx(ndkl(r.scores[i], g))


def test_the_mean_over_probes_is_the_mean():
    r = ranking()
    for name in ("max_skew", "ndkl"):
        rows = evaluate(name, r)
        assert pick(rows)["value"] == pytest.approx(np.mean([row["value"] for row in rows if row["probe"]]))
    # Probes that repeat each other must not look like independent evidence.
    one = Ranking(r.scores[:1], ["p"], r.groups)
    three = Ranking(np.repeat(r.scores[:1], 3, axis=0), ["p", "q", "r"], r.groups)
    a, b = pick(evaluate("c_asc", one), "p", "a"), pick(evaluate("c_asc", three), "", "a")
    assert (a["ci_low"], a["ci_high"]) == pytest.approx((b["ci_low"], b["ci_high"]))
    assert a["p"] == b["p"]


@pytest.mark.parametrize("round_to", [None, 1])
@pytest.mark.parametrize("name", RANKING)
def test_fast_draws_equal_recomputing_each(name, round_to):
    # The reference: build each drawn data set as plain arrays, and measure it as if it were the data.
    r = ranking(n=60, probes=2, round_to=round_to)
    protocol = Protocol(n_boot=6, n_perm=6, k=9)
    m = get(name)
    codes = r.coded[0]
    boot = m.kernel(r.tally("bootstrap", protocol, m))
    weights = r.draws("bootstrap", protocol).weights
    assert (weights.sum(1) == 60).all()
    for d in range(6):
        chosen = np.repeat(np.arange(60), weights[d])
        again = Ranking(r.scores[:, chosen], r.probes, codes[chosen], levels=[0, 1, 2])
        assert m.kernel(again.tally("observed", protocol, m))[0] == pytest.approx(boot[d], abs=1e-5)
    null = m.kernel(r.tally("permuted", protocol, m))
    labels = r.draws("permuted", protocol).codes
    for d in range(6):
        again = Ranking(r.scores, r.probes, labels[d], levels=[0, 1, 2])
        assert m.kernel(again.tally("observed", protocol, m))[0] == pytest.approx(null[d], abs=1e-5)


@pytest.mark.parametrize("name", RANKING)
def test_point_values_equal_the_values_of_the_subsets(name):
    r = ranking(n=90, probes=2)
    rng = np.random.default_rng(0)
    masks = rng.random((5, 90)) < np.linspace(0.3, 0.9, 5)[:, None]
    group = "b" if get(name).per_group else None
    got = point_values(name, r, masks, group=group)
    assert got.shape == (5, 2)
    for mask, row in zip(masks, got, strict=True):
        part = Ranking(r.scores[:, mask], r.probes, np.asarray(r.groups)[mask])
        quick = Protocol(n_boot=0, n_perm=0)
        for probe, value in zip(r.probes, row, strict=True):
            assert pick(evaluate(name, part, protocol=quick), probe, group)["value"] == pytest.approx(
                value, abs=1e-5
            )


def test_point_values_say_what_is_wrong():
    r = ranking()
    with pytest.raises(DataError, match="name one with group="):
        point_values("skew", r, np.ones((1, 120), bool))
    with pytest.raises(DataError, match="mask 1 selects no image"):
        point_values("ndkl", r, np.arange(2)[:, None] + np.zeros((2, 120)) == 0)
    with pytest.raises(DataError, match="7 columns for 120"):
        point_values("ndkl", r, np.ones((1, 7), bool))
    with pytest.raises(StatusError, match="k=50 but there are only 20"):
        point_values("max_skew", r, np.arange(120)[None] < 20, protocol=Protocol(k=50))
    with pytest.raises(DataError, match="do not apply"):
        point_values("weat", Association(*np.eye(8).reshape(4, 2, 8)), np.ones((1, 8), bool))


def test_draws_keep_group_sizes_and_strata():
    codes = np.repeat([0, 1, 2], [30, 10, 2]).astype(np.int16)
    b = draws.bootstrap(codes, 3, size=200, seed=1)
    assert (b.totals == [30, 10, 2]).all()
    strata = np.tile([0, 1], 21)
    p = draws.permuted(codes, 3, size=200, seed=1, strata=strata)
    for s in (0, 1):
        before = np.bincount(codes[strata == s], minlength=3)
        assert all((np.bincount(row[strata == s], minlength=3) == before).all() for row in p.codes)
    assert len({row.tobytes() for row in p.codes}) > 150


def test_twins_are_drawn_together():
    codes = np.tile([0, 1], 20).astype(np.int16)
    twin = np.repeat(np.arange(20), 2)
    b = draws.bootstrap(codes, 2, size=50, seed=0, blocks=twin)
    assert (b.weights[:, ::2] == b.weights[:, 1::2]).all()
    assert (b.totals == 20).all()
    # Twins whose other half is outside the view are a stratum of their own.
    b = draws.bootstrap(codes[:-3], 2, size=50, seed=0, blocks=twin[:-3])
    assert (b.totals == b.totals[0]).all()
    # All clusters of different make-up: drawn freely, nothing is frozen.
    odd = np.repeat(np.arange(8), np.arange(1, 9))
    b = draws.bootstrap((np.arange(36) % 2).astype(np.int16), 2, size=50, seed=0, blocks=odd)
    assert (b.weights.std(0) > 0).all()


def test_twin_blocks_make_the_interval_narrower_where_twins_agree():
    rng = np.random.default_rng(0)
    content = np.repeat(rng.normal(size=100), 2)
    g = np.tile(["a", "b"], 100)
    s = (content + 0.3 * (g == "a") + 0.05 * rng.normal(size=200))[None]
    free = pick(evaluate("c_asc", Ranking(s, ["p"], g)), "p", "a")
    paired = pick(evaluate("c_asc", Ranking(s, ["p"], g, blocks=np.repeat(np.arange(100), 2))), "p", "a")
    assert paired["ci_high"] - paired["ci_low"] < 0.5 * (free["ci_high"] - free["ci_low"])
    swapped = pick(evaluate("c_asc", Ranking(s, ["p"], g, strata=np.repeat(np.arange(100), 2))), "p", "a")
    assert swapped["p"] < 0.01 < free["p"]


def test_same_seed_same_rows_and_other_seed_others():
    a, b = evaluate("ndkl", ranking()), evaluate("ndkl", ranking())
    assert a == b
    other = evaluate("ndkl", ranking(), protocol=Protocol(seed=1))
    assert pick(other)["value"] == pick(a)["value"]
    assert pick(other)["ci_low"] != pick(a)["ci_low"]


def test_direction_of_the_tests():
    biased, none = ranking(n=300), ranking(n=300, effect=0.0, seed=5)
    for name in ("max_skew", "min_skew", "ndkl", "normalized_entropy"):
        assert pick(evaluate(name, biased))["p"] < 0.01
        assert pick(evaluate(name, none))["p"] > 0.05
    z = {
        name: pick(evaluate(name, biased))["z"]
        for name in ("max_skew", "ndkl", "min_skew", "normalized_entropy")
    }
    assert z["max_skew"] > 3 < z["ndkl"]
    assert z["min_skew"] < -3 > z["normalized_entropy"]
    assert pick(evaluate("max_skew", biased))["group"] == "a"
    assert pick(evaluate("min_skew", biased))["group"] in "bc"


def test_an_absent_group_has_a_status():
    g = np.array(["a"] * 90 + ["b"] * 10)
    r = Ranking(-np.arange(100.0)[None], ["p"], g)
    row = pick(evaluate("skew", r, protocol=Protocol(k=10)), "p", "b")
    assert (row["value"], row["status"]) == (-math.inf, "absent group")
    assert "larger k" in row["reason"]
    assert math.isnan(row["ci_low"])
    assert pick(evaluate("min_skew", r, protocol=Protocol(k=10)))["status"] == "absent group"
    assert pick(evaluate("min_skew", r, protocol=Protocol(k=10)))["group"] == "b"
    ok = pick(evaluate("max_skew", r, protocol=Protocol(k=10)))
    assert (ok["status"], ok["group"]) == ("ok", "a")
    peer = pick(evaluate("skew", r, protocol=Protocol(k=10, zero="peer")), "p", "b")
    assert peer["status"] == "ok"
    assert peer["value"] == pytest.approx(0.0)  # 1/k is its base rate here: "fair", though it is absent
    table(evaluate("skew", r, protocol=Protocol(k=10)))


def test_empty_and_small_groups_have_a_status():
    g = pd.Categorical(["a"] * 50 + ["b"] * 47 + ["c"] * 3, categories=list("abcd"))
    r = Ranking(np.random.default_rng(0).normal(size=(2, 100)), ["p", "q"], g)
    rows = evaluate("skew", r)
    assert pick(rows, "p", "d")["status"] == "empty group"
    assert pick(rows, "", "c")["status"] == "small group"
    assert "3 images of 'c'" in pick(rows, "", "c")["reason"]
    assert pick(rows, "", "a")["status"] == "ok"
    whole = pick(evaluate("max_skew", r))
    assert whole["status"] == "ok"
    assert "'d' has 0" in whole["reason"]
    table([*rows, whole])
    assert pick(evaluate("skew", r, protocol=Protocol(min_group=1)), "p", "c")["status"] in (
        "ok",
        "absent group",
    )


@pytest.mark.parametrize("name", RANKING)
def test_impossible_views_give_rows_and_not_errors(name):
    one = Ranking(np.random.default_rng(0).normal(size=(2, 30)), ["p", "q"], ["a"] * 30)
    for row in evaluate(name, one):
        assert row["status"] == "single group"
        assert row["reason"]
    big = evaluate(name, ranking(), protocol=Protocol(k=500))
    assert {row["status"] for row in big} == {"k larger than n"}
    table([*big])
    same = evaluate("max_skew", ranking(), protocol=Protocol(k=120))
    assert {row["status"] for row in same} == {"k equals n"}


def test_constant_scores_are_undefined_for_c_asc_and_fair_for_the_others():
    r = Ranking(np.stack([np.full(40, 0.3), np.arange(40.0)]), ["flat", "p"], list("ab") * 20)
    rows = evaluate("c_asc", r)
    assert pick(rows, "flat", "a")["status"] == "undefined"
    mean = pick(rows, "", "a")
    assert mean["value"] == pytest.approx(pick(rows, "p", "a")["value"])
    assert "over 1 of 2 probes; undefined: flat" in mean["reason"]
    assert pick(evaluate("max_skew", r), "flat")["value"] == pytest.approx(0, abs=1e-9)
    assert pick(evaluate("max_skew", r), "flat")["p"] == 1.0


def classification(n=600, gap=0.3, seed=0, **more):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, n)
    g = rng.integers(0, 2, n)
    pred = np.where(rng.random(n) < 0.9 - gap * g, true, (true + 1) % 4)
    names = np.array(["nurse", "pilot", "chef", "judge"])
    return Classification(names[true], names[pred], names.tolist(), np.array(["w", "m"])[g], **more)


def test_zero_shot_disparity_by_class_and_mean():
    c = classification()
    rows = evaluate("zero_shot_disparity", c)
    plain = zero_shot_disparity(c.y_true, c.y_pred, c.groups).per_class
    for name, value in plain.items():
        row = pick(rows, name)
        assert row["value"] == pytest.approx(value, abs=1e-6)
        assert row["group"] == "m"
        assert row["n"] == int((np.asarray(c.y_true) == name).sum())
    mean = pick(rows)
    assert mean["value"] == pytest.approx(np.mean(list(plain.values())), abs=1e-6)
    assert (mean["group"], mean["n"]) == ("m", 600)
    assert mean["p"] < 0.01
    assert pick(evaluate("zero_shot_disparity", classification(gap=0.0, seed=2)))["p"] > 0.05


def test_a_class_without_a_group_has_a_status():
    c = Classification(list("xxyy") * 5, list("xxyx") * 5, ["x", "y", "z"], list("abaa") * 5)
    rows = evaluate("zero_shot_disparity", c)
    assert pick(rows, "y")["status"] == pick(rows, "z")["status"] == "empty group"
    assert pick(rows)["value"] == pick(rows, "x")["value"] == 0.0
    assert "over 1 of 3 probes" in pick(rows)["reason"]
    with pytest.raises(DataError, match="y_true"):
        evaluate("zero_shot_disparity", Classification(None, list("xy"), ["x", "y"], list("ab")))


def test_harm_rate_and_composition_rows():
    pred = ["thief"] * 12 + ["person"] * 28 + ["thief"] * 3 + ["person"] * 37
    c = Classification(None, pred, ["thief", "person"], ["a"] * 40 + ["b"] * 40, harmful=["thief"])
    rates = evaluate("harm_rate", c)
    assert [(r["probe"], r["group"], r["value"]) for r in rates] == [
        ("", "a", pytest.approx(0.3)), ("", "b", pytest.approx(0.075)),
    ]  # fmt: skip
    shares = evaluate("harm_composition", c)
    assert [r["value"] for r in shares] == pytest.approx([0.8, 0.2])
    gap = pick(evaluate("harm_disparity", c))
    assert (gap["value"], gap["group"]) == (pytest.approx(0.225), "a")
    assert gap["p"] < 0.05
    nobody = Classification(None, ["person"] * 20, ["thief", "person"], list("ab") * 10, harmful=["thief"])
    assert {r["status"] for r in evaluate("harm_composition", nobody)} == {"undefined"}
    never = evaluate("harm_rate", nobody)[0]
    assert (never["value"], never["ci_low"]) == (0.0, 0.0)
    assert 0.1 < never["ci_high"] < 0.5  # none of ten: a bootstrap alone would say exactly 0


def retrieval(lift=0.0, n=200, seed=0, k=10, probes=True):
    rng = np.random.default_rng(seed)
    g = np.array(["w", "m"])[np.arange(n) % 2]
    sim = rng.normal(size=(n, n))
    sim[np.arange(n), np.arange(n)] += 1.5 + lift * (g == "m")
    role = np.array(["nurse", "pilot"])[(np.arange(n) // 2) % 2]
    return Retrieval(sim, np.arange(n), g, probes_of=role if probes else None, k=k)


def test_kl_recall_by_probe_and_mean():
    q = retrieval(lift=2.0)
    rows = evaluate("kl_recall", q)
    recalls = evaluate("recall_at_k", q)
    role, g = np.asarray(q.probes_of), np.asarray(q.groups)
    for name in ("nurse", "pilot"):
        own = role == name
        plain = recall_at_k(q.similarity[own], g[own], k=10, target=np.flatnonzero(own))
        assert pick(recalls, name, "w")["value"] == pytest.approx(plain["w"], abs=1e-6)
        assert pick(rows, name)["value"] == pytest.approx(kl_recall(plain).forward, abs=1e-6)
    assert pick(rows)["value"] == pytest.approx(np.mean([pick(rows, x)["value"] for x in ("nurse", "pilot")]))
    assert pick(rows)["p"] < 0.01
    assert pick(evaluate("kl_recall", retrieval()))["p"] > 0.05
    assert [r["probe"] for r in evaluate("kl_recall", retrieval(probes=False))] == [""]


def test_no_hit_at_all_is_undefined():
    n = 40
    sim = -np.eye(n)
    rows = evaluate("kl_recall", Retrieval(sim, np.arange(n), list("ab") * 20, k=1))
    assert rows[0]["status"] == "undefined"
    assert math.isnan(rows[0]["value"])
    with pytest.raises(StatusError, match="only 40 gallery items"):
        Retrieval(sim, np.arange(n), list("ab") * 20, k=41)


def test_association_rows():
    rng = np.random.default_rng(0)
    up = np.array([1.0, 0, 0, 0])
    a, b = rng.normal(size=(2, 40, 4)) + np.array([up, -up])[:, None]
    x, y = rng.normal(size=(2, 8, 4)) + np.array([up, -up])[:, None]
    row = pick(evaluate("weat", Association(a, b, X=x, Y=y, probe="test")), "test")
    assert row["value"] == pytest.approx(weat(x, y, a, b, permutations=None).effect_size)
    assert row["ci_low"] > 0
    assert row["p"] < 0.05
    rows = evaluate("sc_weat", Association(a, b, W=x, words=list("abcdefgh")))
    for word, value in zip("abcdefgh", sc_weat(x, a, b), strict=True):
        assert pick(rows, word)["value"] == pytest.approx(value)
    with pytest.raises(DataError, match="2 single targets but 1 words"):
        Association(a, b, W=x[:2], words=["one"])


def test_intervals_and_null_can_be_left_out():
    quick = Protocol(n_boot=0, n_perm=0)
    row = pick(evaluate("ndkl", ranking(), protocol=quick))
    assert math.isnan(row["ci_low"])
    assert math.isnan(row["p"])
    only_boot = pick(evaluate("ndkl", ranking(), protocol=Protocol(n_perm=0)))
    assert only_boot["ci_low"] < only_boot["value"] < only_boot["ci_high"]


def test_evaluate_all_shares_the_work_and_meets_the_budget():
    r = ranking(n=1120, probes=14, groups=5)
    family = ["skew", "max_skew", "min_skew", "ndkl", "bias_at_k", "normalized_entropy", "c_asc"]
    start = time.process_time()
    rows = evaluate_all(family, r)
    spent = time.process_time() - start
    assert len(rows) == 15 * (3 * 5 + 4)
    assert {row["protocol"] for row in rows} == {STRICT.hash}
    table(rows)
    # 0.5 s on the machine it was written on; four times that is a broken fast path anywhere.
    assert spent < 2.5
