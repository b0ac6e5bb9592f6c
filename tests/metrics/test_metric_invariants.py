"""What must hold whatever the data are."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clipbias.metrics import (
    bias_at_k,
    c_asc,
    exposure,
    get,
    kl_recall,
    max_skew,
    min_skew,
    ndkl,
    normalized_entropy,
    sc_weat,
    skew,
    weat,
)

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def rankings(draw, ties=True):
    """Scores, labels of two or more groups, and k < n."""
    n = draw(st.integers(4, 30))
    names = "abcd"[: draw(st.integers(2, 4))]
    groups = draw(st.lists(st.sampled_from(names), min_size=n, max_size=n))
    assume(len(set(groups)) > 1)
    scores = draw(
        st.lists(st.integers(-5, 5) if ties else st.integers(), min_size=n, max_size=n, unique=not ties)
    )
    return np.array(scores, dtype=float), np.array(groups), draw(st.integers(1, n - 1))


def everything(s, g, k):
    out = {f"skew {a}": v for a, v in skew(s, g, k=k).items()}
    out |= {"max": max_skew(s, g, k=k), "min": min_skew(s, g, k=k), "ndkl": ndkl(s, g)}
    out |= {"entropy": normalized_entropy(s, g, k=k), "exposure": exposure(s, g).ratio}
    if np.ptp(s) > 0:
        out |= {f"asc {a}": v for a, v in c_asc(s, g).items()}
    return out


@given(rankings(), st.randoms(use_true_random=False))
@SETTINGS
def test_the_order_of_the_images_does_not_matter(r, random):
    s, g, k = r
    order = list(range(len(s)))
    random.shuffle(order)
    assert everything(s[order], g[order], k) == pytest.approx(everything(s, g, k), abs=1e-9)


@given(rankings())
@SETTINGS
def test_names_of_groups_do_not_matter(r):
    s, g, k = r
    names = {"a": "zebra", "b": "yak", "c": "xerus", "d": "wolf"}
    renamed = everything(s, np.array([names[x] for x in g]), k)
    expected = {
        " ".join([key.split()[0], names[key.split()[1]]]) if " " in key else key: v
        for key, v in everything(s, g, k).items()
    }
    assert renamed == pytest.approx(expected, abs=1e-9)


@given(rankings(), st.floats(0.1, 10), st.floats(-5, 5))
@SETTINGS
def test_scale_and_shift_of_scores_do_not_matter(r, scale, shift):
    s, g, k = r
    assert everything(scale * s + 0.0, g, k) == pytest.approx(everything(s, g, k), abs=1e-7)
    moved = np.round(s + shift, 6)
    assert everything(moved, g, k) == pytest.approx(everything(s, g, k), abs=1e-6)


@given(rankings())
@SETTINGS
def test_values_stay_in_their_stated_range(r):
    s, g, k = r
    for name, value in (
        ("max_skew", max_skew(s, g, k=k)),
        ("min_skew", min_skew(s, g, k=k)),
        ("ndkl", ndkl(s, g)),
    ):
        low, high = get(name).range
        assert low <= value <= high
    low, high = get("normalized_entropy").range
    assert low <= normalized_entropy(s, g, k=k) <= high
    for value in skew(s, g, k=k).values():
        assert -math.inf <= value <= -math.log(min((g == x).mean() for x in set(g))) + 1e-12
    a, b = sorted(set(g))[:2]
    assert -1 <= bias_at_k(s, g, k=k, positive=a, negative=b) <= 1
    assert bias_at_k(s, g, k=k, positive=a, negative=b) == -bias_at_k(s, g, k=k, positive=b, negative=a)


@given(rankings())
@SETTINGS
def test_skews_weighted_by_the_list_are_a_divergence(r):
    # Sum of share times skew is KL(list || base rate), so it is never negative and the largest is not either.
    s, g, k = r
    values = skew(s, g, k=k)
    share = {a: (g == a).mean() * math.exp(v) for a, v in values.items()}
    assert sum(share.values()) == pytest.approx(1.0)
    assert sum(share[a] * v for a, v in values.items() if share[a] > 0) >= -1e-12


@given(st.integers(2, 5), st.integers(2, 6), st.integers(1, 5))
@SETTINGS
def test_a_balanced_ranking_reaches_the_ideal(n_groups, rounds, lists):
    assume(lists < rounds)
    g = np.array(list("abcde"[:n_groups]) * rounds)
    s = -np.arange(len(g), dtype=float)
    k = lists * n_groups
    assert max_skew(s, g, k=k) == pytest.approx(get("max_skew").ideal, abs=1e-12)
    assert min_skew(s, g, k=k) == pytest.approx(get("min_skew").ideal, abs=1e-12)
    assert normalized_entropy(s, g, k=k) == pytest.approx(get("normalized_entropy").ideal)
    assert bias_at_k(s, g, k=k, positive="a", negative="b") == 0.0
    # NDKL cannot reach 0: its first prefix is one image. Equal scores are the only way there.
    floor = math.log(n_groups) / (1 / np.log2(np.arange(2, len(g) + 2))).sum()
    assert ndkl(s, g) >= floor - 1e-12
    assert ndkl(0 * s, g) == pytest.approx(0.0, abs=1e-12)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=7))
@SETTINGS
def test_kl_recall_range(recalls):
    assume(sum(recalls) > 1e-6)
    r = kl_recall(dict(zip("abcdefg", recalls, strict=False)))
    assert 0 <= r.forward <= math.log(len(recalls)) + 1e-9
    assert r.reverse >= 0
    scaled = kl_recall({a: x / 2 for a, x in zip("abcdefg", recalls, strict=False)})
    assert scaled.forward == pytest.approx(r.forward, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
@SETTINGS
def test_effect_sizes_of_equal_sets_stay_within_two(seed, targets, attributes):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, targets, 4))
    a, b = rng.normal(size=(2, attributes, 4))
    assert abs(weat(x, y, a, b, permutations=None).effect_size) <= 2
    assert np.abs(sc_weat(x, a, b)).max() <= 2
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert weat(
        x @ turned, y @ turned, a @ turned, b @ turned, permutations=None
    ).effect_size == pytest.approx(weat(x, y, a, b, permutations=None).effect_size)
