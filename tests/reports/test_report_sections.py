"""What single sections decide: which systems are on the front, what a verdict is called, what a chart leaves out."""

from __future__ import annotations

import pandas as pd
import pytest

from clipbias.reports import words
from clipbias.reports.sections import Context
from clipbias.reports.sections.interventions import _pairs, _zero_is_fair
from clipbias.reports.sections.transfer import spoken
from clipbias.reports.shared import Shared
from clipbias.reports.tables import read
from clipbias.reports.theme import Theme


@pytest.fixture
def ctx() -> Context:
    return Context(read({}), Theme.load(), Shared(), {"higher_is_better": ["auc", "worst_group"]})


def systems(metric: str, bias: dict[str, float]) -> pd.DataFrame:
    same = {
        "source": "",
        "world": "planted",
        "model": "m",
        "task": "vqa",
        "mode": "frozen",
        "role": "real",
        "attribute": "gender",
    }
    return pd.DataFrame([
        same | {"setting": name, "kind": kind, "metric": m, "value": v, "value_low": v - 0.1, "value_high": v + 0.1}
        for name, value in bias.items() for kind, m, v in (("bias", metric, value), ("quality", "auc", 0.8))
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "best"),
    [("fpr_difference", "even"), ("worst_group", "high")],
    ids=["zero is fair", "higher is fairer"],
)
def test_the_front_knows_what_is_fair(metric, best):
    values = {"low": -0.4, "even": 0.1, "high": 0.6}
    pairs = _pairs(systems(metric, values), {"worst_group"})
    assert pairs.loc[pairs["front"], "setting"].tolist() == [best]
    assert pairs.loc[pairs["named"] != "", "named"].tolist() == [best]


def test_a_line_at_zero_is_drawn_only_where_zero_is_fair(ctx):
    assert _zero_is_fair(ctx, "flip_rate", "value")
    assert _zero_is_fair(ctx, "", "fpr_difference")
    assert not _zero_is_fair(ctx, "worst_group", "value")
    assert not _zero_is_fair(ctx, "", "rank")


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("vqa answers frozen world-vqa: cka_debiased in layer projector", "VQA (answers, frozen tower), layer projector, debiased CKA"),
        ("attribute gender, intrinsic image set people, intrinsic metric max_skew, extrinsic task vqa, extrinsic metric flip_rate, mode frozen, "
         "without controls or families", "Max skew before (people) and Flip rate after (VQA), perceived gender, frozen tower, without controls or families"),
        ("max_skew against planted strength", "Max skew against planted strength"),
        ("something of a question that a user wrote", "something of a question that a user wrote"),
    ],
)  # fmt: skip
def test_the_subject_of_a_verdict_is_a_phrase(ctx, subject, told):
    assert spoken(ctx, subject) == told


def test_an_adaptation_is_named_in_words():
    assert words.adaptation("captioning decoder full world-captioning") == "Captioning (decoder, full tower)"
    assert words.adaptation("a study of its own") == "a study of its own"
    assert words.acronyms("vqa and captioning") == "VQA and captioning"
