"""The training loop: repeatable, resumable at the exact step, and ruled by plans."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_head import ANSWERS, material, tiny_head

from clipbias.errors import ClipbiasError, DataError
from clipbias.tasks import checkpoint as checkpoints
from clipbias.tasks import states
from clipbias.tasks.batches import batch_of
from clipbias.tasks.loop import mean_loss
from clipbias.tasks.optimizing import accelerator
from clipbias.tasks.plan import Plan, Stage
from clipbias.tasks.predict import COLUMNS, KEY, answer_probabilities, predict, save_predictions
from clipbias.tasks.recipe import Training, load, parse
from clipbias.tasks.train import train

SHORT = Training(steps=60, batch_size=16, learning_rate=0.03, evaluations=6, patience=6, checkpoint_seconds=0)


def fit(plan=None, *, seed=0, training=SHORT, head=None, data=None, **more):
    head = head or tiny_head(seed)
    plan = plan or Plan()
    train_on = data or material()
    done = train(
        head, [train_on] * len(plan.stages), material(60, 1), plan=plan, training=training, seed=seed, **more
    )
    return head, done


def weights(head) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in head.parameters()])


# -- the loop -----------------------------------------------------------------------------------


def test_it_learns_and_logs():
    head = tiny_head()
    before = mean_loss(head, material(60, 1))
    head, done = fit(head=head)
    assert done.val_loss == pytest.approx(mean_loss(head, material(60, 1)))
    assert done.val_loss < 0.5 * before
    assert done.steps == 60
    assert list(done.log["step"]) == [10, 20, 30, 40, 50, 60]
    assert done.val_loss == done.log["val_loss"].min()
    assert done.parameters == sum(p.numel() for p in head.parameters())
    assert (predict(head, material(60, 1))["prediction"] == material(60, 1).examples["target"]).mean() > 0.8


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, _ = fit(seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    second, _ = fit(seed=3)
    assert torch.equal(weights(first), weights(second))
    other, _ = fit(seed=4, head=tiny_head(3))
    assert not torch.equal(weights(first), weights(other))


class Stop(Exception):
    """A stand-in for a killed process."""


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 59))
def test_stopped_at_any_step_and_resumed_it_ends_in_the_same_bits(tmp_path_factory, step):
    path = tmp_path_factory.mktemp("progress") / "unit" / "progress.pt"
    whole, done = fit(seed=1)

    def stop(at, of):
        if at == step:
            raise Stop

    with pytest.raises(Stop):
        fit(seed=1, checkpoint=path, key="k", on_step=stop)
    head, again = fit(seed=1, checkpoint=path, key="k")
    assert again.resumed == step
    assert torch.equal(weights(whole), weights(head))
    pd.testing.assert_frame_equal(done.log.drop(columns="seconds"), again.log.drop(columns="seconds"))
    assert not path.exists()


def test_progress_of_another_key_or_a_damaged_file_is_not_used(tmp_path):
    path = tmp_path / "progress.pt"
    with pytest.raises(Stop):
        fit(checkpoint=path, key="a", on_step=lambda at, of: (_ for _ in ()).throw(Stop))
    whole, _ = fit()
    head, done = fit(checkpoint=path, key="b")
    assert done.resumed == 0
    assert torch.equal(weights(whole), weights(head))
    path.write_bytes(b"no checkpoint")
    with pytest.warns(UserWarning, match="damaged"):
        assert fit(checkpoint=path, key="a")[1].resumed == 0


def test_training_stops_when_the_validation_loss_no_longer_falls():
    hard = Training(steps=400, batch_size=16, learning_rate=0.1, evaluations=40, patience=2)
    data = material()
    data.examples["target"] = np.random.default_rng(0).choice(ANSWERS, len(data))  # nothing to learn
    _, done = fit(training=hard, data=data)
    assert done.steps < 400
    assert done.best_step == done.log.loc[done.log["val_loss"].idxmin(), "step"]


def test_a_loss_that_is_not_finite_is_one_clear_message():
    data = material()
    bad = data.source

    def source(rows):
        found = bad(rows)
        found.pooled[0] = math.nan
        return found

    with pytest.raises(ClipbiasError, match="the loss became nan at step 0: lower learning_rate"):
        fit(data=type(data)(data.examples, data.rows, source))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_example_is_seen_once_per_epoch(n, size, seed):
    steps = math.ceil(2 * n / size)
    seen = np.concatenate([batch_of(np.arange(n), s, size, [seed, 0]) for s in range(steps)])
    assert all(len(batch_of(np.arange(n), s, size, [seed, 0])) == size for s in range(steps))
    assert sorted(seen[:n]) == list(range(n))
    assert sorted(seen[n : 2 * n]) == list(range(n))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 5))
def test_examples_of_an_image_come_together_and_each_once_per_epoch(images, size, seed):
    n, image = len(images), np.array(images)
    steps = math.ceil(2 * n / size)
    seen = np.concatenate([batch_of(np.arange(n), s, size, [seed, 0], image) for s in range(steps)])
    for epoch in (seen[:n], seen[n : 2 * n]):
        assert sorted(epoch) == list(range(n))
        assert np.count_nonzero(np.diff(image[epoch])) == len(set(images)) - 1


# -- plans --------------------------------------------------------------------------------------


def test_the_neutral_plan_is_plain_training():
    assert Plan().plain
    plain, _ = fit()
    n = len(material())
    spelled, _ = fit(Plan(stages=(Stage(index=np.arange(n)),)))
    assert torch.equal(weights(plain), weights(spelled))


def test_equal_weights_and_a_mean_as_loss_hook_change_nothing():
    plain, _ = fit()
    n = len(material())
    weighted, _ = fit(Plan(stages=(Stage(weights=np.full(n, 7.0)),)))
    hooked, _ = fit(Plan(stages=(Stage(loss=lambda losses, batch: losses.mean()),)))
    assert torch.allclose(weights(plain), weights(weighted), atol=1e-5)
    assert torch.equal(weights(plain), weights(hooked))


def test_a_weight_of_zero_is_as_good_as_absence():
    data = material()
    wrong = data.examples["target"] == "dog"
    data.examples.loc[wrong, "target"] = "cat"
    kept = (~wrong).to_numpy().astype(float)
    head, _ = fit(Plan(stages=(Stage(weights=kept),)), data=data)
    assert (predict(head, material(60, 1))["prediction"] != "dog").all()
    right, _ = fit(Plan(stages=(Stage(index=np.flatnonzero(kept)),)), data=data)
    assert (predict(right, material(60, 1))["prediction"] != "dog").all()


def test_stages_train_what_they_name_and_share_the_steps():
    head = tiny_head()
    before = head.projector[0].weight.detach().clone()
    plan = Plan(
        "x", (Stage("one", trainable=("classifier",), share=3), Stage("two", trainable=("classifier",)))
    )
    _, done = fit(plan, head=head)
    assert torch.equal(before, head.projector[0].weight)
    assert plan.steps(60) == [45, 15]
    assert set(done.log["stage"]) == {"one", "two"}
    assert all(p.requires_grad for p in head.parameters())  # what comes next may train them all


class Moving:
    """A loss hook with a memory."""

    def __init__(self):
        self.scale = torch.tensor(1.0)

    def __call__(self, losses, batch):
        self.scale = self.scale * 0.99
        return losses.mean() * self.scale

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


def test_a_hook_keeps_its_memory_over_an_interruption(tmp_path):
    whole, _ = fit(Plan(stages=(Stage(loss=Moving()),)))

    def stop(at, of):
        if at == 23:
            raise Stop

    path = tmp_path / "p.pt"
    with pytest.raises(Stop):
        fit(Plan(stages=(Stage(loss=Moving()),)), checkpoint=path, key="k", on_step=stop)
    head, _ = fit(Plan(stages=(Stage(loss=Moving()),)), checkpoint=path, key="k")
    assert torch.equal(weights(whole), weights(head))


def test_refit_and_posterior_have_the_last_word():
    def refit(context):
        torch.nn.init.zeros_(context.head.classifier.weight)
        context.head.classifier.bias.data = torch.tensor([0.0, 9.0, 0.0])

    head, _ = fit(Plan(refit=refit))
    assert set(predict(head, material())["prediction"]) == {"dog"}
    flipped = Plan(posterior=lambda table, examples: table.flip(1))
    head, _ = fit()
    plain, other = predict(head, material()), predict(head, material(), plan=flipped)
    swap = {"cat": "bird", "bird": "cat", "dog": "dog"}
    assert (plain["prediction"].map(swap) == other["prediction"]).all()
    assert torch.allclose(answer_probabilities(head, material()).sum(1), torch.ones(90))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(index=np.array([0, 90])), "asks for example 90; there are 90"),
        (Stage(index=np.array([], int)), "no training examples"),
        (Stage(weights=np.zeros(90)), "all weights are 0"),
        (Stage(weights=-np.ones(90)), "one finite weight of at least 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(stage, message):
    with pytest.raises(DataError, match=message):
        fit(Plan(stages=(stage,)))


def test_a_plan_needs_stages():
    with pytest.raises(DataError, match="at least one stage"):
        Plan(stages=())


# -- files --------------------------------------------------------------------------------------


def test_a_full_disk_is_one_message_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(checkpoints.StorageError, match="No space left on device. Free some space") as caught,
        checkpoints.whole_file(path) as file,
    ):
        file.write(b"new")
    assert caught.value.exit_code == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**dict.fromkeys(KEY, "x"))


def test_predictions_in_the_official_formats(tmp_path):
    table = named(
        pd.DataFrame(
            {"example_id": ["262148000", "q-2"], "image_id": ["42", "042"], "question": ["", ""],
             "prediction": ["a cat", "ein Wörtchen"], "score": [0.5, float("nan")]}
        )
    )  # fmt: skip
    save_predictions(tmp_path, table, task="vqa", name="a")
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"question_id": 262148000, "answer": "a cat"}, {"question_id": "q-2", "answer": "ein Wörtchen"},
    ]  # fmt: skip
    save_predictions(tmp_path, table, task="captioning", name="b")
    assert json.loads((tmp_path / "b.json").read_text()) == [
        {"image_id": 42, "caption": "a cat"}, {"image_id": "042", "caption": "ein Wörtchen"},
    ]  # fmt: skip
    assert list(pd.read_parquet(tmp_path / "b.parquet").columns) == COLUMNS


def test_states_are_read_by_analyze(tmp_path):
    from clipbias.analyze import read_states

    head, data = tiny_head(), material()
    examples = states.state_examples(data.examples, 20)
    some = type(data)(examples, np.array([int(i.split("-")[1]) for i in examples["image_id"]]), data.source)
    found = states.head_states(head, some)
    assert {name: v.shape for name, v in found.items()} == {"projector": (20, 8), "classifier": (20, 3)}
    about = {
        "model": "zoo:m",
        "ids": examples["image_id"].tolist(),
        "task": "vqa",
        "head": "tiny",
        "mode": "frozen",
    }
    folder = tmp_path / "states"
    states.save_states(folder / "a" / "post.safetensors", found, state="post", **about)
    states.save_states(
        folder / "a" / "pre.safetensors", states.given_states(some, list(found)), state="pre", **about
    )
    studies, disjoint = read_states(tmp_path, {}, None)
    assert disjoint == {"vqa tiny frozen": True}
    ids, values = studies["vqa tiny frozen"]["zoo:m", "projector", "post"]
    assert ids == examples["image_id"].tolist()
    assert np.array_equal(values, found["projector"])
    assert studies["vqa tiny frozen"]["zoo:m", "projector", "pre"][1].shape == (20, 4)


def test_the_images_of_states_are_the_same_for_every_model_and_share_a_question():
    examples = pd.concat(
        [
            material(50).examples.assign(question=q, example_id=lambda t, q=q: t["example_id"] + q)
            for q in "ab"
        ]
    )
    one, two = (states.state_examples(examples, 20) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert one["image_id"].nunique() == len(one) == 20
    assert set(one["question"]) == {"a"}


# -- recipes ------------------------------------------------------------------------------------


def test_the_shipped_recipes_are_whole():
    for task in ("vqa", "captioning"):
        recipe = load(task)
        assert recipe.task == task
        assert recipe.training_of("frozen") == recipe.training
        assert recipe.competence.margin == {"vqa": 15, "captioning": 2}[task]


def test_competence_is_judged_against_the_blind_baseline():
    captions, answers = (load(task).competence for task in ("captioning", "vqa"))
    assert captions.judge(1.0, 0.5)[0]
    assert not captions.judge(0.99, 0.5)[0]
    assert answers.judge(55.0, 40.0)[0]
    good, why = answers.judge(54.0, 40.0)
    assert not good
    assert why == "vqa_accuracy 54.000 is less than 55.000, 15 above the image-blind baseline (40.000)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"steps": 0}}, "training.steps"),
        ({"colour": 1}, "colour"),
        ({"modes": {"ful": {}}}, "Did you mean 'full'"),
        ({"modes": {"full": {"stepz": 3}}}, "stepz"),
    ],
)
def test_a_wrong_recipe_names_the_key(change, message):
    good = {"task": "vqa", "head": "answers", "competence": {"metric": "a", "rule": "points", "margin": 1}}
    with pytest.raises(DataError, match=message):
        parse({**good, **change}, "my.toml")


# -- on a GPU -----------------------------------------------------------------------------------


def test_plain_cuda_means_the_first_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("accelerate.Accelerator", lambda **given: given)
    assert accelerator(torch.device("cuda"), "bf16")["mixed_precision"] == "bf16"
    assert accelerator(torch.device("cuda:1"), "fp32")["mixed_precision"] == "no"
    assert chosen == [0, 1]


def test_half_precision_is_left_alone_on_a_cpu():
    assert accelerator(torch.device("cpu"), "bf16").mixed_precision == "no"
