"""WEAT, SC-WEAT and the other measures on sets of embeddings."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from clipbias.errors import DataError, StatusError
from clipbias.metrics import direct_bias, ect, mac, ripa, rnd, rnsb, sc_weat, weat


def cosine(a, b):
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return a @ b.T


@pytest.fixture
def sets():
    rng = np.random.default_rng(3)
    shift = np.array([1.0, 0, 0, 0, 0])
    return [rng.normal(size=(n, 5)) + s * shift for n, s in ((5, 1), (4, -1), (6, 1), (7, -1))]


def test_weat_is_its_definition(sets):
    x, y, a, b = sets
    s = [cosine(t, a).mean(1) - cosine(t, b).mean(1) for t in (x, y)]
    both = np.concatenate(s)
    r = weat(x, y, a, b)
    assert r.effect_size == pytest.approx((s[0].mean() - s[1].mean()) / both.std(ddof=1))
    assert r.statistic == pytest.approx(s[0].sum() - s[1].sum())
    sums = [both[list(c)].sum() for c in itertools.combinations(range(9), 5)]
    assert r.permutations == math.comb(9, 5)
    assert r.p_value == pytest.approx(np.mean(np.array(sums) >= s[0].sum() - 1e-12))


def test_weat_does_not_care_about_lengths(sets):
    x, y, a, b = sets
    assert weat(3 * x, y, a, 0.1 * b).effect_size == pytest.approx(weat(x, y, a, b).effect_size)


def test_weat_is_antisymmetric(sets):
    x, y, a, b = sets
    d = weat(x, y, a, b, permutations=None).effect_size
    assert weat(y, x, a, b, permutations=None).effect_size == pytest.approx(-d)
    assert weat(x, y, b, a, permutations=None).effect_size == pytest.approx(-d)
    assert weat(x, y, a, b, permutations=None).p_value is None


def test_random_permutations_come_close_to_all(sets):
    x, y, a, b = sets
    x = x * 0 + np.random.default_rng(5).normal(size=x.shape)
    exact = weat(x, y, a, b).p_value
    drawn = weat(x, y, a, b, permutations=20_000, seed=1)
    assert drawn.p_value == pytest.approx(exact, abs=0.02)
    assert drawn == weat(x, y, a, b, permutations=20_000, seed=1)
    # Never 0: the observed partition is one of them.
    assert weat(10 * a[:3] + x[:3], -a[:3], a, -a, permutations=9, seed=0).p_value >= 0.1


def test_too_many_partitions_is_an_error_that_says_what_to_pass():
    z = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(DataError, match="permutations=10000"):
        weat(z[:15], z[15:30], z[30:45], z[45:])


def test_bad_sets(sets):
    x, y, a, b = sets
    with pytest.raises(StatusError, match="Y has no vectors"):
        weat(x, np.zeros((0, 5)), a, b)
    with pytest.raises(DataError, match="row 2 of A is all zero"):
        weat(x, y, np.where(np.arange(6)[:, None] == 2, 0, a), b)
    with pytest.raises(DataError, match="different dimensions"):
        weat(x[:, :3], y, a, b)
    with pytest.raises(StatusError, match="all associations are equal"):
        weat(np.ones((3, 5)), np.ones((3, 5)), a, b)
    with pytest.raises(DataError, match="row 0 of X holds NaN"):
        weat(x * np.nan, y, a, b)


def test_sc_weat_by_hand(sets):
    x, _, a, b = sets
    c = cosine(x, np.concatenate([a, b]))
    expected = (c[:, :6].mean(1) - c[:, 6:].mean(1)) / c.std(1, ddof=1)
    assert sc_weat(x, a, b) == pytest.approx(expected)
    assert sc_weat(x[0], a, b) == pytest.approx(expected[0])
    with pytest.raises(StatusError, match="equal"):
        sc_weat(x, np.ones((2, 5)), np.ones((2, 5)))


def test_rnd_and_its_other_sign():
    x, y, a = np.array([[1.0, 0]]), np.array([[-1.0, 0]]), np.array([[3.0, 0]])
    assert rnd(x, y, a) == pytest.approx(2 - 4)
    assert rnd(x, y, a, distance="cosine") == pytest.approx(2.0)
    with pytest.raises(DataError, match="Did you mean 'cosine'"):
        rnd(x, y, a, distance="cos")


def test_ect_is_spearman(sets):
    x, y, a, _ = sets
    expected = spearmanr(cosine(a, x.mean(0)[None])[:, 0], cosine(a, y.mean(0)[None])[:, 0])[0]
    assert ect(x, y, a) == pytest.approx(expected)
    assert ect(x, x, a) == pytest.approx(1.0)
    with pytest.raises(StatusError, match="rank correlation"):
        ect(x, y, a[:1])


def test_mac_and_ripa_and_direct_bias():
    t = np.array([[1.0, 0], [0, 2.0]])
    assert mac(t, [np.array([[1.0, 0]])]) == pytest.approx(0.5)
    assert mac(t, [np.array([[1.0, 0]]), np.array([[-1.0, 0]])]) == pytest.approx(1.0)
    pairs = np.array([[[2.0, 0], [0, 0]], [[5.0, 1], [1, 1]]])
    assert ripa(pairs, np.array([[3.0, 7.0]])) == pytest.approx(3.0)
    assert direct_bias(np.array([[1.0, 0]]), pairs) == pytest.approx(1.0)
    assert direct_bias(np.array([[0.0, 1]]), pairs) == pytest.approx(0.0)
    assert direct_bias(np.array([[1.0, 1]]), pairs, strictness=2) == pytest.approx(0.5)
    with pytest.raises(DataError, match="shape"):
        ripa(np.zeros((3, 2)), t)
    with pytest.raises(StatusError, match="attribute set"):
        mac(t, [])


def test_rnsb_is_larger_for_uneven_targets():
    rng = np.random.default_rng(0)
    good, bad = rng.normal(size=(40, 3)) + [2, 0, 0], rng.normal(size=(40, 3)) - [2, 0, 0]
    even = rng.normal(size=(6, 3)) * [0, 1, 1]
    uneven = even + np.array([[3.0, 0, 0]]) * np.array([1, 1, 1, -1, -1, -1])[:, None]
    assert rnsb(even, good, bad, seed=0) < 0.05 < 0.3 < rnsb(uneven, good, bad, seed=0) <= math.log(6)
    same = rnsb(even, good, bad, seed=1, holdout=0.2)
    assert same == rnsb(even, good, bad, seed=1, holdout=0.2)
