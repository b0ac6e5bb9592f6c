"""What holds for every shipped head."""

from __future__ import annotations

import pytest
import torch
import toy_scenes as toy

from clipbias.errors import ClipbiasError, DataError
from clipbias.tasks.heads import build_head, check_head, head_names
from clipbias.tasks.heads.base import Features, HeadSetting, TextBatch

SMALL = {"width": 32, "hidden": 48, "heads": 2, "layers": 1}
PREFIX = SMALL | {"prefix": 3, "dropout": 0.0}
CASES = {
    "answers-vqa": ("answers", "vqa", SMALL),
    "decoder-vqa": ("decoder", "vqa", SMALL),
    "decoder-captioning": ("decoder", "captioning", SMALL),
    "prefix-captioning": ("prefix", "captioning", PREFIX),
    "prefix-vqa": ("prefix", "vqa", PREFIX),
    "prefix-transformer": ("prefix", "captioning", PREFIX | {"mapper": "transformer", "mapper_layers": 1}),
    "llava-captioning": ("llava", "captioning", SMALL),
    "llava-vqa": ("llava", "vqa", SMALL),
}  # fmt: skip


def build(case: str, seed: int = 0):
    name, task, options = CASES[case]
    return build_head(name, toy.setting(task, **options), seed=seed), task


@pytest.fixture(scope="module", params=CASES)
def trained(request):
    head, task = build(request.param)
    return head, task, toy.learn(head, task, steps=300 if request.param.startswith("prefix") else 150)


def test_learns_a_small_task_by_heart(trained):
    head, task, _ = trained
    seen, texts = toy.batch(task)
    said = head.predict(seen, TextBatch(texts.questions))
    assert [one.text for one in said] == texts.targets
    assert all(0.5 < one.score <= 1 + 1e-5 for one in said)


def test_one_beam_is_greedy_and_more_beams_find_nothing_less_probable(trained):
    head, task, _ = trained
    seen, texts = toy.batch(task)
    asked = TextBatch(texts.questions)
    greedy, one, three = (head.predict(seen, asked, **k) for k in ({}, {"beams": 1}, {"beams": 3}))
    assert greedy == one
    assert all(b.score >= a.score - 1e-4 for a, b in zip(greedy, three, strict=True))


def test_answer_probabilities_agree_with_what_is_written(trained):
    head, task, _ = trained
    seen, texts = toy.batch(task)
    if task == "captioning":
        with pytest.raises(ClipbiasError, match="answer list"):
            head.answer_probabilities(seen, TextBatch(texts.questions))
        return
    found = head.answer_probabilities(seen, TextBatch(texts.questions))
    assert found.shape == (len(texts.targets), len(head.setting.answers))
    assert (found >= 0).all()
    assert (found.sum(1) <= 1 + 1e-5).all()
    assert [head.setting.answers[i] for i in found.argmax(1)] == texts.targets
    for row, one in zip(found, head.predict(seen, TextBatch(texts.questions)), strict=True):
        assert float(row[head.setting.answers.index(one.text)]) == pytest.approx(one.score, abs=1e-4)


def test_a_row_does_not_depend_on_its_batch(trained):
    head, task, _ = trained
    seen, texts = toy.batch(task)
    rows = [3, len(texts.questions) - 1]
    few = Features(seen.pooled[rows], seen.tokens[rows])
    some = TextBatch([texts.questions[i] for i in rows], [texts.targets[i] for i in rows])
    with torch.no_grad():
        torch.testing.assert_close(
            head.losses(few, some), head.losses(seen, texts)[rows], atol=1e-4, rtol=1e-3
        )
    whole = head.states(seen, TextBatch(texts.questions))
    for name, values in head.states(few, TextBatch(some.questions)).items():
        torch.testing.assert_close(values, whole[name][rows], atol=1e-4, rtol=1e-3)


def test_states_have_one_row_per_image(trained):
    head, task, _ = trained
    seen, texts = toy.batch(task)
    states = head.states(seen, TextBatch(texts.questions))
    assert "projector" in states
    assert len(states) >= 2
    for values in states.values():
        assert values.ndim == 2
        assert len(values) == len(seen.pooled)
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_parameters_and_the_random_state_is_left_alone(case):
    before = torch.get_rng_state()
    (one, _), (same, _), (other, _) = build(case, 7), build(case, 7), build(case, 8)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert any(not torch.equal(v, other.state_dict()[name]) for name, v in one.state_dict().items())


@pytest.mark.parametrize("case", CASES)
def test_loss_is_the_mean_of_the_losses(case):
    head, task = build(case)
    head.eval()
    seen, texts = toy.batch(task)
    with torch.no_grad():
        losses, loss = head.losses(seen, texts), head.loss(seen, texts)
    assert losses.shape == (len(texts.targets),)
    assert float(loss) == pytest.approx(float(losses.mean()))


@pytest.mark.parametrize("case", CASES)
def test_every_trainable_parameter_gets_a_gradient(case):
    head, task = build(case)
    head.loss(*toy.batch(task)).backward()
    unused = [name for name, p in head.named_parameters() if p.requires_grad and p.grad is None]
    # The prefix reads the pooled embedding, LLaVA the tokens; whatever they have is used.
    assert unused == []


@pytest.mark.parametrize("case", CASES)
def test_trainable_size_hardly_depends_on_the_tower(case):
    name, task, _ = CASES[case]
    small = toy.setting(task)
    wide = HeadSetting(task, 96, 512, small.vocabulary, small.answers)
    narrow = HeadSetting(task, 96, 96, small.vocabulary, small.answers)
    a, b = (sum(p.numel() for p in build_head(name, s).parameters()) for s in (wide, narrow))
    assert abs(a - b) <= 128 * (512 - 96)  # the first layer alone


@pytest.mark.parametrize("case", CASES)
def test_features_of_another_tower_are_refused(case):
    head, task = build(case)
    seen, texts = toy.batch(task)
    with pytest.raises(DataError, match=r"width 12 \(pooled\) and 10 \(tokens\); these have 12 and 9"):
        head.predict(Features(seen.pooled, seen.tokens[..., :9]), TextBatch(texts.questions))
    with pytest.raises(DataError, match="questions"):
        head.loss(Features(seen.pooled[:3], seen.tokens[:3]), texts)
    with pytest.raises(DataError, match="one batch"):
        head.loss(Features(seen.pooled[:3], seen.tokens), texts)


@pytest.mark.parametrize("answers", [(), ("yes",)])
@pytest.mark.parametrize("name", ["answers", "decoder", "prefix", "llava"])
def test_too_short_answer_lists_are_refused(name, answers):
    made = HeadSetting("vqa", toy.POOLED, toy.TOKEN, toy.VOCABULARY, answers)
    with pytest.raises(DataError, match=f"was given {len(answers)}; it needs at least 2"):
        build_head(name, made)


def test_an_answer_twice_is_refused():
    made = HeadSetting("vqa", toy.POOLED, toy.TOKEN, toy.VOCABULARY, ("yes", "no", "yes"))
    with pytest.raises(DataError, match="'yes' more than once"):
        build_head("answers", made)


@pytest.mark.parametrize("name", ["answers", "decoder", "prefix", "llava"])
def test_unknown_options_name_the_nearest(name):
    with pytest.raises(DataError, match="Did you mean 'width'"):
        build_head(name, toy.setting("vqa", widht=3))
    with pytest.raises(DataError, match="is int, not 'wide'"):
        build_head(name, toy.setting("vqa", width="wide"))
    with pytest.raises(DataError, match="no multiple of 4 heads"):
        build_head(name, toy.setting("vqa", width=30))


def test_unknown_heads_and_tasks():
    with pytest.raises(ClipbiasError, match="Did you mean 'decoder'"):
        check_head("decodr", "vqa")
    with pytest.raises(ClipbiasError, match="does vqa, not captioning; heads for captioning: .*decoder"):
        check_head("answers", "captioning")
    assert {"answers", "decoder", "prefix", "llava"} <= set(head_names("vqa"))
    assert "answers" not in head_names("captioning")


def test_targets_that_do_not_fit_are_refused():
    head, task = build("decoder-captioning")
    seen, texts = toy.batch(task)
    with pytest.raises(DataError, match="16 images came with 2 texts"):
        head.loss(seen, TextBatch(texts.questions, texts.targets[:2]))


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_on_another_device(case):
    """On the device "meta" there is no memory to fall back to: a tensor made on the CPU stops the pass."""
    head, task = build(case)
    head.to("meta")
    seen, texts = toy.batch(task)
    there = Features(seen.pooled.to("meta"), seen.tokens.to("meta"))
    if hasattr(head, "language"):  # the language models themselves read values, which "meta" has not
        assert head.visual(there).device.type == "meta"
        return
    losses = head.losses(there, texts)
    assert losses.device.type == "meta"
    assert losses.shape == (len(texts.targets),)
    losses.mean().backward()
    assert all(p.grad.device.type == "meta" for p in head.parameters() if p.grad is not None)
    assert {v.device.type for v in head.states(there, TextBatch(texts.questions)).values()} == {"meta"}
