"""Gender error, ratio and outcome divergence in closed form, their invariants, and their bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics import gender_error
from clipbias.tasks.metrics.gender import gender_cells, gender_values, jensen_shannon

SAID = {"m": "a man", "f": "a woman", "o": "a person", "b": "a man and a woman"}


def captions(letters: str) -> list[str]:
    return [SAID[letter] for letter in letters]


def test_worked_example():
    # Men: 6 right, 2 wrong, 2 other. Women: 5 right, 4 wrong, 1 other.
    said = captions("mmmmmmffob" + "fffffmmmmo")
    r = gender_error(said, ["Male"] * 10 + ["Female"] * 10)
    assert r.error == pytest.approx(6 / 20)
    assert r.ratio == pytest.approx(7 / 10)
    assert r.true_ratio == 1.0
    assert r.delta_ratio == pytest.approx(0.3)
    assert r.rates["Male"] == {"correct": 0.6, "incorrect": 0.2, "other": 0.2, "n": 10.0}
    assert r.rates["Female"] == {"correct": 0.5, "incorrect": 0.4, "other": 0.1, "n": 10.0}
    p, q = np.array([0.6, 0.2, 0.2]), np.array([0.5, 0.4, 0.1])
    m = (p + q) / 2
    by_hand = (np.sum(p * np.log2(p / m)) + np.sum(q * np.log2(q / m))) / 2
    assert r.outcome_divergence == pytest.approx(by_hand)
    assert (r.n, r.left_out, r.words, r.undefined) == (20, 0, "hendricks2018", {})
    assert gender_error(said, ["m"] * 10 + ["f"] * 10, over="gendered").error == pytest.approx(6 / 17)


def test_zero_cells_are_zero_and_not_nan():
    r = gender_error(captions("mmff"), ["man", "man", "woman", "woman"])
    assert (r.error, r.outcome_divergence, r.ratio) == (0.0, 0.0, 1.0)
    r = gender_error(captions("mmmm"), ["man", "man", "woman", "woman"])
    assert (r.error, r.outcome_divergence, r.ratio, r.delta_ratio) == (0.5, 1.0, 0.0, 1.0)


def test_silence():
    r = gender_error(captions("ffff"), ["man", "man", "woman", "woman"])
    assert r.ratio == math.inf
    assert r.delta_ratio == -math.inf
    r = gender_error(captions("oooo"), ["man", "man", "woman", "woman"])
    assert r.error == 0.0
    assert math.isnan(r.ratio)
    assert set(r.undefined) == {"ratio", "delta_ratio"}
    r = gender_error(captions("oooo"), ["man", "man", "woman", "woman"], over="gendered")
    assert math.isnan(r.error)
    assert "error" in r.undefined


def test_unknown_is_left_out_and_missed_words_are_told():
    r = gender_error(["a man", "a woman", "he rides", "a man"], ["man", "woman", "man", "unknown"])
    assert (r.n, r.left_out) == (3, 1)
    assert r.rates["man"]["other"] == 0.5
    assert r.missed == {"he": 1}


def test_bad_input():
    with pytest.raises(DataError, match="2 captions but 1"):
        gender_error(captions("mf"), ["man"])
    with pytest.raises(StatusError, match="feminine"):
        gender_error(captions("mf"), ["man", "man"])
    with pytest.raises(DataError, match="Did you mean 'gendered'"):
        gender_error(captions("mf"), ["man", "woman"], over="gender")
    with pytest.raises(DataError, match="no text"):
        gender_error(["a man", None], ["man", "woman"])
    with pytest.raises(DataError, match="compares two"):
        gender_error(["a"], ["x"], words={"x": ["a"], "y": ["b"], "z": ["c"]})


LETTERS = st.lists(
    st.tuples(st.sampled_from("mfob"), st.sampled_from(["man", "woman"])), min_size=4, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(LETTERS, st.randoms())
def test_invariants(drawn, random):
    drawn += [("m", "man"), ("f", "woman")]
    said, true = zip(*drawn, strict=True)
    r = gender_error(captions("".join(said)), true)
    assert 0 <= r.error <= 1
    assert 0 <= r.outcome_divergence <= 1
    order = list(range(len(drawn)))
    random.shuffle(order)
    again = gender_error(captions("".join(said[i] for i in order)), [true[i] for i in order])
    assert again.error == r.error
    assert again.outcome_divergence == pytest.approx(r.outcome_divergence)
    # Exchanging men and women throughout turns the ratio over and keeps the rest.
    swap = str.maketrans("mf", "fm")
    other = {"man": "woman", "woman": "man"}
    mirror = gender_error(captions("".join(said).translate(swap)), [other[t] for t in true])
    assert mirror.error == r.error
    assert mirror.outcome_divergence == pytest.approx(r.outcome_divergence)
    assert mirror.ratio == pytest.approx(1 / r.ratio if r.ratio else math.inf)
    for rates in r.rates.values():
        assert sum(rates[o] for o in ("correct", "incorrect", "other")) == pytest.approx(1)


def test_a_draw_is_the_metric_of_the_resampled_captions():
    rng = np.random.default_rng(0)
    said = captions("".join(rng.choice(list("mfob"), 60)))
    true = np.array(["man", "woman"])[rng.integers(0, 2, 60)]
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=5)
    for over in ("all", "gendered"):
        drawn = gender_values(gender_cells(said, true).table(weights), over=over)
        for d, w in enumerate(weights):
            rows = np.repeat(np.arange(60), w)
            alone = gender_error([said[i] for i in rows], true[rows], over=over)
            assert drawn["error"][d] == pytest.approx(alone.error)
            assert drawn["ratio"][d] == pytest.approx(alone.ratio)
            assert drawn["delta_ratio"][d] == pytest.approx(alone.delta_ratio)
            assert drawn["outcome_divergence"][d] == pytest.approx(alone.outcome_divergence)
    with pytest.raises(DataError, match="weights have shape"):
        gender_cells(said, true).table(weights[:, :10])


def test_jensen_shannon():
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0
    assert jensen_shannon(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0.0
    assert np.isnan(jensen_shannon(np.array([np.nan, np.nan]), np.array([0.5, 0.5])))
