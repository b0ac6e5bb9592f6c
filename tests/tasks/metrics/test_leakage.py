"""Leakage and DPA: what is planted is found, what is not is not, and truth spoilt is as wrong as the model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics import dpa, leakage
from clipbias.tasks.metrics.splits import balanced_split, group_labels, seed_list
from clipbias.tasks.metrics.spoiling import spoil, spoil_labels


def world(n=800, seed=0):
    """Attribute and three labels, the first of which leans to the second group."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 2, n)
    T = np.column_stack([rng.random(n) < 0.4 + 0.2 * g, rng.random(n) < 0.5, rng.random(n) < 0.3]).astype(
        float
    )
    return g, T, rng


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_spoilt_truth_is_as_wrong_as_the_model(seed):
    rng = np.random.default_rng(seed)
    truth, said = (rng.random((2, 30, 3)) < [0.2, 0.5, 0.9]).astype(float)
    wrong = (truth != said).sum(0)
    assert ((spoil(truth, said, rng, "accuracy") != truth).sum(0) == wrong).all()
    confused = spoil(truth, said, rng, "confusion")
    assert ((confused != truth).sum(0) == wrong).all()
    assert (confused.sum(0) == said.sum(0)).all()  # as many misses as the model, so as many false alarms
    assert (spoil(truth, said, rng, "none") == truth).all()
    labels, guesses = rng.integers(0, 4, (2, 30))
    assert (spoil_labels(labels, guesses, rng, "accuracy") != labels).sum() == (labels != guesses).sum()
    confused = spoil_labels(labels, guesses, rng, "confusion")
    for level in range(4):
        assert sorted(confused[labels == level]) == sorted(guesses[labels == level])


def test_a_model_that_uses_the_attribute_leaks_more():
    g, T, rng = world(1600)
    names = np.where(g, "woman", "man")
    blind, sexist = T.copy(), T.copy()
    rows = rng.random(g.size) < 0.6
    blind[rows, 1] = rng.permutation(T[:, 1])[rows]
    sexist[rows, 1] = g[rows]  # as often wrong, but wrong by gender
    low, high = (leakage(names, T, p, seeds=5, permutations=9) for p in (blind, sexist))
    assert abs(low.value) < 0.05
    assert high.value > 0.04
    assert high.model > high.data
    assert high.p == pytest.approx(1 / 10)
    assert high.null["model"].mean() == pytest.approx(0.5, abs=0.04)
    assert len(high.seeds) == 5
    assert high.n == 2 * min(g.sum(), (1 - g).sum())


def test_perfect_predictions_leak_what_the_truth_leaks():
    g, T, _ = world(400)
    for match in ("confusion", "accuracy"):
        r = leakage(g, T, T, match=match, seeds=3, permutations=0)
        assert r.value == 0
        assert r.model == r.data == r.truth
        assert np.isnan(r.p)


def test_one_label_per_image():
    g, _, rng = world(600)
    answers = np.array(["red", "blue", "green"])[rng.integers(0, 3, 600)]
    said = np.where(rng.random(600) < 0.5, answers, np.where(g, "red", "blue"))
    for match in ("confusion", "accuracy"):
        r = leakage(np.where(g, "w", "m"), answers, said, match=match, seeds=3, permutations=0)
        assert r.value > 0.1
    with pytest.raises(DataError, match="one for each"):
        leakage(g, answers, said[:5])


def test_leakage_repeats_and_leaves_unknown_out():
    g, T, _ = world(200)
    names = np.where(g, "w", "m").astype(object)
    names[:7] = "unknown"
    first, again = (leakage(names, T, 1 - T, seeds=2, permutations=2) for _ in range(2))
    assert first.left_out == 7
    assert first.seeds.equals(again.seeds)
    assert first.null.equals(again.null)


@pytest.mark.parametrize("match", ["confusion", "accuracy"])
def test_dpa_by_hand(match):
    g, T, rng = world(3000)
    A = np.eye(2)[g]
    assert dpa(A, T, A, T, match=match).value == pytest.approx(0, abs=1e-12)
    tied = T.copy()
    tied[:, 1] = np.where(rng.random(g.size) < 0.4, g, T[:, 1])
    towards = dpa(A, T, A, tied, match=match)
    assert towards.value > 0.01
    assert towards.model > towards.data
    assert -1 < towards.value < 1
    # The attribute predicted from the label, more than the label warrants.
    guess = np.eye(2)[np.where(rng.random(g.size) < 0.5, T[:, 0].astype(int), g)]
    back = dpa(A, T, guess, None, direction="T->A", match=match)
    assert back.value > 0.05
    assert dpa(A, T, guess, None, direction="T->A", match=match, quality="accuracy").value > 0
    assert dpa(A, T, guess, None, direction="T->A", match=match).seeds.equals(back.seeds)


def test_dpa_of_a_certain_table_in_closed_form():
    # Predictions follow the attribute exactly: no error of the attacker but the average image of each cell.
    A = np.eye(2)[np.arange(100) % 2]
    T_pred = A[:, :1]
    r = dpa(A, 1 - T_pred, A, T_pred, quality="accuracy", match="confusion", seeds=3)
    assert r.model == 1
    assert r.value == 0  # the truth is as certain
    fair = np.tile([[1.0], [0.0], [0.0], [1.0]], (25, 1))
    assert dpa(A, fair, A, T_pred, quality="accuracy", match="confusion", seeds=3).value > 0.2


def test_bad_input():
    g, T, _ = world(100)
    with pytest.raises(DataError, match="Did you mean 'confusion'"):
        leakage(g, T, T, match="confuse")
    with pytest.raises(StatusError, match="at least two"):
        leakage(np.zeros(100), T, T)
    with pytest.raises(StatusError, match="at least 10"):
        leakage(np.arange(100) < 5, T, T)
    with pytest.raises(DataError, match="rows"):
        leakage(g, T[:50], T[:50])
    with pytest.raises(StatusError, match="too few"):
        dpa(np.eye(2)[g[:10]], T[:10], None, T[:10])
    with pytest.raises(DataError, match="Did you mean 'mse'"):
        dpa(np.eye(2)[g], T, None, T, quality="mae")
    with pytest.raises(DataError, match="two different"):
        seed_list(1)


def test_splits_are_balanced_and_keep_blocks_together():
    codes, levels = group_labels(["b"] * 30 + ["a"] * 50 + [None] * 5)
    assert levels == ("a", "b")
    train, test = balanced_split(codes, np.random.default_rng(0), test_share=0.2)
    assert np.bincount(codes[train]).tolist() == [24, 24]
    assert np.bincount(codes[test]).tolist() == [6, 6]
    assert not set(train) & set(test)
    blocks = np.arange(85) // 2
    train, test = balanced_split(codes, np.random.default_rng(0), test_share=0.2, blocks=blocks)
    assert not set(blocks[train]) & set(blocks[test])
    assert len(set(np.bincount(codes[test]))) == 1
    with pytest.raises(StatusError, match="one block"):
        balanced_split(codes, np.random.default_rng(0), blocks=np.zeros(85))


def test_a_scikit_learn_classifier_can_be_the_attacker():
    from sklearn.tree import DecisionTreeClassifier

    g, T, rng = world()
    both = g[:, None] * (rng.random((800, 1)) < 0.8)
    said = np.column_stack([both[:, 0], T[:, 1]])
    tree = leakage(g, T[:, :2], said, attacker=DecisionTreeClassifier(), seeds=2, permutations=0)
    plain = leakage(g, T[:, :2], said, seeds=2, permutations=0)
    assert tree.model == pytest.approx(plain.model, abs=0.03)
    assert tree.model > 0.7
    again = leakage(g, T[:, :2], said, attacker=DecisionTreeClassifier(), seeds=2, permutations=0)
    assert again.value == tree.value  # its random state is that of the seed


def test_what_is_no_classifier_is_refused():
    from sklearn.svm import LinearSVC

    g, T, _ = world(100)
    with pytest.raises(DataError, match="CalibratedClassifierCV"):
        leakage(g, T, T, attacker=LinearSVC())
    with pytest.raises(DataError, match="needs fit and predict_proba"):
        leakage(g, T, T, attacker="logistic")
