"""The answer classifier's own: soft targets."""

from __future__ import annotations

import math

import pytest
import torch
import toy_scenes as toy

from clipbias.errors import DataError
from clipbias.tasks.heads import build_head
from clipbias.tasks.heads.base import TextBatch

SMALL = {"width": 32, "hidden": 48, "heads": 2}


@pytest.fixture
def head():
    return build_head("answers", toy.setting("vqa", **SMALL)).eval()


def test_before_training_the_loss_is_about_that_of_the_base_rate(head):
    a = len(head.setting.answers)
    expected = math.log(a) + (a - 1) * math.log(a / (a - 1))  # every answer with probability 1 / a
    with torch.no_grad():
        loss = float(head.loss(*toy.batch("vqa")))
    assert loss == pytest.approx(expected, rel=0.15)


def test_soft_targets_count_and_one_hot_ones_equal_the_targets(head):
    seen, texts = toy.batch("vqa")
    hot = torch.zeros(len(texts.targets), len(head.setting.answers))
    hot[torch.arange(len(hot)), [head.setting.answers.index(t) for t in texts.targets]] = 1
    same = head.losses(seen, TextBatch(texts.questions, [], hot))
    torch.testing.assert_close(same, head.losses(seen, texts))
    half = head.losses(seen, TextBatch(texts.questions, [], hot / 2))
    assert not torch.allclose(same, half)


def test_a_target_outside_of_the_list_makes_no_answer_right(head):
    seen, texts = toy.batch("vqa")
    none = torch.zeros(len(texts.targets), len(head.setting.answers))
    outside = head.losses(seen, TextBatch(texts.questions, ["a submarine"] * len(texts.targets)))
    torch.testing.assert_close(outside, head.losses(seen, TextBatch(texts.questions, [], none)))


def test_soft_targets_of_another_shape_are_refused(head):
    seen, texts = toy.batch("vqa")
    with pytest.raises(DataError, match="one number for each pair"):
        head.loss(seen, TextBatch(texts.questions, [], torch.zeros(3, 3)))
    with pytest.raises(DataError, match="no soft targets"):
        head.loss(seen, TextBatch(texts.questions))


def test_long_and_empty_questions_are_read(head):
    seen, _ = toy.batch("vqa")
    asked = ["", "who " * 200] * 16
    assert len(head.predict(seen, TextBatch(asked))) == 32
