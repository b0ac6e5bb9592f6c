"""One unit end to end on a small world: what it writes, that it repeats, resumes and reloads, and how it says no."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from clipbias.errors import ClipbiasError, DataError, ModelError
from clipbias.tasks import checkpoint, given
from clipbias.tasks.adaptation import adapt_unit
from clipbias.tasks.given import task_data
from clipbias.tasks.material import answer_list, material_of, soft_targets, vocabulary_of
from clipbias.tasks.recipe import load
from clipbias.tasks.unit import AdaptUnit, check_intervention, plan_of

MODEL = "zoo:resnet-50"
SMALL = {"steps": 6, "batch_size": 16, "evaluations": 2, "checkpoint_seconds": 0}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def recipe(task: str = "vqa", **training):
    base = load(task)
    return base.model_copy(
        update={
            "world": base.world.model_copy(update={"n_train": 40, "n_val": 10}),
            "training": base.training.model_copy(update=SMALL | training),
            "modes": {},
            "states": 20,
            "evaluation": base.evaluation.model_copy(
                update={"views": ["global", "context"], "n_boot": 10, "n_perm": 0}
            ),
        }
    )


def small(out: Path, task: str = "vqa", **changes) -> AdaptUnit:
    made = recipe(task)
    return AdaptUnit(MODEL, made, made.head, out=str(out), **{"states": "", **changes})


def predictions(out: Path) -> list[str]:
    [path] = (out / "predictions").glob("*.parquet")
    return pd.read_parquet(path)["prediction"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "captioning"])
def test_a_unit_writes_tables_predictions_states_and_a_checkpoint(tmp_path, task):
    done = adapt_unit(small(tmp_path, task, states="post", blind=("b", 0.0)))
    rows = done.tables["extrinsic"]
    assert {"global", "context=park"} <= set(rows["view"])
    assert set(rows["mode"]) == {"frozen"}
    whole = rows[(rows["view"] == "global") & (rows["attribute"] == "")].set_index("metric")["value"]
    assert done.quality == whole[load(task).competence.metric]
    summary = done.tables["adapted"].iloc[0]
    assert summary["steps"] == 6
    assert summary["competent"] in ("yes", "no")
    n = 1120 if task == "captioning" else 7840
    assert len(predictions(tmp_path)) == n
    [official] = (tmp_path / "predictions").glob("*.json")
    assert len(json.loads(official.read_text())) == n
    states = {p.stem.rpartition("--")[2] for p in (tmp_path / "states").iterdir()}
    assert states == {"pre", "post", "untrained"}
    [folder] = (tmp_path / "checkpoints").iterdir()
    assert {p.name for p in folder.iterdir()} == {"about.json", "head.safetensors", "fixtures.safetensors"}
    loaded = checkpoint.load_adapted(folder)
    assert loaded.about["model"] == MODEL


@pytest.mark.slow
def test_the_same_seed_gives_the_same_predictions_and_a_killed_unit_goes_on(tmp_path):
    adapt_unit(small(tmp_path / "a"))

    class Killed(Exception):
        pass

    def kill(text: str) -> None:
        if text.endswith("training 10/20"):
            raise Killed

    long = recipe(steps=20)
    adapt_unit(AdaptUnit(MODEL, long, long.head, out=str(tmp_path / "w"), states=""))
    cut = AdaptUnit(MODEL, long, long.head, out=str(tmp_path / "k"), states="")
    with pytest.raises(Killed):
        adapt_unit(cut, on_step=kill)
    again = adapt_unit(cut)
    assert again.resumed == 10
    assert predictions(tmp_path / "k") == predictions(tmp_path / "w")
    key = again.key
    assert adapt_unit(cut.but(done=key)).kept
    assert not adapt_unit(small(tmp_path / "b", done=key)).kept
    assert predictions(tmp_path / "a") == predictions(tmp_path / "b")


@pytest.mark.slow
def test_a_head_trained_first_begins_as_with_a_frozen_tower_and_goes_on_in_either_part(tmp_path):
    made = recipe(steps=6).model_copy(update={"modes": {"full": {"steps": 12, "head_first": True}}})
    unit = AdaptUnit(MODEL, made, made.head, mode="full", out=str(tmp_path / "whole"), states="")
    log = adapt_unit(unit).tables["training"]
    assert log["stage"].tolist() == ["head: train"] * 2 + ["train"] * 2
    assert log["step"].tolist() == [3, 6, 12, 18]
    frozen = adapt_unit(unit.but(mode="frozen", out=str(tmp_path / "frozen"))).tables["training"]
    assert log["val_loss"].tolist()[:2] == frozen["val_loss"].tolist()

    class Killed(Exception):
        pass

    def kill(text: str) -> None:
        if text.endswith(at):
            raise Killed

    cut = unit.but(out=str(tmp_path / "cut"))
    for at in ("training the head 6/6", "training 10/12"):
        with pytest.raises(Killed):
            adapt_unit(cut, on_step=kill)
    again = adapt_unit(cut)
    assert again.resumed == 16
    assert again.tables["training"].drop(columns="seconds").equals(log.drop(columns="seconds"))
    assert predictions(tmp_path / "cut") == predictions(tmp_path / "whole")
    [folder] = (tmp_path / "cut" / "checkpoints").iterdir()
    assert not list(folder.glob("*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_trained_tower_is_kept_and_reproduces_its_fixtures(tmp_path, mode):
    adapt_unit(small(tmp_path, mode=mode, states="post"))
    [folder] = (tmp_path / "checkpoints").iterdir()
    loaded = checkpoint.load_adapted(folder)
    from clipbias.models import load_model

    pictures = checkpoint.fixture_images()
    before = load_model(MODEL).encode_images(pictures)
    assert not np.allclose(before, loaded.clip.encode_images(pictures), atol=1e-5)
    about = json.loads((folder / "about.json").read_text())
    about["preprocess"]["mean"] = [0.4, 0.5, 0.5]
    (folder / "about.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="another preprocess"):
        checkpoint.load_adapted(folder)


def test_fixtures_that_are_not_reproduced_are_refused(tmp_path):
    pictures = checkpoint.fixture_images()
    values = np.eye(8, 12, dtype=np.float32)
    checkpoint.save_adapted(
        tmp_path, about={}, head={"w": torch.ones(2)}, tower=None, fixtures=pictures, embeddings=values
    )
    seen: list[bytes] = []

    def encode(images: list[bytes]) -> np.ndarray:
        seen.extend(images)
        return values * 3

    checkpoint.check_fixtures(tmp_path, encode)
    assert seen == pictures
    with pytest.raises(ModelError, match="does not reproduce the embeddings"):
        checkpoint.check_fixtures(tmp_path, lambda images: values[::-1])
    with pytest.raises(ModelError, match="does not reproduce the embeddings"):
        checkpoint.check_fixtures(tmp_path, lambda images: values[:, :5])
    (tmp_path / "fixtures.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="cannot be read"):
        checkpoint.check_fixtures(tmp_path, encode)


def test_an_incompetent_model_keeps_its_quality_and_loses_its_bias():
    from clipbias.tasks.work import Work

    work = object.__new__(Work)
    work.blind = False
    rows = [
        {"metric": "cider", "attribute": "", "value": 0.2, "status": "ok", "reason": ""},
        {"metric": "cider_gap", "attribute": "gender", "value": 0.1, "status": "ok", "reason": ""},
        {
            "metric": "flip_rate",
            "attribute": "gender",
            "value": 0.1,
            "ci_low": 0.0,
            "status": "ok",
            "reason": "",
        },
    ]
    quality, *bias = work._silence(rows, False, "too poor")
    assert quality["value"] == 0.2
    assert all(
        r["value"] is None and r["status"] == "not competent" and r["reason"] == "too poor" for r in bias
    )
    assert bias[-1]["ci_low"] is None
    assert work._silence(rows, True, "") == rows
    assert work._silence(rows, None, "") == rows
    work.blind = True
    assert work._silence(rows, None, "") == rows[:1]


def test_soft_targets_follow_the_official_rule():
    examples = pd.DataFrame(
        {
            "target": ["cat", "dog", "bird"],
            "answers": [["cat"] * 10, ["dog"] * 2 + ["cat"] * 1 + ["cow"] * 7, []],
        }
    )
    soft = soft_targets(examples, ("cat", "dog", "bird"))
    assert torch.allclose(soft, torch.tensor([[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 1]]))


def test_a_head_that_writes_learns_the_answers_of_the_answer_list():
    texts = ["Two dogs.", "a", "The red car", "yes!"]
    examples = pd.DataFrame(
        {"target": texts, "answers": [[t] for t in texts], "split": "train", "question": "what?"}
    )
    data = SimpleNamespace(task="vqa", name="toy", image_rows=lambda some: np.arange(len(some)))
    listed = answer_list(examples, 9)
    written = material_of(data, examples, lambda rows: None, answers=listed).texts(np.arange(4)).targets
    assert written == ["2 dogs", "a", "red car", "yes"]  # of "a" nothing would be left
    assert set(listed) == {"2 dogs", "red car", "yes"}
    assert "two" not in vocabulary_words(examples)


def vocabulary_words(examples: pd.DataFrame) -> set[str]:
    data = SimpleNamespace(task="vqa", split=lambda name: examples)
    return set(" ".join(vocabulary_of([data], load("vqa")).decode([[i] for i in range(40)])).split())


def test_an_answer_list_is_the_most_frequent_and_needs_two():
    examples = pd.DataFrame({"target": ["Dog.", "cat", "dog", "bird", "cat", "dog"]})
    assert answer_list(examples, 2) == ("dog", "cat")
    assert answer_list(examples, 9) == ("dog", "cat", "bird")
    with pytest.raises(DataError, match="one answer only: 'dog'"):
        answer_list(pd.DataFrame({"target": ["dog", "dog"]}), 5)
    with pytest.raises(DataError, match="no answers"):
        answer_list(pd.DataFrame({"target": ["", ""]}), 5)


def test_interventions_that_are_not_there_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("clipbias.tasks.unit.INTERVENTIONS", "clipbias.tasks.no_such_module")
    with pytest.raises(
        ClipbiasError, match="'rebalance:phi=0' cannot be run: this version of clipbias has no interventions"
    ):
        check_intervention("rebalance:phi=0")
    assert plan_of(small(tmp_path), None, None).plain


def test_units_are_named_apart_and_files_carry_the_name():
    base = AdaptUnit("zoo:a", load("vqa"), "answers")
    others = [
        base,
        base.but(seed=1),
        base.but(mode="full"),
        base.but(intervention="x:phi=0"),
        base.but(model="zoo:b"),
    ]
    assert len({u.name for u in others}) == len({u.slug for u in others}) == len(others)
    assert base.slug == "zoo-a--vqa--answers--frozen--0"
    assert base.name == "adapt model=zoo:a task=vqa head=answers mode=frozen seed=0"
    assert all(
        "/" not in u.slug
        for u in [base.but(model="file:/x/y.pt?model=ViT-B-32", intervention="a:b=" + "c" * 300)]
    )


@pytest.mark.slow
def test_a_full_disk_ends_the_unit_with_one_message(tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if "predictions" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(checkpoint.StorageError, match="No space left on device"):
        adapt_unit(small(tmp_path))
    assert not list((tmp_path / "predictions").iterdir())


def test_the_black_image_is_the_same_for_every_example():
    from clipbias.models import load_model
    from clipbias.tasks.sources import black, constant
    from clipbias.tasks.vision import Tower

    tower = Tower(load_model(MODEL))
    found = constant(black(tower))(np.array([3, 1, 4]))
    assert found.pooled.shape == (3, tower.pooled_width)
    assert torch.equal(found.tokens[0], found.tokens[2])
    height, width = tower.clip.image_size
    pixels = tower.clip.preprocess.transform(Image.new("RGB", (width, height)))
    assert torch.allclose(found.pooled[0], tower.features(pixels[None]).pooled[0], atol=1e-6)


def test_data_are_read_once_per_recipe_and_do_not_depend_on_the_budget(monkeypatch):
    given._data.cache_clear()
    seen = []
    monkeypatch.setattr(
        "clipbias.tasks.world.world_data", lambda task, **more: seen.append((task, more)) or object()
    )
    assert task_data(recipe("vqa", steps=3)) is task_data(recipe("vqa", steps=5))
    assert seen == [
        ("vqa", {"n_train": 40, "n_val": 10, "crossed": 1, "seed": 0, **load("vqa").world.options})
    ]
    given._data.cache_clear()
