"""`clipbias gate`: what passes, what does not, and that nothing passes for want of a number."""

from __future__ import annotations

import math

import made_runs
import pandas as pd
import pytest
from made_runs import row

from clipbias.commands import gate
from clipbias.commands.gate import judge

A, B = "zoo:a", "zoo:b"


@pytest.fixture
def run(tmp_path):
    rows = [
        row(A, "max_skew", 0.15, 0.03), row(B, "max_skew", 0.25, 0.03), row(A, "max_skew", 0.3, 0.03, view="kitchen"),
        row(A, "max_skew", 0.9, probe="nurse"), row(A, "normalized_entropy", 0.8, 0.05), row(B, "normalized_entropy", 0.95, 0.02),
        row(A, "max_skew", 0.1, 0.02, attribute="tone"),
    ]  # fmt: skip
    return made_runs.write(tmp_path / "run", rows)


def call(run, *words):
    return gate.main([str(run.path), *map(str, words)])


def test_within_its_bounds_a_run_passes(run, capsys):
    assert call(run, "--max", "max_skew=.3", "--min", "normalized_entropy=.8") == 0
    assert "6 values judged: 6 within, 0 exceed, 0 without a number." in capsys.readouterr().out


def test_what_exceeds_is_named(run, capsys):
    assert call(run, "--max", "max_skew=.2") == 1
    told = capsys.readouterr().out
    for word in (B, "people", "gender", "kitchen", "<= 0.2", "exceeds"):
        assert word in told
    assert "0.15" not in told  # what is within is not listed


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--max", "max_skew=.2", "--view", "global", "--models", A], 0), (["--max", "max_skew=.2", "--view", "global"], 1),
     (["--max", "max_skew=.16", "--view", "global", "--models", A, "--use", "upper"], 1),
     (["--max", "max_skew=.18", "--view", "global", "--models", A, "--use", "upper"], 0),
     (["--min", "normalized_entropy=.79", "--models", A], 0), (["--min", "normalized_entropy=.79", "--models", A, "--use", "upper"], 1),
     (["--max", "max_skew=.1", "--attribute", "tone"], 1), (["--max", "max_skew=.3", "--each-probe"], 1),
     (["--max", "max_skew=.25", "--view", "global"], 0)],
)  # fmt: skip
def test_filters_and_the_worse_end_of_the_interval(run, words, code):
    # tone has no row of model b, which was asked for: that is no pass
    assert call(run, *words) == code


def test_a_number_that_could_not_be_computed_does_not_pass(tmp_path, capsys):
    rows = [
        row(A, "max_skew", 0.1),
        row(A, "max_skew", None, view="park", status="empty group", reason="no woman in the park."),
    ]
    run = made_runs.write(tmp_path / "run", rows)
    assert call(run, "--max", "max_skew=1") == 1
    told = capsys.readouterr().out
    assert "empty group: no woman in the park." in told
    assert call(run, "--max", "max_skew=1", "--allow-missing") == 0
    assert "1 without a number (allowed)" in capsys.readouterr().out
    assert call(run, "--max", "max_skew=1", "--view", "global") == 0


def test_without_an_interval_nothing_is_shown_to_be_within(tmp_path, capsys):
    run = made_runs.write(tmp_path / "run", [row(A, "max_skew", 0.1, ci_low=None, ci_high=None)])
    assert call(run, "--max", "max_skew=1") == 0
    assert call(run, "--max", "max_skew=1", "--use", "upper") == 1
    assert "it has no interval" in capsys.readouterr().out


def test_a_model_that_failed_does_not_pass_by_its_absence(run, capsys):
    run.update_manifest(config={"models": [A, B, "zoo:gone"]})
    assert call(run, "--max", "max_skew=9") == 1
    assert "zoo:gone" in capsys.readouterr().out
    assert call(run, "--max", "max_skew=9", "--models", A) == 0
    assert call(run, "--max", "max_skew=9", "--models", "zoo:gone") == 1


def test_values_at_infinity_are_held_against_the_bound(tmp_path):
    rows = [
        row(A, "max_skew", math.inf, ci_low=None, ci_high=None),
        row(A, "min_skew", -math.inf, ci_low=None, ci_high=None),
    ]
    found = judge(
        made_runs.write(tmp_path / "run", rows),
        [("max_skew", "max", 5.0), ("min_skew", "min", -5.0)],
        use="upper",
    )
    assert found["verdict"].tolist() == ["exceeds", "exceeds"]


def test_qualities_of_all_people_go_with_an_attribute(tmp_path):
    post = {"stage": "post", "task": "vqa", "head": "answers", "mode": "frozen", "seed": "0"}
    extrinsic = [row(A, "vqa_accuracy", 70.0, attribute="", **post), row(A, "flip_rate", 0.01, **post)]
    blind = row(A, "vqa_accuracy", 20.0, attribute="", **(post | {"mode": "blind"}))
    run = made_runs.write(tmp_path / "run", [row(A, "max_skew", 0.1)], [*extrinsic, blind])
    assert call(run, "--min", "vqa_accuracy=60", "--max", "flip_rate=.05", "--attribute", "gender") == 0
    assert call(run, "--min", "vqa_accuracy=75", "--attribute", "gender") == 1


def test_the_table_can_be_written(run, tmp_path):
    out = tmp_path / "gate.csv"
    assert call(run, "--max", "max_skew=.2", "--out", out, "--quiet") == 1
    table = pd.read_csv(out)
    assert set(table["verdict"]) == {"within", "exceeds"}
    assert len(table) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--max", "max_skw=.2"], "Did you mean 'max_skew'"), (["--max", "max_skew"], "is not METRIC=NUMBER"),
     (["--max", "max_skew=abc"], "is not METRIC=NUMBER"), (["--max", "max_skew=nan"], "is not METRIC=NUMBER"),
     (["--max", "max_skew=.2", "--view", "globl"], "Did you mean 'global'"), (["--max", "max_skew=.2", "--models", "zoo:bb"], "Did you mean"),
     (["--max", "max_skew=.2", "--view", "kitchen", "--attribute", "tone"], "no row with")],
)  # fmt: skip
def test_nothing_to_judge_is_exit_code_two(run, capsys, words, message):
    assert call(run, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_run_and_no_bound(tmp_path, capsys):
    assert gate.main([str(tmp_path), "--max", "max_skew=1"]) == 2
    assert "is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        gate.main([str(tmp_path)])
    assert end.value.code == 2
