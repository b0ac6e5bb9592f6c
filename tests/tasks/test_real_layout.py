"""`clipbias adapt` on files as COCO and VQAv2 are distributed, from the command line to the tables."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import real_layout

from clipbias import adapt
from clipbias.results.run import RunFolder
from clipbias.tasks.files import from_files

MODEL = "zoo:resnet-50"


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return real_layout.write(tmp_path_factory.mktemp("coco"))


def run(files, out, *words: object) -> int:
    named = [str(word) for option, path in files.items() for word in (f"--{option}", path)]
    return adapt.main(
        [*named, "--models", MODEL, "--out", str(out), "--engine", "local", "--no-report", *map(str, words)]
    )


def test_both_tasks_read_the_same_pictures_and_the_gender_that_captions_tell(files):
    said = from_files("captioning", captions=files["captions"], images=files["images"])
    asked = from_files("vqa", **files)
    for data in (said, asked):
        genders = data.images.table["gender"].astype(str)
        assert {"woman", "man"} <= set(genders)
        assert len(data.images) == 60
        assert data.images.read([0])[0][:2] == b"\xff\xd8"  # a JPEG
    one = said.images.table.set_index("image_id")["gender"].astype(str)
    other = asked.images.table.set_index("image_id")["gender"].astype(str)
    assert one.to_dict() == other.to_dict()
    assert asked.examples["example_id"].str.len().min() >= 4  # image number x 1000 + position
    assert set(map(len, asked.examples["answers"])) == {10}


@pytest.mark.slow
def test_from_the_files_to_the_tables(files, tmp_path):
    words = ("--task", "vqa", "captioning", "--steps", 6, "--views", "global", "--no-controls")
    assert run(files, tmp_path / "run", *words) == 0
    folder = RunFolder(tmp_path / "run")
    rows = folder.read("extrinsic")
    assert set(rows["task"]) == {"vqa", "captioning"}
    assert set(folder.read("adapted")["mode"]) == {"blind", "frozen"}
    quality = rows[
        (rows["mode"] == "frozen")
        & (rows["attribute"] == "")
        & rows["metric"].isin(["vqa_accuracy", "cider"])
    ]
    assert (quality["status"] == "ok").all()
    gaps = rows[rows["metric"].isin(["vqa_accuracy_gap", "gender_error"]) & (rows["mode"] == "frozen")]
    assert set(gaps["attribute"]) == {"gender"}
    flips = rows[(rows["metric"] == "flip_rate") & (rows["mode"] == "frozen")]
    assert set(flips["status"]) <= {"no twins", "not competent"}  # real pictures have no twins
    for task, key in (("vqa", "question_id"), ("captioning", "image_id")):
        [path] = (tmp_path / "run" / "predictions").glob(f"*{task}*frozen*.json")
        ids = [one[key] for one in json.loads(path.read_text())]
        assert all(isinstance(number, int) for number in ids)  # as the official evaluation servers want them
    before = pd.read_parquet(next((tmp_path / "run" / "predictions").glob("*vqa*frozen*.parquet")))
    assert run(files, tmp_path / "again", *words, "--task", "vqa") == 0
    after = pd.read_parquet(next((tmp_path / "again" / "predictions").glob("*vqa*frozen*.parquet")))
    pd.testing.assert_frame_equal(before, after)


def _change(files, tmp_path, option: str, change) -> dict:
    body = json.loads(files[option].read_text())
    change(body)
    path = tmp_path / files[option].name
    path.write_text(json.dumps(body))
    return {**files, option: path}


def test_annotation_without_image_and_question_without_annotation_are_counted_and_the_rest_is_used(
    files, tmp_path
):
    def lose_a_picture(body):
        body["annotations"].append({"image_id": 999_999, "id": 10**6, "caption": "a man"})

    found = from_files(
        "captioning",
        captions=_change(files, tmp_path, "captions", lose_a_picture)["captions"],
        images=files["images"],
    )
    assert len(found.images) == 60
    assert "999999" in " ".join(found.left_out["item"].astype(str) + found.left_out["reason"].astype(str))

    def lose_an_answer(body):
        body["annotations"] = body["annotations"][1:]

    found = from_files("vqa", **_change(files, tmp_path, "annotations", lose_an_answer))
    assert found.left_out["reason"].tolist().count("no annotation") == 1
    whole = from_files("vqa", **files)
    assert len(found.examples) == len(whole.examples) - 1


def test_a_picture_that_is_not_there_is_counted(files, tmp_path):
    def one_more(body):
        body["images"].append({**body["images"][0], "id": 77, "file_name": "COCO_train2014_000000000077.jpg"})
        body["annotations"].append({"image_id": 77, "id": 10**6, "caption": "a man"})

    found = from_files(
        "captioning",
        captions=_change(files, tmp_path, "captions", one_more)["captions"],
        images=files["images"],
    )
    assert "77" in found.left_out["item"].astype(str).tolist()
    assert "77" not in found.images.ids


@pytest.mark.parametrize(
    ("option", "change", "words", "message"),
    [
        ("captions", lambda b: [a.update(caption="  ") for a in b["annotations"]], ("--task", "captioning"), "caption"),
        (
            "annotations", lambda b: [a.update(multiple_choice_answer="yes", answers=[{"answer": "yes"}] * 10) for a in b["annotations"]],
            ("--task", "vqa"), "one answer only: 'yes'",
        ),
        ("annotations", lambda b: [a.update(question_id=-k - 1) for k, a in enumerate(b["annotations"])], ("--task", "vqa"), "annotates none of the questions"),
        ("captions", lambda b: None, ("--task", "captioning", "--words", "hendriks2018"), "no word list 'hendriks2018'. Did you mean 'hendricks2018'"),
    ],
    ids=["empty captions", "answer list of one", "other annotations", "unknown word list"],
)  # fmt: skip
def test_bad_files_are_one_message_and_nothing_is_written(
    files, tmp_path, capsys, option, change, words, message
):
    changed = _change(files, tmp_path, option, change)
    code = run(changed, tmp_path / "run", *words, "--steps", 2, "--no-controls", "--no-blind")
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert code == 2
    assert not (tmp_path / "run" / "extrinsic.parquet").exists()
