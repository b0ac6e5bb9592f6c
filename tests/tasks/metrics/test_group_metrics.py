"""Gaps, worst group, divergence, parity and odds, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics import (
    answer_divergence,
    demographic_parity,
    equalized_odds,
    error_rate_ratio,
    group_gap,
    js_divergence,
    worst_group,
)


def test_group_gap_has_a_sign_for_two_and_none_for_more():
    found = group_gap([1, 0, 1, 1], ["w", "w", "m", "m"])
    assert (found.value, found.first, found.second) == (0.5, "m", "w")
    assert group_gap([1, 0, 1, 1], ["w", "w", "m", "m"], levels=["w", "m"]).value == -0.5
    many = group_gap([1, 0, 4], ["a", "b", "c"])
    assert (many.value, many.first, many.second, many.n) == (4, "c", "b", {"a": 1, "b": 1, "c": 1})
    assert group_gap([1, 0, 4], ["a", "b", "c"], first="b", second="a").value == -1


def test_worst_group():
    found = worst_group([1, 0, 1, 1], ["w", "w", "m", "m"])
    assert (found.group, found.value, found.shortfall) == ("w", 0.5, 0.25)


def test_divergence_by_hand():
    assert js_divergence([[1, 0], [0, 1]]) == pytest.approx(1)
    assert js_divergence([[3, 1], [6, 2]]) == 0  # size does not matter
    # p = (1, 0), q = (1/2, 1/2): H(3/4, 1/4) - 1/2.
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 0.5
    assert js_divergence([[2, 0], [1, 1]]) == pytest.approx(expected)
    assert js_divergence(np.eye(4)) == pytest.approx(1)
    assert np.isnan(js_divergence([[0, 0], [1, 1]]))


@given(arrays(np.int64, (3, 4), elements=st.integers(0, 30)))
def test_divergence_lies_in_its_range_and_ignores_order(counts):
    counts[:, 0] += 1
    value = js_divergence(counts)
    assert 0 <= value <= 1
    assert js_divergence(counts[::-1]) == pytest.approx(value, abs=1e-12)
    assert js_divergence(counts[:, ::-1]) == pytest.approx(value, abs=1e-12)


def test_answers_are_compared_inside_the_kind_of_question():
    answers = ["a", "b", "a", "a", "b", "c"]
    groups = ["w", "m", "w", "m", "w", "w"]
    kinds = ["1", "1", "2", "2", "3", "3"]
    found = answer_divergence(answers, groups, strata=kinds)
    assert found.per_stratum == {"1": 1.0, "2": 0.0}
    assert found.value == pytest.approx(0.5)
    assert found.left_out == {"3": "no question about 'm'"}
    with pytest.raises(StatusError, match="no kind of question"):
        answer_divergence(["a", "b"], ["w", "m"], strata=["1", "2"])


def test_parity_and_odds_by_hand():
    groups = ["w"] * 4 + ["m"] * 4
    true = ["yes", "yes", "no", "no"] * 2
    said = ["yes", "no", "no", "no", "yes", "yes", "yes", "no"]
    parity = demographic_parity(said, groups)
    assert (parity.difference, parity.ratio) == (0.5, pytest.approx(1 / 3))
    assert parity.by_group == {"m": 0.75, "w": 0.25}
    odds = equalized_odds(true, said, groups)
    assert odds.by_group == {"m": (1.0, 0.5), "w": (0.5, 0.0)}
    assert (odds.difference, odds.status) == (0.5, "ok")
    assert equalized_odds(true, said, groups, agg="mean").difference == 0.5


def test_a_group_without_positives_has_no_rate():
    found = equalized_odds(["yes", "no", "no", "no"], ["yes", "no", "no", "no"], ["w", "w", "m", "m"])
    assert math.isnan(found.difference)
    assert found.status == "empty group"
    assert "'m' has no question whose true answer is 'yes'" in found.reason
    assert math.isnan(found.by_group["m"][0])
    assert found.by_group["w"] == (1.0, 0.0)


def test_error_rates():
    assert error_rate_ratio([1, 0, 1, 0.5], ["w", "w", "m", "m"]).ratio == pytest.approx(0.5)
    assert error_rate_ratio([1, 1], ["w", "m"]).ratio == 1
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        error_rate_ratio([2, 1], ["w", "m"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: group_gap([1, np.nan], ["w", "m"]), DataError, "position 1"),
        (lambda: group_gap([1, 2], ["w"]), DataError, "2 scores but 1 labels"),
        (lambda: group_gap([1, 2], ["w", "w"]), StatusError, "only one group"),
        (lambda: group_gap([1, 2], ["w", "m"], first="x", second="m"), DataError, "no group 'x'"),
        (lambda: group_gap([1, 2], ["w", "m"], first="w"), DataError, "both groups"),
        (lambda: worst_group([1, 2], ["w", "m"], levels=["w", "m", "x"]), StatusError, "'x'"),
        (lambda: demographic_parity(["yes", None], ["w", "m"]), DataError, "position 1"),
        (lambda: equalized_odds(["yes"], ["yes"], ["w"], agg="max"), DataError, "agg='max'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
