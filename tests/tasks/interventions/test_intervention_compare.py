"""A run's table of interventions: each beside its twins, changes paired by seed."""

from __future__ import annotations

import pandas as pd
import pytest

from clipbias.results import rows as result_rows
from clipbias.tasks.interventions.compare import compared, does, with_twins

WHO = {
    "model": "zoo:x",
    "stage": "post",
    "task": "vqa",
    "head": "answers",
    "mode": "frozen",
    "image_set": "w",
    "view": "global",
}


def extrinsic(values):
    """Rows of two metrics by (setting, seed)."""
    made = []
    for (setting, seed), (bias, quality) in values.items():
        base = {**WHO, "intervention": setting, "seed": seed, "status": "ok", "n": 100}
        made.append(
            {
                **base,
                "metric": "flip_rate",
                "attribute": "gender",
                "value": bias,
                "ci_low": bias - 0.03,
                "ci_high": bias + 0.03,
            }
        )
        made.append(
            {
                **base,
                "metric": "vqa_accuracy",
                "value": quality,
                "ci_low": quality - 1,
                "ci_high": quality + 1,
            }
        )
    return result_rows.table(made)


def adapted(settings, seeds=("0",)):
    plan = "labels: answers; seen in training: label; label, group of the tuning images; seen in selection: none; images used: 50; effective images: 40.5"
    return pd.DataFrame(
        [{**{k: WHO[k] for k in ("model", "task", "head", "mode")}, "intervention": s, "seed": seed, "plan": plan if s else "", "training_seconds": 2.0}
         for s in settings for seed in seeds]
    )  # fmt: skip


def test_twins_come_by_themselves_and_once():
    assert with_twins(["group_dro", "resample"], "vqa") == [
        "group_dro", "resample", "group_dro:shuffled=true", "resample:objective=y", "resample:shuffled=true",
    ]  # fmt: skip
    assert with_twins(["rebalance:phi=0,seed=3"], "vqa")[2] == "rebalance:phi=0,shuffled=true,seed=3"
    assert not does("calibrate_posterior", "captioning")
    assert with_twins(["calibrate_posterior"], "captioning") == []


def test_changes_of_two_seeds_are_paired():
    values = {
        ("", "0"): (0.40, 60), ("", "1"): (0.30, 50), ("resample", "0"): (0.20, 61), ("resample", "1"): (0.12, 51),
        ("resample:objective=y", "0"): (0.40, 60), ("resample:objective=y", "1"): (0.32, 50),
        ("resample:shuffled=true", "0"): (0.40, 60), ("resample:shuffled=true", "1"): (0.30, 50),
    }  # fmt: skip
    settings = list(dict.fromkeys(key[0] for key in values))
    found = compared(extrinsic(values), adapted(settings, ("0", "1")), ["resample"])
    real = found[(found["role"] == "real") & (found["metric"] == "flip_rate")].iloc[0]
    assert real["value"] == pytest.approx(0.16)
    assert real["change"] == pytest.approx(-0.20)
    assert real["change_high"] - real["change_low"] == pytest.approx(
        0, abs=1e-9
    )  # both seeds change by as much
    assert real["change_base"] == pytest.approx(-0.19)
    assert (real["n_used"], real["effective"]) == (50, 40.5)
    assert real["seen_train"] == "label; label, group of the tuning images"
    quality = found[(found["role"] == "real") & (found["kind"] == "quality")].iloc[0]
    assert quality["change"] == pytest.approx(1)
    assert set(found["role"]) == {"base", "real", "plain", "null"}


def test_one_seed_puts_both_intervals_together():
    values = {("", "0"): (0.40, 60), ("resample", "0"): (0.20, 61), ("resample:objective=y", "0"): (0.40, 60)}
    found = compared(extrinsic(values), adapted(["", "resample", "resample:objective=y"]), ["resample"])
    real = found[(found["role"] == "real") & (found["metric"] == "flip_rate")].iloc[0]
    assert real["change_low"] == pytest.approx(-0.20 - (2 * 0.03**2) ** 0.5)
    missing = found[found["role"] == "null"].iloc[0]
    assert missing["status"] == "not run"
    assert "resample:shuffled=true" in missing["reason"]


def test_what_was_not_competent_says_so():
    rows = extrinsic({("", "0"): (0.4, 60), ("resample", "0"): (0.2, 61)})
    mine = (rows["intervention"] == "resample") & (rows["metric"] == "flip_rate")
    rows.loc[mine, ["value", "ci_low", "ci_high"]] = float("nan")
    rows.loc[mine, ["status", "reason"]] = ["not competent", "too few right"]
    found = compared(rows, adapted(["", "resample"]), ["resample"])
    row = found[(found["setting"] == "resample") & (found["metric"] == "flip_rate")].iloc[0]
    assert (row["status"], row["reason"]) == ("not competent", "too few right")


def test_adapt_runs_the_twins_and_keeps_states_of_what_was_asked_for():
    from clipbias.adapt import units_of
    from clipbias.tasks import recipe

    recipes = [recipe.load(task) for task in ("vqa", "captioning")]
    units = units_of(["zoo:vit-50"], recipes=recipes, interventions=["calibrate_posterior"], controls=False)
    said = [(unit.task, unit.intervention, unit.states) for unit in units if unit.intervention]
    assert said == [
        ("vqa", "calibrate_posterior", "post"), ("vqa", "calibrate_posterior:margin=1", ""),
        ("vqa", "calibrate_posterior:shuffled=true", ""),
    ]  # fmt: skip
    alone = units_of(["zoo:vit-50"], recipes=recipes, interventions=["resample"], twins=False, controls=False)
    assert [unit.intervention for unit in alone if unit.intervention] == ["resample", "resample"]
    assert not [
        unit for unit in units_of(["zoo:vit-50"], recipes=recipes, controls=False) if unit.intervention
    ]
