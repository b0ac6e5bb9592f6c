"""The embedded world as task data: drawn, written, read back, kept."""

from __future__ import annotations

import json
import multiprocessing

import numpy as np
import pytest

from clipbias.errors import ClipbiasError, DataError
from clipbias.probes import world as planted
from clipbias.tasks import world as module
from clipbias.tasks.world import world_data

SMALL = {"n_train": 12, "n_val": 4, "styles": ("twemoji",), "size": 32, "noise": 5.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def captioning(cache):
    return world_data("captioning", **SMALL, cache=cache)


@pytest.fixture(scope="module")
def vqa(cache):
    return world_data("vqa", **SMALL, cache=cache)


def test_captioning(captioning):
    kinds = {k: len(v) for k, v in planted.definition()["captions"].items()}
    each = kinds["neutral"] + kinds["gendered"]
    cells = 14 * 4 * 10
    assert captioning.split("train").shape[0] == 12 * each
    assert captioning.split("val").shape[0] == 4 * each
    test = captioning.split("test")
    assert len(test) == cells
    assert test["answers"].str.len().eq(each).all()
    assert (test["question"] == "").all()
    assert captioning.images.left_out.empty


def test_vqa(vqa):
    asked = len(planted.definition()["questions"])
    assert len(vqa.split("train")) == 12 * asked
    test = vqa.split("test")
    assert all(answers == [target] * 10 for answers, target in test[["answers", "target"]].to_numpy())
    table = vqa.images.table.set_index("image_id")
    jobs = test[test["question"] == "what is the person's job?"]
    assert jobs["target"].tolist() == table.loc[jobs["image_id"], "role"].astype(str).tolist()
    who = test[test["question"] == "is the person a man or a woman?"]
    assert who["target"].tolist() == table.loc[who["image_id"], "gender"].astype(str).tolist()


def test_both_tasks_show_the_same_pictures(captioning, vqa):
    assert captioning.images.ids == vqa.images.ids
    rows = [0, 13, 40]
    assert captioning.images.read(rows) == vqa.images.read(rows)


def test_ground_truth_and_twins(captioning):
    table = captioning.images.table
    assert captioning.images.attributes == ("gender", "tone")
    test = table[table["twin"] != ""].set_index("image_id")
    other = test.loc[test["twin"]]
    assert (test["gender"].to_numpy() != other["gender"].to_numpy()).all()
    for column in ("role", "object", "context", "style", "scene"):
        assert (test[column].astype(str).to_numpy() == other[column].astype(str).to_numpy()).all()
    assert table["scene"].nunique() == 12 + 4 + 14 * 4


def test_pictures_are_those_of_the_world(captioning):
    world = planted.World(**captioning.images.facts["world"]["test"])
    direct = planted.image_set(world)
    rows = captioning.image_rows(captioning.split("test").head(3))
    assert captioning.images.read(rows) == direct.read(range(3))


def test_kinds_of_captions(cache):
    found = world_data("captioning", **SMALL, caption_kinds=["neutral"], cache=cache)
    words = set(" ".join(found.split("train")["target"]).split())
    assert not words & {"man", "woman"}
    references = found.split("test")["answers"]
    assert all(any({"man", "woman"} & set(text.split()) for text in said) for said in references)


def test_training_can_be_biased_and_test_is_not(cache):
    found = world_data("vqa", **{**SMALL, "n_train": 60}, rho=1.0, cache=cache)
    table = found.images.table
    train = table[table["image_id"].isin(found.split("train")["image_id"])]
    tied = planted.ties("gender")
    assert train["gender"].astype(str).tolist() == [tied[role] for role in train["role"]]
    test = table[table["image_id"].isin(found.split("test")["image_id"])]
    assert test["gender"].astype(str).eq("woman").mean() == 0.5


def test_knobs_go_where_they_are_told(cache):
    found = world_data(
        "vqa", **SMALL, bystanders=1.0, knobs={"bystanders": 0.0}, test_knobs={"styles": ["noto"]}, cache=cache
    )  # fmt: skip
    worlds = found.images.facts["world"]
    assert [worlds[s]["bystanders"] for s in ("train", "val", "test")] == [0, 0, 1]
    assert [tuple(worlds[s]["styles"]) for s in ("train", "test")] == [("twemoji",), ("noto",)]


def test_seeds(cache, vqa):
    other = world_data("vqa", **SMALL, seed=1, cache=cache)
    assert not set(other.images.ids) & set(vqa.images.ids)
    assert other.digest != vqa.digest
    assert world_data("vqa", **SMALL, cache=cache).digest == vqa.digest


@pytest.mark.slow
def test_files_are_used_again_and_damage_is_mended(tmp_path, monkeypatch):
    first = world_data("captioning", **SMALL, cache=tmp_path)
    written = []
    real = module._write
    monkeypatch.setattr(module, "_write", lambda *a: (written.append(a[2].name), real(*a)))
    assert world_data("captioning", **SMALL, cache=tmp_path).digest == first.digest
    assert written == []
    pictures = sorted(tmp_path.rglob("*.png"))
    for spoil in (
        lambda: pictures[0].write_bytes(b"short"),
        lambda: pictures[1].unlink(),
        lambda: next(tmp_path.rglob("whole.json")).unlink(),
        lambda: next(tmp_path.rglob("whole.json")).write_text("[]"),
        lambda: (path := next(tmp_path.rglob("captions_world.json"))).write_text(
            path.read_text().replace("cook", "kooc")
        ),
    ):
        spoil()
        again = world_data("captioning", **SMALL, cache=tmp_path)
        assert again.digest == first.digest
        assert len(written) == 1
        written.clear()
    assert again.images.read(range(4)) == first.images.read(range(4))


@pytest.mark.slow
def test_the_second_task_does_not_draw_again(tmp_path, monkeypatch):
    world_data("captioning", **SMALL, cache=tmp_path)

    def fail(*_):
        raise AssertionError("drawn twice")

    monkeypatch.setattr(planted, "render", fail)
    found = world_data("vqa", **SMALL, cache=tmp_path)
    assert len(found.images.read([0])[0]) > 100


def test_other_art_is_another_world(tmp_path, monkeypatch):
    world = planted.World(n=1)
    before = module._digest(world)
    monkeypatch.setattr(module, "_ingredients", lambda *_: "other")
    assert module._digest(world) != before


def _draw(folder):
    return world_data("captioning", **SMALL, cache=folder).digest


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(_draw, [tmp_path, tmp_path])
    assert one == two


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "export_coco", full)
    with pytest.raises(ClipbiasError, match="cannot be written to .*No space left"):
        world_data("captioning", **SMALL, cache=tmp_path)
    monkeypatch.undo()
    assert len(world_data("captioning", **SMALL, cache=tmp_path).split("val")) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "vqaa"}, "no task 'vqaa'. Did you mean 'vqa'"),
        ({"fady": 1}, "no knob 'fady'"),
        ({"knobs": {"bystander": 1}}, "no knob 'bystander'. Did you mean 'bystanders'"),
        ({"noise": -1}, "knob noise: Input should be greater"),
        ({"styles": ["notoo"]}, "no style 'notoo'. Did you mean 'noto'"),
        ({"caption_kinds": ["neutrl"]}, "no captions of kind 'neutrl'. Did you mean 'neutral'"),
        ({"caption_kinds": []}, "caption_kinds is empty"),
        ({"crossed": 0}, "crossed is 0"),
    ],
)
def test_wrong_knobs(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        world_data(**{"task": "vqa", **SMALL, "cache": tmp_path, **changes})
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_the_real_formats(cache, vqa):
    questions = next(cache.rglob("questions.json"))
    body = json.loads(questions.read_text())
    assert isinstance(body["questions"][0]["image_id"], int)
    assert np.unique([q["question_id"] for q in body["questions"]]).size == len(body["questions"])
