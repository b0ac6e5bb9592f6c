"""Closed-form and published values of the metric functions."""

import math

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import DataError, StatusError
from clipbias.metrics import (
    awrf,
    bias_at_k,
    c_asc,
    exposure,
    max_skew,
    min_skew,
    ndkl,
    normalized_entropy,
    sc_weat,
    skew,
)


def ranked(labels):
    """Scores that put the labels in the order written."""
    return np.arange(len(labels), 0, -1.0), list(labels)


def slow_ndkl(labels, q, eps=0.0):
    """The definition, prefix by prefix."""
    names = sorted(q)
    total = norm = 0.0
    for i in range(1, len(labels) + 1):
        a = 1 / math.log2(i + 1)
        for g in names:
            p = list(labels[:i]).count(g) / i + eps
            total += a * p * math.log(p / (q[g] + eps)) if p > 0 else 0.0
        norm += a
    return total / norm


def test_skew_by_hand():
    s, g = ranked("aaabab" + "bbbb")  # the first 4 are a a a b; base rates .4 and .6
    got = skew(s, g, k=4)
    assert got == pytest.approx({"a": math.log(0.75 / 0.4), "b": math.log(0.25 / 0.6)})
    assert max_skew(s, g, k=4) == pytest.approx(math.log(0.75 / 0.4))
    assert min_skew(s, g, k=4) == pytest.approx(math.log(0.25 / 0.6))
    uniform = skew(s, g, k=4, reference="uniform")
    assert uniform == pytest.approx({"a": math.log(1.5), "b": math.log(0.5)})
    assert skew(s, g, k=4, reference={"a": 0.1, "b": 0.9})["a"] == pytest.approx(math.log(7.5))


def test_k_as_a_fraction_is_a_share_of_the_images():
    s, g = ranked("aaababbbbb")
    assert skew(s, g, k=0.4) == skew(s, g, k=4)


def test_absent_minority_does_not_win_the_maximum():
    # 9:1, five places, the minority absent: earlier tools count it as 1/k and report ln 2 for it, although
    # the majority's own skew is ln(1/.9).
    s, g = ranked("a" * 9 + "b")
    assert max_skew(s, g, k=5) == pytest.approx(math.log(1 / 0.9))
    assert skew(s, g, k=5)["b"] == -math.inf
    assert min_skew(s, g, k=5) == -math.inf
    assert max_skew(s, g, k=5, zero="peer") == pytest.approx(math.log(2))


def test_all_tied_scores_are_no_bias():
    # Earlier tools return more than k rows on ties and still divide by k: a share of 2 and a skew of 1.386.
    g = list("aaaabbbb")
    assert skew(np.zeros(8), g, k=2) == pytest.approx({"a": 0.0, "b": 0.0})
    assert max_skew(np.zeros(8), g, k=2) == pytest.approx(0.0, abs=1e-12)
    assert ndkl(np.zeros(8), g) == pytest.approx(0.0, abs=1e-12)


def test_ties_are_the_mean_over_random_orders():
    scores = np.array([3.0, 2, 2, 2, 1, 0])
    groups = np.array(list("abbaab"))
    rng = np.random.default_rng(0)
    drawn = [skew_share(scores + rng.random(6) * 1e-3, groups) for _ in range(20_000)]
    expected = {g: math.log(np.mean([d[g] for d in drawn]) / 0.5) for g in "ab"}
    got = skew(scores, groups, k=2)
    assert got == pytest.approx(expected, abs=0.02)
    assert got["a"] == pytest.approx(math.log((1 + 1 / 3) / 2 / 0.5))
    assert skew(scores, groups, k=2, ties="order")["a"] == pytest.approx(0.0)


def skew_share(scores, groups, k=2):
    top = groups[np.argsort(-scores)[:k]]
    return {g: (top == g).mean() for g in "ab"}


def test_labels_need_not_start_at_zero():
    s = np.arange(8, 0, -1.0)
    assert skew(s, [1, 2] * 4, k=2) == pytest.approx({1: 0.0, 2: 0.0})


def test_ndkl_published_value():
    s, g = ranked("MMMMMMMWWW")
    q = {"M": 0.7, "W": 0.3}
    # The value in circulation adds 1e-7 to all shares; without it the definition gives 1e-6 more.
    assert slow_ndkl(g, q, eps=1e-7) == pytest.approx(0.2925554332073208, abs=1e-15)
    assert ndkl(s, g) == pytest.approx(slow_ndkl(g, q), abs=1e-14)
    assert ndkl(s, g) == pytest.approx(0.2925554332073208, abs=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_ndkl_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    g = rng.choice(list("abc"), 40, p=[0.6, 0.3, 0.1])
    g[:3] = list("abc")
    s = rng.normal(size=40)
    order = g[np.argsort(-s)]
    base = {x: float((g == x).mean()) for x in "abc"}
    assert ndkl(s, g) == pytest.approx(slow_ndkl(order, base), abs=1e-12)
    assert ndkl(s, g, k=7) == pytest.approx(slow_ndkl(order[:7], base), abs=1e-12)
    uniform = dict.fromkeys("abc", 1 / 3)
    assert ndkl(s, g, reference="uniform") == pytest.approx(slow_ndkl(order, uniform), abs=1e-12)


def test_ndkl_with_ties_uses_expected_shares():
    # Two tied images of two groups: each prefix holds half of each in expectation.
    assert ndkl([1.0, 1.0], ["a", "b"]) == pytest.approx(0.0, abs=1e-15)
    # a first, then b and a tied: shares 1, (1.5, .5)/2, (2, 1)/3.
    q = np.array([2 / 3, 1 / 3])
    shares = np.array([[1, 0], [0.75, 0.25], [2 / 3, 1 / 3]])
    a = 1 / np.log2([2, 3, 4])
    kl = [sum(p * math.log(p / r) for p, r in zip(row, q, strict=True) if p) for row in shares]
    assert ndkl([2.0, 1.0, 1.0], ["a", "b", "a"]) == pytest.approx(float(a @ kl / a.sum()), abs=1e-14)


def test_ndkl_floor_is_not_zero():
    # The best possible order still has a first prefix of one image, with divergence ln 2.
    floor = math.log(2) / (1 / np.log2(np.arange(2, 102))).sum()
    assert ndkl(*ranked("ab" * 50)) > floor
    assert ndkl(*ranked("ab" * 50)) < ndkl(*ranked("ab" * 5))


def test_bias_at_k():
    s, g = ranked("mmwxmwwxxw")
    assert bias_at_k(s, g, k=5, positive="m", negative="w") == pytest.approx(0.5)
    assert bias_at_k(s, g, k=5, positive="w", negative="m") == pytest.approx(-0.5)
    corrected = bias_at_k(s, g, k=5, positive="m", negative="w", base_corrected=True)
    assert corrected == pytest.approx(0.5 - (3 - 4) / 7)
    assert bias_at_k([9.0, 1, 1], ["x", "m", "w"], k=1, positive="m", negative="w") == 0.0


def test_normalized_entropy():
    s, g = ranked("aabbccccccc")
    assert normalized_entropy(s, g, k=4) == pytest.approx(math.log(2) / math.log(3))
    assert normalized_entropy(s, g, k=2) == 0.0
    assert normalized_entropy(*ranked("abcabc"), k=3) == pytest.approx(1.0)


def test_c_asc_is_sc_weat_of_a_group_against_the_rest():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(30, 6))
    word = rng.normal(size=6)
    g = np.repeat(list("abc"), 10)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    scores = unit @ word / np.linalg.norm(word)
    expected = (scores[:10].mean() - scores[10:].mean()) / scores.std(ddof=1)
    assert c_asc(scores, g)["a"] == pytest.approx(expected)
    assert sc_weat(word, images[:10], images[10:]) == pytest.approx(expected)


def test_exposure_published_values():
    s, g = ranked("MMMMMMMWWW")
    assert exposure(s, g).ratio == pytest.approx(0.5808062, abs=1e-6)
    assert awrf(s, g, patience=0.1).ratio == pytest.approx(0.5797226, abs=1e-6)
    assert exposure(s, g).worst == "W"
    assert exposure(np.zeros(10), g).ratio == pytest.approx(1.0)


ALL = [
    lambda s, g: skew(s, g, k=2),
    lambda s, g: max_skew(s, g, k=2),
    lambda s, g: min_skew(s, g, k=2),
    lambda s, g: ndkl(s, g),
    lambda s, g: bias_at_k(s, g, k=2, positive="a", negative="b"),
    lambda s, g: normalized_entropy(s, g, k=2),
    lambda s, g: c_asc(s, g),
    lambda s, g: exposure(s, g),
    lambda s, g: awrf(s, g),
]


@pytest.mark.parametrize("f", ALL)
def test_bad_input_is_named(f):
    with pytest.raises(DataError, match="position 2"):
        f([3.0, 2, math.nan, 1], list("abab"))
    with pytest.raises(DataError, match="position 1 is missing"):
        f([3.0, 2, 0, 1], ["a", None, "b", "a"])
    with pytest.raises(DataError, match="4 scores but 3"):
        f([3.0, 2, 0, 1], list("aba"))
    with pytest.raises(StatusError, match="'c'.*no image") as caught:
        f([3.0, 2, 0, 1], pd.Categorical(list("abab"), categories=list("abc")))
    assert caught.value.status == "empty group"
    with pytest.raises(StatusError, match="only one group"):
        f([3.0, 2, 0, 1], list("aaaa"))


def test_k_larger_than_n_and_equal_to_n():
    s, g = ranked("abab")
    for f in (skew, max_skew, min_skew, normalized_entropy):
        with pytest.raises(StatusError, match="k=5 but there are only 4") as caught:
            f(s, g, k=5)
        assert caught.value.status == "k larger than n"
    with pytest.raises(StatusError, match="by construction"):
        max_skew(s, g, k=4)
    assert max_skew(*ranked("aaab"), k=4, reference="uniform") == pytest.approx(math.log(1.5))
    for k in (0, -1, 1.5, 0.0):
        with pytest.raises(DataError, match="k="):
            skew(s, g, k=k)


def test_unknown_options_name_the_near_one():
    s, g = ranked("abab")
    with pytest.raises(DataError, match="Did you mean 'base_rate'"):
        skew(s, g, k=2, reference="baserate")
    with pytest.raises(DataError, match="Did you mean 'expected'"):
        skew(s, g, k=2, ties="expect")
    with pytest.raises(DataError, match="Did you mean 'exclude'"):
        skew(s, g, k=2, zero="excluded")
    with pytest.raises(DataError, match="missing \\['b'\\]"):
        skew(s, g, k=2, reference={"a": 1.0})
    with pytest.raises(DataError, match="add up to 1"):
        skew(s, g, k=2, reference={"a": 0.9, "b": 0.9})
    with pytest.raises(DataError, match="'b' is 0"):
        skew(s, g, k=2, reference={"a": 1.0, "b": 0.0})
    with pytest.raises(DataError, match="no group 'z'"):
        bias_at_k(s, g, k=2, positive="a", negative="z")


def test_constant_scores_have_no_c_asc():
    with pytest.raises(StatusError, match="equal"):
        c_asc([0.1] * 6, list("ababab"))
