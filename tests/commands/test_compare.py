"""`clipbias compare`: the differences, their intervals by hand, and how it says no."""

from __future__ import annotations

import math

import made_runs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import row, with_probes
from scipy import stats

from clipbias.commands import compare as verb
from clipbias.commands.compare import compare
from clipbias.commands.differences import PAIRED, SEPARATE, _separate

A, B = "zoo:a", "zoo:b"


@pytest.fixture
def one_run(tmp_path):
    shifted = tuple(
        s + d for s, d in zip(made_runs.OFFSETS, (0.01, -0.01, 0.02, -0.02, 0.03, -0.03), strict=True)
    )
    rows = [
        *with_probes(A, "max_skew", 0.2), *with_probes(B, "max_skew", 0.5, shifted),
        row(A, "normalized_entropy", 0.9, 0.03), row(B, "normalized_entropy", 0.5, 0.04),
        row(A, "c_asc", -0.3, group="woman"), row(A, "c_asc", 0.3, group="man"),
        row(B, "c_asc", 0.3, group="woman"), row(B, "c_asc", -0.3, group="man"),
        row(A, "max_skew", None, view="kitchen", status="empty group", reason="no woman is there."),
        row(B, "max_skew", 0.4, view="kitchen"), row(B, "max_skew", 0.4, view="park"),
    ]  # fmt: skip
    return made_runs.write(tmp_path / "run", rows)


def only(table, metric, **more):
    mine = table[table["metric"] == metric]
    for column, value in more.items():
        mine = mine[mine[column] == value]
    assert len(mine) == 1
    return mine.iloc[0]


def test_probes_of_the_same_images_are_paired(one_run):
    found = only(
        compare(one_run.path, one_run.path, a={"model": A}, b={"model": B}), "max_skew", view="global"
    )
    deltas = 0.3 + np.array([0.01, -0.01, 0.02, -0.02, 0.03, -0.03])
    half = stats.t.ppf(0.975, 5) * deltas.std(ddof=1) / math.sqrt(6)
    assert found["method"] == PAIRED
    assert found["probes"] == 6
    assert found["difference"] == pytest.approx(0.3)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((0.3 - half, 0.3 + half))
    assert found["p"] == pytest.approx(stats.ttest_1samp(deltas, 0).pvalue)
    assert found["closer_to_ideal"] == "A"
    assert found["group"] == "man"


def test_without_probes_the_two_intervals_are_put_together(one_run):
    found = only(compare(one_run.path, one_run.path, a={"model": A}, b={"model": B}), "normalized_entropy")
    assert found["method"] == SEPARATE
    assert found["difference"] == pytest.approx(-0.4)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((-0.45, -0.35))  # hypot(0.03, 0.04)
    assert found["closer_to_ideal"] == "A"  # 0.9 is closer to 1


def test_values_per_group_are_paired_by_group_and_opposite_signs_are_said(one_run):
    table = compare(one_run.path, one_run.path, a={"model": A}, b={"model": B})
    found = only(table, "c_asc", group="man")
    assert found["difference"] == pytest.approx(-0.6)
    assert found["closer_to_ideal"] == "opposite sides"


def test_what_cannot_be_compared_says_why_and_gives_no_number(one_run):
    table = compare(one_run.path, one_run.path, a={"model": A}, b={"model": B})
    empty = only(table, "max_skew", view="kitchen")
    assert (empty["status"], empty["reason"]) == ("empty group", "A: no woman is there.")
    assert only(table, "max_skew", view="park")["status"] == "only in B"
    for found in (empty, only(table, "max_skew", view="park")):
        assert math.isnan(found["difference"])
        assert math.isnan(found["p"])
    holm = table["p_holm"].dropna()
    assert (holm >= table.loc[holm.index, "p"]).all()


def test_two_runs_pair_models_by_name_and_other_images_are_not_paired(tmp_path):
    before = made_runs.write(tmp_path / "before", with_probes(A, "max_skew", 0.5))
    after = made_runs.write(tmp_path / "after", with_probes(A, "max_skew", 0.2))
    assert only(compare(before.path, after.path), "max_skew")["method"] == PAIRED
    after.update_manifest(data={"people": "e" * 64})
    found = only(compare(before.path, after.path), "max_skew")
    assert found["method"] == SEPARATE
    assert found["difference"] == pytest.approx(-0.3)
    assert found["ci_high"] == pytest.approx(-0.3 + math.hypot(0.1, 0.1))


def test_two_runs_of_one_model_each_need_no_names(tmp_path):
    one = made_runs.write(tmp_path / "1", [row(A, "max_skew", 0.5)])
    two = made_runs.write(tmp_path / "2", [row(B, "max_skew", 0.2)])
    found = only(compare(one.path, two.path), "max_skew")
    assert (found["a"], found["b"]) == (A, B)


def test_before_and_after_an_intervention(tmp_path):
    post = {"stage": "post", "task": "vqa", "head": "answers", "mode": "frozen", "seed": "0"}
    rows = [row(A, "flip_rate", 0.3, **post), row(A, "flip_rate", 0.1, intervention="reweight", **post)]
    blind = row(A, "flip_rate", 0.0, **(post | {"mode": "blind"}))
    run = made_runs.write(tmp_path / "run", [row(A, "max_skew", 0.1)], [*rows, blind])
    table = compare(
        run.path, run.path, a={"intervention": "", "stage": "post"}, b={"intervention": "reweight"}
    )
    found = only(table, "flip_rate")
    assert found["difference"] == pytest.approx(-0.2)
    assert found["closer_to_ideal"] == "B"
    assert set(table["mode"]) == {"frozen"}


def test_other_protocols_and_missing_intervals_are_not_glossed_over(tmp_path):
    one = made_runs.write(tmp_path / "1", [row(A, "max_skew", 0.5), row(A, "c_asc", 0.1, group="man")])
    two = made_runs.write(
        tmp_path / "2",
        [
            row(A, "max_skew", 0.2, protocol="p2"),
            row(A, "c_asc", 0.2, group="man", ci_low=None, ci_high=None),
        ],
    )
    table = compare(one.path, two.path)
    assert only(table, "max_skew")["status"] == "other protocol"
    bare = only(table, "c_asc")
    assert bare["status"] == "no interval"
    assert bare["difference"] == pytest.approx(0.1)
    assert bare["closer_to_ideal"] == ""


def test_a_pooled_rate_is_not_paired_over_its_probes(tmp_path):
    rows = [r for m, v in ((A, 0.1), (B, 0.3)) for r in with_probes(m, "max_skew", v)]
    for r in rows:
        if not r.get("probe"):
            r["value"] += 0.02
    run = made_runs.write(tmp_path / "run", rows)
    assert only(compare(run.path, run.path, a={"model": A}, b={"model": B}), "max_skew")["method"] == SEPARATE


value = st.floats(-5, 5)
arm = st.floats(0.01, 2)


@given(value, value, arm, arm, arm, arm)
def test_the_interval_holds_the_difference_and_turns_round_with_the_sides(a, b, la, ua, lb, ub):
    one, two = {"ci_low": a - la, "ci_high": a + ua}, {"ci_low": b - lb, "ci_high": b + ub}
    there, back = _separate(a, b, one, two, 0.95), _separate(b, a, two, one, 0.95)
    assert there["ci_low"] <= b - a <= there["ci_high"]
    assert there["ci_low"] == pytest.approx(-back["ci_high"])
    assert there["p"] == pytest.approx(back["p"])
    if abs(b - a) > 1e-6:
        outside = there["ci_low"] > 0 or there["ci_high"] < 0
        assert outside == (there["p"] < 0.05) or abs(there["p"] - 0.05) < 1e-9


def test_the_command_prints_and_writes_both_forms(one_run, capsys):
    assert verb.main([str(one_run.path), "--models", A, B]) == 0
    told = capsys.readouterr().out
    assert "max_skew" in told
    assert PAIRED in told
    assert "kitchen" not in told  # another view
    files = sorted((one_run.path / "comparisons").iterdir())
    assert [f.suffix for f in files] == [".csv", ".parquet"]
    assert "max_skew" in set(pd.read_csv(files[0])["metric"])
    assert len(pd.read_parquet(files[1])) == len(pd.read_csv(files[0]))
    assert one_run.tables() == ["intrinsic", "metrics", "models"]  # the run is as it was


def test_filters_and_an_own_file(one_run, tmp_path, capsys):
    out = tmp_path / "own" / "x.csv"
    assert (
        verb.main(
            [
                str(one_run.path),
                "--models",
                A,
                B,
                "--metric",
                "max_skew",
                "--view",
                "global",
                "--out",
                str(out),
                "--quiet",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == f"{out}\n"
    assert pd.read_csv(out)["metric"].tolist() == ["max_skew"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["{run}", "--models", "zoo:a", "zoo:bb"], "Did you mean 'zoo:b'"), (["{run}", "nowhere", "--quiet"], "nowhere does not exist"),
     (["{run}", "--models", A, B, "--metric", "max_skw"], "Did you mean 'max_skew'"),
     (["{run}", "--a", "modl=x", "--b", "model=y"], "Did you mean 'model'"), (["{run}", "--a", "x", "--b", "y"], "is not COLUMN=LEVEL"),
     (["{run}", "--models", A, B, "--out", "x.txt"], ".csv or .parquet")],
)  # fmt: skip
def test_a_mistake_is_one_message_and_exit_code_two(one_run, capsys, words, message):
    assert verb.main([w.format(run=one_run.path) for w in words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["a"], ["a", "b", "c"], ["a", "--models", "x"], ["a", "b", "--models", "x", "y", "z"]]
)
def test_bad_usage(words, capsys):
    with pytest.raises(SystemExit) as end:
        verb.main(words)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err
