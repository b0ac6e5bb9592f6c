"""Flip rate and ΔP on twins, pronouns, and what the numbers mean."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from clipbias.errors import DataError, StatusError
from clipbias.tasks import metrics
from clipbias.tasks.metrics import (
    FACTS,
    best_pronoun,
    delta_p,
    facts_table,
    flip_rate,
    pronoun_of,
    pronoun_resolution,
)

TIES = {"cook": "woman", "judge": "woman", "pilot": "man", "farmer": "man"}
LEVELS = ("woman", "man")


def flips(*outputs: tuple[str, str]):
    said = {(i, side): out for i, pair in enumerate(outputs) for side, out in enumerate(pair)}
    return flip_rate(said, [((i, 0), (i, 1)) for i in range(len(outputs))], ties=TIES, levels=LEVELS)


def test_flips_have_a_direction():
    found = flips(("cook", "pilot"), ("cook", "cook"), ("pilot", "cook"), ("cook", "judge"), ("cook", "none"))
    # Towards, none, against, a flip without direction (both are tied to women), half of one.
    assert found.per_pair[:, 0].tolist() == [1, 0, 1, 1, 1]
    assert found.per_pair[:, 1].tolist() == [1, 0, -1, 0, 0.5]
    assert (found.value, found.signed, found.towards) == (0.8, pytest.approx(0.1), pytest.approx(2 / 3))
    assert (found.n, found.flips) == (5, 4)


def test_without_ties_there_is_no_direction():
    found = flip_rate({"a": "x", "b": "y"}, [("a", "b")])
    assert found.value == 1
    assert math.isnan(found.signed)
    assert math.isnan(found.towards)


def test_delta_p_of_certain_answers_is_the_flip_rate():
    answers = ["cook", "pilot", "farmer"]
    p = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1], "d": [0, 0, 1]}
    found = delta_p(p, [("a", "b"), ("c", "d")], answers, ties=TIES, levels=LEVELS)
    said = {k: answers[int(np.argmax(v))] for k, v in p.items()}
    flipped = flip_rate(said, [("a", "b"), ("c", "d")], ties=TIES, levels=LEVELS)
    assert (found.value, found.signed) == (flipped.value, flipped.signed) == (0.5, 0.5)


def test_delta_p_by_hand():
    p = {"a": [0.6, 0.3], "b": [0.2, 0.3]}
    found = delta_p(p, [("a", "b")], ["cook", "pilot"], ties=TIES, levels=LEVELS)
    # 0.4 moves from "cook" to an answer that is not listed.
    assert found.value == pytest.approx(0.4)
    assert found.signed == pytest.approx(0.2)
    assert math.isnan(delta_p(p, [("a", "b")], ["cook", "pilot"]).signed)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flip_rate({}, []), StatusError, "no twin pairs"),
        (lambda: flip_rate({"a": "x"}, [("a", "b")]), DataError, "twin 'b' has no output"),
        (lambda: flip_rate({"a": "x", "b": "x"}, [("a", "b")], ties=TIES), DataError, "two levels"),
        (
            lambda: delta_p({"a": [1], "b": [1, 0]}, [("a", "b")], ["x", "y"]),
            DataError,
            "'a' has probabilities of shape",
        ),
        (lambda: delta_p({"a": [2.0], "b": [1]}, [("a", "b")], ["x"]), DataError, "more than 1"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_pronouns():
    said = pronoun_of(["the doctor and her patient", "he waves", "a nurse", "They left him"])
    assert said.tolist() == ["feminine", "masculine", "neutral", "neutral"]
    assert best_pronoun([[0.2, 0.5, 0.3], [1, 0, 0]]).tolist() == ["feminine", "masculine"]
    found = pronoun_resolution(
        ["his hat", "her hat", "a hat", "his"], ["masculine", "masculine", "feminine", "feminine"]
    )
    assert (found.masculine, found.feminine, found.gap) == (0.5, 0.0, 0.5)
    with pytest.raises(DataError, match="no pronoun"):
        best_pronoun([[1.0]], ["its"])
    with pytest.raises(DataError, match="shape"):
        best_pronoun([[1.0]])


def test_every_metric_says_what_it_means():
    table = facts_table()
    assert table["metric"].is_unique
    assert list(table) == [
        "metric", "title", "range_low", "range_high", "ideal", "unit", "sign", "direction", "interval", "reference",
    ]  # fmt: skip
    for fact in FACTS.values():
        assert fact.range[0] < fact.range[1], fact.name
        assert math.isnan(fact.ideal) or fact.range[0] <= fact.ideal <= fact.range[1], fact.name
        assert all((fact.title, fact.unit, fact.sign, fact.direction, fact.interval_text, fact.reference)), (
            fact.name
        )
        # A number without an ideal is shown beside others and does not rank models.
        assert math.isnan(fact.ideal) == (fact.kind == "rate"), fact.name
    assert facts_table(["lic", "cider"])["metric"].tolist() == ["lic", "cider"]
    with pytest.raises(DataError, match="Did you mean 'cider'"):
        metrics.facts("ciderr")


def test_functions_win_over_modules_of_the_same_name():
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    assert callable(metrics.leakage)
    assert callable(metrics.lic)


def test_importing_the_metrics_imports_no_torch():
    program = "import sys, clipbias.tasks.metrics; print([m for m in ('torch', 'open_clip', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
