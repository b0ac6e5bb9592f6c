"""Exact properties of the array functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import draw

from clipbias.errors import DataError, StatusError
from clipbias.tasks.interventions import (
    LEVELS,
    OBJECTIVES,
    Averages,
    balanced_rows,
    balancing_weights,
    calibrate,
    check_apart,
    detection,
    draw_counts,
    dro_weights,
    effective_robustness,
    effective_size,
    entropy_weights,
    generalised,
    group_means,
    important,
    lowest,
    matched_threshold,
    mean_amplification,
    mixed,
    phi_coefficient,
    rate_differences,
    rebalance_rows,
    relative_difficulty,
    resample_rows,
    share_rows,
    spuriosity,
    spurious_gap,
    synthetic_counts,
    upweighted,
    worst_group,
)
from clipbias.tasks.interventions.synthetic import doubled_groups

seeds = st.integers(0, 10_000)


def sample(seed, n=300, labels=2, rho=0.8):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, labels, n)
    first = (rng.random(n) < rho) == (label % 2 == 0)
    return label, first


# -- overwriting ---------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([2, 4, 6]))
def test_same_n_keeps_size_and_both_marginals_while_phi_sweeps_eleven_levels(seed, labels):
    label, first = sample(seed, labels=labels)
    assert len(LEVELS) == 11
    assert LEVELS[0] == 1
    assert LEVELS[-1] == -1
    found = [rebalance_rows(label, first, phi=phi, seed=seed) for phi in LEVELS]
    assert len({len(one.index) for one in found}) == 1
    half = len(found[0].index) // 2
    shares = [np.bincount(label[one.index], minlength=labels).tolist() for one in found]
    assert all(share == shares[0] for share in shares)
    for phi, one in zip(LEVELS, found, strict=True):
        assert len(set(one.index)) == len(one.index)  # without replacement
        assert one.phi == pytest.approx(phi, abs=1 / half + 1e-9)
        if labels == 2:
            assert first[one.index].sum() == half
    assert np.all(np.diff([one.phi for one in found]) < 0)


def test_two_by_two_takes_twice_the_smallest_cell():
    label = np.repeat([1, 1, 0, 0], [90, 30, 20, 60])
    first = np.repeat([True, False, True, False], [90, 30, 20, 60])
    for phi in LEVELS:
        one = rebalance_rows(label, first, phi=phi)
        has = label[one.index] == 1
        assert len(one.index) == 40
        # i tenths of the smallest cell come from has and the second group
        tenths = round((1 - phi) * 5)
        assert (has & ~first[one.index]).sum() == 20 * tenths // 10
        assert (has & first[one.index]).sum() == 20 * (10 - tenths) // 10


def test_levels_are_nested_draws_of_one_order():
    label, first = sample(3)
    kept = [set(rebalance_rows(label, first, phi=phi).index) for phi in (1, 0.6, 0.2)]
    tied = (label == 0) == first
    for more, fewer in zip(kept, kept[1:], strict=False):
        assert {i for i in fewer if tied[i]} <= {i for i in more if tied[i]}


def test_subselect_shrinks_away_from_the_natural_level_and_keeps_label_shares():
    label, first = sample(1, n=2000)
    natural = phi_coefficient(label == 0, first)
    sizes = {phi: rebalance_rows(label, first, phi=phi, mode="subselect") for phi in LEVELS}
    for phi, one in sizes.items():
        assert one.phi == pytest.approx(phi, abs=0.02)
        assert len(set(one.index)) == len(one.index)
    order = sorted(LEVELS, key=lambda phi: abs(phi - natural))
    counts = [len(sizes[phi].index) for phi in order]
    assert counts[0] == max(counts)
    assert counts[0] > 3 * counts[-1]


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([2, 4]), st.floats(-0.7, 0.7))
def test_weights_reach_phi_exactly_and_keep_the_marginals(seed, labels, phi):
    label, first = sample(seed, n=600, labels=labels, rho=0.7)
    one = rebalance_rows(label, first, phi=phi, mode="weights")
    assert one.phi == pytest.approx(phi, abs=1e-9)
    assert one.weights.mean() == pytest.approx(1)
    assert (one.weights * first).mean() == pytest.approx(first.mean())
    for code in range(labels):
        assert (one.weights * (label == code)).mean() == pytest.approx((label == code).mean())


def test_what_cannot_be_is_said():
    label, first = sample(0)
    with pytest.raises(DataError, match="missing"):
        rebalance_rows(np.repeat([0, 1], 10), np.repeat([True, False], 10))
    with pytest.raises(DataError, match="between -1 and 1"):
        rebalance_rows(label, first, phi=1.5)
    with pytest.raises(DataError, match="same group"):
        rebalance_rows(label, first, ties={0: True, 1: True})
    with pytest.raises(DataError, match="out of reach"):
        rebalance_rows(
            np.repeat([0, 1], [10, 90]),
            np.arange(100) % 4 == 0,
            phi=1,
            mode="weights",
            ties={0: True, 1: False},
        )


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_under_representation_moves_the_share_and_not_the_number_of_positives(share):
    label, first = sample(2)
    one = share_rows(label == 1, first, share=share)
    positive = label[one.index] == 1
    budget = min((first & (label == 1)).sum(), (~first & (label == 1)).sum())
    assert positive.sum() == budget
    assert first[one.index][positive].sum() == round(share * budget)
    assert (~positive).sum() == (label != 1).sum()


# -- weights and resampling ----------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_six_objectives(seed):
    label, first = sample(seed)
    before = phi_coefficient(label == 1, first)
    assert len(OBJECTIVES) == 6
    for objective in OBJECTIVES:
        weights = balancing_weights(label, first, objective)
        after = phi_coefficient(label == 1, first, weights)
        if objective in ("y", "g"):
            table = [weights[(label == y) & (first == a)] for y in (0, 1) for a in (0, 1)]
            odds = np.prod([table[k].sum() for k in (0, 3)]) / np.prod([table[k].sum() for k in (1, 2)])
            counts = [len(t) for t in table]
            assert odds == pytest.approx(counts[0] * counts[3] / (counts[1] * counts[2]))
            assert abs(after) > 0.5 * abs(before)
        else:
            assert after == pytest.approx(0, abs=1e-12)
        if objective != "EO":
            assert weights.mean() == pytest.approx(1)
    again = balancing_weights(1 - label, ~first, "joint")  # names of groups do not matter
    assert np.array_equal(again, balancing_weights(label, first, "joint"))
    with pytest.raises(DataError, match="stratified_y"):
        balancing_weights(label, first, "stratified-y")


@pytest.mark.parametrize("how", ["up", "down"])
def test_resampling_makes_cells_equal(how):
    label, first = sample(4)
    index = resample_rows(label, first, how=how)
    cells = (label * 2 + first)[index]
    counts = np.bincount(cells)
    sizes = np.bincount(label * 2 + first)
    assert set(counts) == {sizes.max() if how == "up" else sizes.min()}
    if how == "up":
        assert set(index) == set(range(len(label)))
    else:
        assert len(set(index)) == len(index)


def test_balanced_subset_and_a_missing_cell():
    cells = np.repeat([0, 1, 2], [5, 3, 9])
    assert np.bincount(cells[balanced_rows(cells)]).tolist() == [3, 3, 3]
    with pytest.raises(DataError, match="cell is missing"):
        balanced_rows(cells, labels=np.repeat([0, 0, 1], [5, 3, 9]))


def test_effective_size():
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert effective_size(np.array([3.0, 1.0])) == pytest.approx(1.6)


# -- entropy balancing ---------------------------------------------------------------------------


def many_words(n=1500, words=20, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.4
    tilt = rng.uniform(-0.12, 0.12, words)
    return rng.random((n, words)) < 0.3 + np.outer(a - 0.4, tilt), a


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_entropy_balancing_of_many_words(kappa):
    o, a = many_words()
    found = entropy_weights(o, a, kappa=kappa)
    w = found.weights / found.weights.sum()
    assert w @ a == pytest.approx(a.mean(), abs=1e-9)
    assert w @ o == pytest.approx(o.mean(0), abs=1e-9)
    cov = w @ ((a - a.mean())[:, None] * (o - o.mean(0)))
    cov0 = ((a - a.mean())[:, None] * (o - o.mean(0))).mean(0)
    assert cov == pytest.approx(kappa * cov0, abs=1e-9)
    assert found.before > 0.05
    if kappa == 0:
        assert found.after < 1e-8
    assert found.effective < len(a)
    assert entropy_weights(o, a, kappa=1).weights == pytest.approx(np.ones(len(a)))


def test_entropy_balancing_refuses():
    o, a = many_words(60, 40)
    with pytest.raises(DataError, match="cannot be balanced|effective|count like"):
        entropy_weights(o, a)
    copy = np.column_stack([a, o[:, :2]])
    with pytest.raises(DataError, match="cannot be balanced|count like"):
        entropy_weights(copy, a)  # a word that is the group
    soft = entropy_weights(*many_words(400, 10), soft=0.05)
    assert soft.effective > entropy_weights(*many_words(400, 10)).effective
    with pytest.raises(DataError, match="count like"):
        entropy_weights(*many_words(400, 10), least=0.999)


# -- group DRO, JTT, LfF -------------------------------------------------------------------------


def test_dro_weights():
    q = np.full(3, 1 / 3)
    means = np.array([1.0, 2.0, 0.0])
    assert dro_weights(q, means, eta=0) == pytest.approx(q)
    grown = q * np.exp(0.5 * means)
    assert dro_weights(q, means, eta=0.5) == pytest.approx(grown / grown.sum())
    order = np.array([2, 0, 1])
    assert dro_weights(q, means[order], eta=0.5) == pytest.approx((grown / grown.sum())[order])
    adjusted = dro_weights(q, np.zeros(3), eta=1, adjustment=2, sizes=np.array([4, 16, 100]))
    raw = np.exp([1, 0.5, 0.2])
    assert adjusted == pytest.approx(raw / raw.sum())
    assert group_means(np.array([1.0, 3.0]), np.array([2, 2]), 3).tolist() == [0, 0, 2]


def test_errors_are_repeated():
    errors = np.array([False, True, False])
    assert upweighted(errors, 1).tolist() == [0, 1, 2]
    assert upweighted(errors, 3).tolist() == [0, 1, 1, 1, 2]
    with pytest.raises(DataError):
        upweighted(errors, 0)
    label = np.zeros(10, int)
    group = np.array([0] * 8 + [1] * 2)
    found = detection(np.arange(10) >= 7, label, group)
    assert (found.recall, found.precision, found.share) == (1, pytest.approx(2 / 3), 0.3)


def test_generalised_cross_entropy_and_relative_difficulty():
    p = np.array([0.9, 0.1])
    ce = -np.log(p)
    assert generalised(ce, p, 0.7) == pytest.approx(ce * p**0.7 * 0.7)
    small = generalised(ce, p, 1e-9) / 1e-9
    assert small == pytest.approx(ce)  # towards q = 0 the direction of the cross-entropy
    assert relative_difficulty(np.array([1.0, 0.5]), np.array([0.0, 0.5])).tolist() == [1, 0.5]


def test_moving_averages_are_set_against_their_class():
    ema = Averages(np.array([0, 0, 1]), alpha=0.7)
    ema.update(np.array([0, 1, 2]), np.array([1.0, 2.0, 8.0]))
    ema.update(np.array([0]), np.array([3.0]))
    assert ema.values.tolist() == pytest.approx([0.7 * 1 + 0.3 * 3, 2, 8])
    assert ema.relative(np.array([0, 1, 2])).tolist() == pytest.approx([0.8, 1, 1])


# -- mixing --------------------------------------------------------------------------------------


def test_mixing_pairs_within_a_class_and_blends_means():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    x = rng.normal(size=(4000, 2)) + 5 * y[:, None]
    by = np.array([0, 0, 1, 1])
    b = np.array([[0, 1], [0, 3], [10, 1], [10, 3]], float)
    assert np.array_equal(mixed(x, y, b, by, s=0, rng=rng), x)
    assert np.array_equal(mixed(x, y, b, by, s=1, alpha=0, rng=rng), x)
    whole = mixed(x, y, b, by, s=1, rng=rng)
    assert {tuple(row) for row in whole[y == 1]} == {(10, 1), (10, 3)}
    part = mixed(x, y, b, by, s=0.3, rng=rng)
    for c in (0, 1):
        expected = 0.3 * b[by == c].mean(0) + 0.7 * x[y == c].mean(0)
        assert part[y == c].mean(0) == pytest.approx(expected, abs=0.05)
    with pytest.raises(DataError, match="between 0 and 1"):
        mixed(x, y, b, by, s=2, rng=rng)


# -- spuriosity ----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seeds, st.floats(0.1, 50), st.floats(-20, 20))
def test_spuriosity_is_a_z_score_within_the_class(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 3)), np.repeat([0, 1], 20)
    found = spuriosity(x, y, {0: [0], 1: [1, 2]})
    assert found[:20] == pytest.approx((x[:20, 0] - x[:20, 0].mean()) / x[:20, 0].std())
    assert found == pytest.approx(spuriosity(x * scale + shift, y, {0: [0], 1: [1, 2]}), abs=1e-6)
    assert np.isnan(spuriosity(x, y, {0: [0]})[20:]).all()


def test_spurious_gap_has_a_sign():
    score, y = np.tile(np.arange(10.0), 2), np.repeat([0, 1], 10)
    right = np.concatenate([np.arange(10) >= 5, np.arange(10) < 5])
    found = spurious_gap(right, score, y, k=3)
    assert found.by_class == {0: 1.0, 1: -1.0}
    assert found.value == 0
    assert (found.high, found.low) == (0.5, 0.5)
    assert lowest(score, y, 2).tolist() == [0, 1, 10, 11]


def test_effective_robustness_and_important_features():
    high = np.array([0.5, 0.6, 0.7, 0.8])
    assert effective_robustness(high, 2 * high - 0.9) == pytest.approx(np.zeros(4), abs=1e-12)
    above = effective_robustness(high, 2 * high - 0.9 + np.array([0, 0.1, 0, 0]))
    assert above.argmax() == 1
    activations = np.array([[3.0, 1, 0], [3, 1, 9]])
    weights = np.array([[1.0, 1, 1]])
    assert important(activations, weights, np.array([True, False]), np.zeros(2, int), top=2) == {0: [0, 1]}


# -- synthetic -----------------------------------------------------------------------------------


def test_three_ways_use_as_many_synthetic_images():
    # the published training sets of CelebA-HQ at a bias rate of 95 %
    real = np.array([281, 5335, 7797, 411])
    uniform = synthetic_counts(real, "uniform")
    assert (real + uniform).tolist() == [7797] * 4
    for how in ("additive", "two_stage"):
        even = synthetic_counts(real, how)
        assert even.sum() == uniform.sum()
        assert even.max() - even.min() <= 1
    with pytest.raises(DataError):
        synthetic_counts(real, "both")


def test_synthetic_images_are_drawn_by_count_and_make_groups_of_their_own():
    cells = np.array([0, 0, 0, 1])
    rows = draw_counts(cells, {0: 2, 1: 3})
    assert np.bincount(cells[rows]).tolist() == [2, 3]
    assert len(set(rows[cells[rows] == 0])) == 2
    with pytest.raises(DataError, match="missing"):
        draw_counts(cells, {2: 1})
    assert doubled_groups([0, 0, 1], [False, True, False]).tolist() == [0, 1, 2]


# -- posterior -----------------------------------------------------------------------------------


def test_calibration_meets_the_margin_and_changes_nothing_it_need_not():
    rng = np.random.default_rng(0)
    member = (rng.random(600) < 0.5).astype(float)
    logits = rng.normal(size=(600, 3)) + 1.5 * np.outer(2 * member - 1, [1, -1, 0])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.array([0.6, 0.4, np.nan])
    found = calibrate(p, member, target, margin=0.01)
    assert found.violated_before == 2
    assert found.violated_after == 0
    assert np.abs(found.after[:2] - target[:2]).max() <= 0.01 + 1e-4
    assert found.probabilities.sum(1) == pytest.approx(np.ones(600))
    assert mean_amplification(found.after, target) <= 0.01 + 1e-4
    assert mean_amplification(found.before, target) > 0.1
    same = calibrate(p, member, target, margin=float("inf"))
    assert np.array_equal(same.probabilities, p)
    fine = calibrate(p, member, found.before, margin=0.01)
    assert np.array_equal(fine.probabilities, p)
    flipped = calibrate(p, 1 - member, 1 - target, margin=0.01)
    assert flipped.probabilities == pytest.approx(found.probabilities, abs=1e-4)


# -- measures ------------------------------------------------------------------------------------


def test_the_matched_threshold_predicts_as_many_as_there_are():
    rng = np.random.default_rng(1)
    scores, truth = rng.normal(size=100), rng.random(100) < 0.3
    assert (scores >= matched_threshold(scores, truth)).sum() == truth.sum()
    with pytest.raises(StatusError):
        matched_threshold(scores, np.ones(100))


def test_rate_differences_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.1, 0.0])
    truth = np.array([1, 0, 1, 0, 1, 0, 1, 0], bool)
    first = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    found = rate_differences(scores, truth, first)  # at 0.6
    assert (found.fpr, found.tpr, found.threshold) == (0.5, 0.5, 0.6)
    assert worst_group(np.array([1, 1, 0, 1]), np.array([0, 0, 1, 1])) == 0.5


def test_selection_that_overlaps_training_is_refused():
    with pytest.raises(DataError, match="trained on too"):
        check_apart(np.arange(5), np.array([4, 9]))
    check_apart(np.arange(5), np.array([9]))


def test_planted_features_are_what_they_say():
    x, job, gender, _ = draw(2000, 0.95, 0)
    assert (job == gender).mean() == pytest.approx(0.95, abs=0.02)
    assert x.dtype == np.float32
