"""LAVIS end to end on toy pictures: its builders, processors, task loops and models, with a CLIP for eyes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lavis_toy import need_lavis, pictures, tiny_clip, toy_data

need_lavis()

from clipbias.errors import ClipbiasError, DataError  # noqa: E402
from clipbias.tasks.heads.base import Features, HeadSetting, TextBatch, build_head  # noqa: E402
from clipbias.tasks.lavis.bridge import load, register  # noqa: E402
from clipbias.tasks.lavis.files import image_name, said_of  # noqa: E402
from clipbias.tasks.lavis.run import LavisRun, train_lavis  # noqa: E402
from clipbias.tasks.lavis.words import LavisTokenizer  # noqa: E402
from clipbias.tasks.metrics.vqa import vqa_accuracy  # noqa: E402
from clipbias.tasks.predict import COLUMNS  # noqa: E402
from clipbias.tasks.vision import Tower  # noqa: E402
from clipbias.tasks.vocabulary import Vocabulary  # noqa: E402

pytestmark = [pytest.mark.lavis, pytest.mark.slow]

SMALL = {"width": 32, "layers": 1, "heads": 2, "dropout": 0.0}
FAST = {"batch_size": 16, "learning_rate": 5e-3, "model": SMALL, "max_new": 8}


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def answering(clip):
    """A VQA model that LAVIS has trained."""
    with LavisRun(clip, toy_data("vqa"), **{**FAST, "batch_size": 8, "learning_rate": 3e-3}) as run:
        run.fit(60)
        yield run


@pytest.fixture(scope="module")
def captioning(clip):
    """A captioner that LAVIS has trained."""
    with LavisRun(clip, toy_data("captioning"), **FAST) as run:
        run.fit(40)
        yield run


def truth(run, split="test"):
    return run.data.split(split)["target"].str.lower().str.rstrip(".").tolist()


# ---- the whole of LAVIS ----


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_captions_are_right(captioning, split, beams):
    found = captioning.predict(split, beams=beams)
    assert found["prediction"].tolist() == truth(captioning, split)


@pytest.mark.parametrize(("inference", "beams"), [("rank", 1), ("generate", 1), ("generate", 3)])
def test_answers_are_right_by_the_official_rule(answering, inference, beams):
    found = answering.predict(inference=inference, beams=beams)
    right = vqa_accuracy(found, answering.data.split("test"))
    assert right.overall == 100.0


def test_predictions_are_in_the_order_of_the_split(answering):
    found = answering.predict("test")
    assert found.columns.tolist() == COLUMNS
    assert found["example_id"].tolist() == answering.data.split("test")["example_id"].tolist()
    assert set(found["head"]) == {"lavis-vqa"}
    assert set(found["mode"]) == {"frozen"}


def test_the_pieces_are_those_of_lavis(answering, captioning):
    lavis = load()
    assert isinstance(answering.task, lavis.VQATask)
    assert isinstance(captioning.task, lavis.CaptionTask)
    assert isinstance(answering.model, lavis.BlipVQA)
    assert isinstance(captioning.model, lavis.BlipCaption)
    assert isinstance(captioning.model.visual_encoder, lavis.BaseEncoder)
    assert type(answering.model) is lavis.registry.get_model_class("clipbias_vqa")
    modules = {type(d).__module__ for run in (answering, captioning) for d in run.datasets.values()}
    assert modules
    assert all(name.startswith("lavis.datasets.") for name in modules)


def test_an_answer_does_not_depend_on_the_other_questions(answering):
    # Short and long questions in one batch: the short ones are padded.
    together = answering.predict(inference="generate", beams=2)["prediction"].tolist()
    answering.batch_size, before = 1, answering.batch_size
    try:
        alone = answering.predict(inference="generate", beams=2)["prediction"].tolist()
    finally:
        answering.batch_size = before
    assert together == alone


def test_lavis_sees_the_pixels_that_the_clip_sees(captioning):
    dataset = captioning.datasets["test"]
    first = captioning.data.split("test")["image_id"].iloc[0]
    row = captioning.data.images.ids.index(first)
    seen = captioning.clip.preprocess(captioning.data.images.read([row])).pixels[0]
    assert torch.equal(dataset[0]["image"], seen)


def test_the_log_says_what_training_did(captioning):
    log = captioning.log
    assert log["epoch"].tolist() == list(range(40))
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] / 2
    assert log["learning_rate"].is_monotonic_decreasing


def test_lavis_prints_nothing_and_leaves_the_random_state(clip, capsys):
    before = torch.random.get_rng_state()
    train_lavis(clip, toy_data("captioning"), epochs=1, **FAST)
    assert capsys.readouterr().out == ""
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_same_seed_gives_the_same_model(clip):
    options = {**FAST, "model": {**SMALL, "dropout": 0.1}}

    def weights(seed):
        with LavisRun(clip, toy_data("vqa"), seed=seed, **options) as run:
            run.fit(2)
            return run.predict(), torch.cat([p.flatten() for p in run.model.parameters()]), run.log["loss"]

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    second, other = weights(3), weights(4)
    pd.testing.assert_frame_equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[2].tolist() == second[2].tolist()
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_modes_train_the_tower_or_leave_it(clip, mode):
    before = {name: tensor.clone() for name, tensor in clip.network.state_dict().items()}
    with LavisRun(clip, toy_data("captioning"), mode=mode, **FAST) as run:
        tower = run.model.visual_encoder.tower
        start = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
        run.fit(3)
        moved = [name for name, tensor in tower.state_dict().items() if not torch.equal(tensor, start[name])]
        assert run.log["loss"].iloc[-1] < run.log["loss"].iloc[0]
    assert bool(moved) == (mode != "frozen")
    if mode == "lora":
        assert all("lora" in name for name in moved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in clip.network.state_dict().items())


def test_full_training_learns(clip):
    found = train_lavis(
        clip, toy_data("captioning"), "captioning", epochs=40, mode="full", **{**FAST, "learning_rate": 3e-3}
    )
    assert (
        found["prediction"].tolist()
        == toy_data("captioning").split("test")["target"].str.lower().str.rstrip(".").tolist()
    )
    assert set(found["mode"]) == {"full"}


# ---- what is wrong is said ----


def test_wrong_use_is_one_message(clip):
    captions = toy_data("captioning")
    with pytest.raises(DataError, match="is data for captioning, not for vqa"):
        train_lavis(clip, captions, "vqa")
    with pytest.raises(ClipbiasError, match="no mode 'frosen'. Did you mean 'frozen'"):
        train_lavis(clip, captions, mode="frosen")
    with pytest.raises(ClipbiasError, match="cannot be divided among 3 heads"):
        train_lavis(clip, captions, model={"width": 32, "heads": 3})


def test_an_unknown_inference_is_named(answering):
    with pytest.raises(ClipbiasError, match="no inference 'ranks'. Did you mean 'rank'"):
        answering.predict(inference="ranks")


def test_a_broken_picture_is_named(clip, tmp_path):
    with LavisRun(clip, toy_data("captioning"), folder=tmp_path, **FAST) as run:
        whole = (tmp_path / "images" / image_name(3)).read_bytes()
        # Cut off within its pixels: LAVIS makes Pillow read such files as if they were whole, unless it is stopped.
        (tmp_path / "images" / image_name(3)).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="an image cannot be read"):
            run.fit(1)


def test_a_diverging_loss_is_said(clip):
    with (
        LavisRun(clip, toy_data("captioning"), **{**FAST, "learning_rate": 1e30}) as run,
        pytest.raises(ClipbiasError, match="lower learning_rate"),
    ):
        run.fit(4)


# ---- the bridge ----


def test_lavis_is_loaded_once_and_leaves_no_traces():
    import sys

    from PIL import ImageFile

    assert load() is load()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert "/export/" not in load().registry.get_path("cache_root")
    assert getattr(sys.modules.get("spacy"), "__file__", "") is not None  # no stand-in is left behind


def test_a_class_can_be_registered_again():
    registry = load().registry
    ours = registry.get_model_class("clipbias_caption")
    register("model", "clipbias_caption", ours)
    assert registry.get_model_class("clipbias_caption") is ours
    with pytest.raises(KeyError, match="already registered"):
        register("model", "blip_caption", ours)  # LAVIS's own is not replaced


def test_the_tokenizer_keeps_the_numbers_of_the_vocabulary():
    vocabulary = Vocabulary.build(["a red square", "the person's dog"])
    tokenizer = LavisTokenizer.of(vocabulary)
    found = tokenizer(["A red square", "dog"], padding="longest", return_tensors="pt")
    expected = vocabulary.encode(["A red square", "dog"], add_bos=True, add_eos=True)
    assert np.array_equal(found.input_ids.numpy(), expected.input_ids)
    assert np.array_equal(found.attention_mask.numpy(), expected.attention_mask)
    assert tokenizer.batch_decode(found.input_ids) == ["a red square", "dog"]
    assert tokenizer.decode(found.input_ids[0]) == "a red square"
    assert (
        len({tokenizer.bos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.enc_token_id})
        == 4
    )


def test_answers_are_normalised_as_the_answer_list_is():
    assert said_of(["a Nurse", "nurse", "two"], "nurse") == ["nurse", "nurse", "2"]
    assert said_of([], "Yes") == ["yes"]


# ---- as heads ----


def toy_head(task, **options):
    tower = Tower(tiny_clip())
    images = pictures()
    seen = tower(tiny_clip().preprocess(images.read(range(len(images)))).pixels)
    data = toy_data(task)
    texts = [*data.examples["question"], *data.examples["target"]]
    answers = tuple(sorted(set(data.examples["target"]))) if task == "vqa" else ()
    setting = HeadSetting(
        task, tower.pooled_width, tower.token_width, Vocabulary.build(texts), answers,
        {"width": 32, "layers": 1, "heads": 2, "dropout": 0.0, **options},
    )  # fmt: skip
    head = build_head("lavis-vqa" if task == "vqa" else "lavis-caption", setting, seed=0)

    def batch(split):
        examples = data.split(split)
        rows = torch.as_tensor(data.image_rows(examples))
        return (
            Features(seen.pooled[rows], seen.tokens[rows]),
            TextBatch(examples["question"].tolist(), examples["target"].tolist()),
        )

    return head, batch


def learn(head, batch, steps):
    features, texts = batch("train")
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    head.train()
    for _ in range(steps):
        loss = head.loss(features, texts)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return head.eval()


@pytest.fixture(scope="module")
def vqa_head():
    head, batch = toy_head("vqa")
    return learn(head, batch, 120), batch


def test_the_vqa_head_learns(vqa_head):
    head, batch = vqa_head
    features, texts = batch("test")
    asked = TextBatch(texts.questions)
    ranked = head.predict(features, asked)
    assert [p.text for p in ranked] == texts.targets
    assert all(0.5 < p.score <= 1 for p in ranked)
    head.options["inference"] = "generate"
    try:
        for beams in (1, 3):
            assert [p.text for p in head.predict(features, asked, beams=beams)] == texts.targets
    finally:
        head.options["inference"] = "rank"


def test_answer_probabilities_are_those_of_the_answers_alone(vqa_head):
    head, batch = vqa_head
    features, texts = batch("test")
    asked = TextBatch(texts.questions)
    found = head.answer_probabilities(features, asked)
    answers = head.setting.answers
    assert found.shape == (len(texts.questions), len(answers))
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert [answers[i] for i in found.argmax(1)] == texts.targets
    samples = head._samples(features, asked)
    with torch.no_grad():
        each = torch.stack([head.model.log_likelihood(samples, [a] * len(found)) for a in answers], 1)
    torch.testing.assert_close(found, each.softmax(1))


def test_scoring_in_pieces_changes_nothing(vqa_head, monkeypatch):
    from clipbias.tasks.lavis import models

    head, batch = vqa_head
    features, texts = batch("test")
    asked = TextBatch(texts.questions)
    whole, said = head.answer_probabilities(features, asked), head.predict(features, asked)
    monkeypatch.setattr(models, "_LOGITS", 1)
    torch.testing.assert_close(head.answer_probabilities(features, asked), whole)
    assert [p.text for p in head.predict(features, asked)] == [p.text for p in said]


def test_the_caption_head_learns():
    head, batch = toy_head("captioning")
    learn(head, batch, 80)
    features, texts = batch("test")
    for beams in (1, 3):
        found = head.predict(features, TextBatch(texts.questions), beams=beams)
        assert [p.text for p in found] == [t.lower().rstrip(".") for t in texts.targets]
        assert all(0.3 < p.score <= 1 for p in found)
    with pytest.raises(ClipbiasError, match="answer list"):
        head.answer_probabilities(features, texts)


@pytest.mark.parametrize("task", ["vqa", "captioning"])
def test_losses_are_those_of_lavis(task):
    head, batch = toy_head(task)
    head.eval()
    features, texts = batch("val")
    losses = head.losses(features, texts)
    assert losses.shape == (len(texts.questions),)
    torch.testing.assert_close(losses.mean(), head.loss(features, texts))
    # All captions have four tokens, so the mean over rows is LAVIS's mean over tokens.
    torch.testing.assert_close(losses.mean(), head.model(head._samples(features, texts))["loss"])


@pytest.mark.parametrize("task", ["vqa", "captioning"])
def test_states_have_one_row_per_image(task):
    head, batch = toy_head(task, layers=2)
    features, texts = batch("val")
    states = head.states(features, TextBatch(texts.questions))
    expected = {"projector", "decoder.0", "decoder.1"} | (
        {"encoder.0", "encoder.1"} if task == "vqa" else set()
    )
    assert set(states) == expected
    assert all(s.shape == (len(texts.questions), 32) for s in states.values())
    # The image comes through to every layer.
    assert all(not torch.allclose(s[0], s[-1]) for s in states.values())


def test_the_same_seed_builds_the_same_head():
    first, second = (toy_head("vqa")[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_options_of_a_head_are_named():
    with pytest.raises(DataError, match="no option 'widht'. Did you mean 'width'"):
        toy_head("vqa", widht=32)
    with pytest.raises(DataError, match="'inference' of head 'lavis-vqa' is 'ranked'. Did you mean 'rank'"):
        toy_head("vqa", inference="ranked")


def test_untrained_captions_are_improbable():
    head, batch = toy_head("captioning")
    features, texts = batch("val")
    found = head.eval().predict(features, TextBatch(texts.questions))
    assert all(math.isfinite(p.score) and p.score < 0.2 for p in found)
