"""Bias amplification: the painting example of Wang and Russakovsky, closed forms, invariants, draws."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics import (
    bias_amplification_mals,
    directional_bias_amplification,
    indicators,
    multi_attribute_bias_amplification,
)
from clipbias.tasks.metrics.amplification import directional_draws, holds, label_sets, multi_attribute_draws
from clipbias.tasks.metrics.mals import mals_draws, mals_from_shares


def people(paint_women: int):
    """Figure 2 of the paper: 40 women of whom 30 paint, 40 men of whom 10 do; some women predicted to paint."""
    A = indicators(["woman"] * 40 + ["man"] * 40, ["woman", "man"])
    labels = ["paint"] * 30 + ["not"] * 10 + ["paint"] * 10 + ["not"] * 30
    said = ["paint"] * paint_women + ["not"] * (40 - paint_women) + ["paint"] * 10 + ["not"] * 30
    return A, indicators(labels, ["paint", "not"]), indicators(said, ["paint", "not"])


@pytest.mark.parametrize(
    ("painting", "directional", "mals"), [(0, -0.375, -0.5357), (30, 0, 0), (40, 0.125, 0.15)]
)
def test_painting_example(painting, directional, mals):
    # p of the figure is the share of 30: 0, 1 and 4/3.
    A, T, T_pred = people(painting)
    r = directional_bias_amplification(A, T, None, T_pred)
    assert r.value == pytest.approx(directional)
    assert r.n_pairs == 4
    assert bias_amplification_mals(A, T, A, T_pred).value == pytest.approx(mals, abs=5e-5)


def test_pairs_are_a_table_with_names():
    A, T, T_pred = people(40)
    pairs = directional_bias_amplification(A, T, None, T_pred).pairs.set_index(["attribute", "label"])
    row = pairs.loc[("woman", "paint")]
    assert (row["sign"], row["n"], row["truth"], row["predicted"]) == (1, 40, 0.75, 1.0)
    assert row["value"] == pytest.approx(0.25)
    assert pairs.loc[("woman", "not"), "sign"] == -1
    named = directional_bias_amplification(
        A.to_numpy(), T.to_numpy(), None, T_pred.to_numpy(), names=("wm", "pn")
    )
    assert named.pairs["attribute"].tolist() == ["w", "w", "m", "m"]


def test_label_to_attribute():
    # Cooks are 3 women to 1 man; the model says woman for all of them.
    A = indicators(["f", "f", "f", "m", "m", "m"], ["f", "m"])
    T = indicators([["cook"]] * 4 + [[]] * 2, ["cook"])
    A_pred = indicators(["f", "f", "f", "f", "m", "m"], ["f", "m"])
    r = directional_bias_amplification(A, T, A_pred, None, direction="T->A")
    # P(f|cook): .75 -> 1 (sign +), P(m|cook): .25 -> 0 (sign -): both amplify by a quarter.
    assert r.value == pytest.approx(0.25)
    silent = indicators([None] * 6, ["f", "m"])
    r = directional_bias_amplification(A, T, silent, None, direction="T->A")
    assert r.value == pytest.approx((-0.75 + 0.25) / 2)


def test_empty_conditions_and_independent_pairs():
    A = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    T = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    # The first label is independent of A (sign 0, stays in the mean as 0); the second never occurs (T->A: left out).
    wrong = np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    r = directional_bias_amplification(A, T, None, wrong)
    assert r.value == 0
    assert r.n_pairs == 4
    r = directional_bias_amplification(A, T, 1 - A, None, direction="T->A")
    assert r.n_pairs == 2
    with pytest.raises(StatusError, match="no image fulfils"):
        directional_bias_amplification(A, np.zeros((4, 2)), A, None, direction="T->A")


def test_images_without_anything_do_not_count_for_the_sign():
    A = np.array([[1], [1], [0], [0]])
    T = np.array([[1], [1], [1], [0]])
    # Of the three images with anything P(t) = 1, so a and t are independent; with the fourth they were not.
    r = directional_bias_amplification(A, T, None, np.zeros((4, 1)))
    assert r.pairs["sign"].tolist() == [0]


def test_signs_from_training_data():
    A, T, T_pred = people(40)
    flipped = (A, 1 - T)
    assert directional_bias_amplification(A, T, None, T_pred, train=flipped).value == pytest.approx(-0.125)


def test_mals_shares_and_never_predicted():
    r = mals_from_shares([[0.7, 0.3], [0.5, 0.5], [0.2, 0.8]], [[0.8, 0.2], [0.9, 0.1], [np.nan, np.nan]])
    assert r.value == pytest.approx(0.1 / 3)  # .5 exactly is no bias; never predicted counts as 0
    assert r.never_predicted == [2]
    assert r.violations == 2
    three = mals_from_shares([[0.4, 0.4, 0.2]], [[0.5, 0.3, 0.2]])
    assert three.value == pytest.approx(0.0)  # threshold 1/3: two attributes count, one up and one down
    with pytest.raises(DataError, match="shapes"):
        mals_from_shares([[0.7, 0.3]], [[0.8, 0.2], [0.5, 0.5]])


def test_label_sets():
    train = np.array([[1, 1, 0]] * 3 + [[1, 0, 0]] * 2 + [[0, 0, 1]] * 3 + [[0, 0, 0]] * 5)
    test = np.array([[1, 1, 1]] * 3 + [[0, 0, 1]])
    assert label_sets(train, test, more_than=2).tolist() == [[False, False, True], [True, True, False]]
    assert label_sets(train, test, more_than=2, size=2).tolist() == [[True, True, False]]
    assert label_sets(train, test, more_than=3).size == 0
    assert holds(test, label_sets(train, test, more_than=2)).sum(0).tolist() == [4, 3]


def test_multi_attribute():
    A = indicators(["f"] * 4 + ["m"] * 4, ["f", "m"])
    T = pd.DataFrame({"pan": [1, 1, 1, 0, 1, 0, 0, 0], "oven": [1, 1, 0, 0, 1, 0, 0, 0]})
    T_pred = T.copy()
    T_pred.loc[2, "oven"] = 1  # a third woman with both
    T_pred.loc[4, "oven"] = 0  # the man no longer
    r = multi_attribute_bias_amplification(A, T, None, T_pred, size=2)
    assert r.n_sets == 1
    assert r.pairs["label"].tolist() == [("pan", "oven")] * 2
    assert r.pairs["delta"].tolist() == pytest.approx([0.25, -0.25])
    assert r.value == pytest.approx(0.25)
    assert r.variance == pytest.approx(0.0625)
    assert r.signed == pytest.approx(0.25)
    # One set and one label is the directional metric without cancelling.
    one = multi_attribute_bias_amplification(A, T[["pan"]], None, T_pred[["oven"]])
    alone = directional_bias_amplification(A, T[["pan"]], None, T_pred[["oven"]])
    assert one.signed == pytest.approx(alone.value)
    back = multi_attribute_bias_amplification(A, T, A, None, direction="T->A")
    assert (back.value, back.variance) == (0, 0)
    with pytest.raises(StatusError, match="lower more_than"):
        multi_attribute_bias_amplification(A, T, None, T_pred, more_than=100)


def test_bad_input():
    A, T, T_pred = people(10)
    with pytest.raises(DataError, match="row 0, column 0"):
        directional_bias_amplification(A, T * 2, None, T_pred)
    with pytest.raises(DataError, match="2 columns|1 columns"):
        directional_bias_amplification(A, T, None, T_pred[["paint"]])
    with pytest.raises(DataError, match="rows"):
        directional_bias_amplification(A, T[:-1], None, T_pred)
    with pytest.raises(DataError, match="indicators"):
        directional_bias_amplification(["f", "m"], T, None, T_pred)
    with pytest.raises(DataError, match="Did you mean 'A->T'"):
        directional_bias_amplification(A, T, None, T_pred, direction="A-T")
    with pytest.raises(DataError, match="cok"):
        indicators(["cok"], ["cook"])


def table(width):
    return arrays(np.int8, (12, width), elements=st.integers(0, 1))


@settings(deadline=None, max_examples=30)
@given(table(2), table(3), table(2), table(3), st.sampled_from(["A->T", "T->A"]), st.randoms())
def test_invariants(A, T, A_pred, T_pred, direction, random):
    A[0], T[0] = [1, 1], [1, 1, 1]  # every condition holds somewhere
    perfect = directional_bias_amplification(A, T, A, T, direction=direction)
    assert perfect.value == 0
    r = directional_bias_amplification(A, T, A_pred, T_pred, direction=direction)
    assert -1 <= r.value <= 1
    multi = multi_attribute_bias_amplification(A, T, A_pred, T_pred, direction=direction)
    assert 0 <= multi.value <= 1
    assert abs(multi.signed) <= multi.value + 1e-12
    order = np.array(random.sample(range(12), 12))
    again = directional_bias_amplification(
        A[order], T[order], A_pred[order], T_pred[order], direction=direction
    )
    assert again.value == pytest.approx(r.value)
    assert bias_amplification_mals(A, T, A, T).value == 0
    assert -1 <= bias_amplification_mals(A, T, A_pred, T_pred).value <= 1


@pytest.mark.parametrize("direction", ["A->T", "T->A"])
@pytest.mark.parametrize("with_train", [False, True])
def test_a_draw_is_the_metric_of_the_resampled_images(direction, with_train):
    rng = np.random.default_rng(1)
    A, A_pred = np.eye(2)[rng.integers(0, 2, 50)], np.eye(2)[rng.integers(0, 2, 50)]
    T, T_pred = (rng.random((50, 4)) < 0.4).astype(int), (rng.random((50, 4)) < 0.4).astype(int)
    train = (
        (np.eye(2)[rng.integers(0, 2, 50)], (rng.random((50, 4)) < 0.4).astype(int)) if with_train else None
    )
    weights = rng.multinomial(50, np.full(50, 1 / 50), size=4)
    drawn = directional_draws(A, T, A_pred, T_pred, weights, direction=direction, train=train)
    mals = mals_draws(A, T, A_pred, T_pred, weights, train=train)
    for d, w in enumerate(weights):
        i = np.repeat(np.arange(50), w)
        args = (A[i], T[i], A_pred[i], T_pred[i])
        alone = directional_bias_amplification(*args, direction=direction, train=train)
        assert drawn[d] == pytest.approx(alone.value)
        assert mals[d] == pytest.approx(bias_amplification_mals(*args, train=train).value)
    ones = np.ones((1, 50))
    many = multi_attribute_draws(A, T, A_pred, T_pred, ones, direction=direction, train=train, more_than=1)
    whole = multi_attribute_bias_amplification(
        A, T, A_pred, T_pred, direction=direction, train=train, more_than=1
    )
    for name in ("value", "variance", "signed"):
        assert many[name] == pytest.approx(getattr(whole, name))
