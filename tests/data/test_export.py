"""Out in the real formats and back through the readers of the real sets."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from clipbias import data
from clipbias.data import ImageSet, export_coco, export_fairface, export_vqa
from clipbias.errors import DataError


def same_images(back: ImageSet, tiny: ImageSet) -> None:
    assert back.ids == tiny.ids
    assert back.digests() == tiny.digests()  # byte for byte: the embedding cache stays valid


def same_labels(back: ImageSet, tiny: ImageSet, columns) -> None:
    for column in columns:
        assert back.table[column].tolist() == tiny.table[column].tolist()
        assert back.column(column).categories.tolist() == tiny.column(column).categories.tolist()


def test_coco_round_trip(tiny, tmp_path):
    out = export_coco(tiny, tmp_path / "coco")
    back = data.read_coco_captions(out / "annotations" / "captions_world.json", out / "world")
    same_images(back, tiny)
    assert (back.attributes, back.contexts) == (tiny.attributes, tiny.contexts)
    same_labels(back, tiny, ["gender", "tone", "context", "role"])
    assert back.table["captions"].tolist() == tiny.table["captions"].tolist()
    assert back.table["caption"].tolist() == tiny.table["caption"].tolist()
    assert back.table["twin"].tolist() == tiny.table["twin"].tolist()
    assert back.table["planted"].tolist() == tiny.table["planted"].tolist()
    assert back.facts == tiny.facts
    assert back.licence == tiny.licence
    assert len(back.left_out) == 0


def test_coco_file_is_what_other_tools_expect(tiny, tmp_path):
    out = export_coco(tiny, tmp_path / "coco", subset="val2014")
    body = json.loads((out / "annotations" / "captions_val2014.json").read_text())
    assert set(body) >= {"info", "licenses", "images", "annotations"}
    assert [image["id"] for image in body["images"]] == [1, 2, 3]
    assert (body["images"][0]["width"], body["images"][0]["height"]) == (8, 6)
    assert [(a["id"], a["image_id"]) for a in body["annotations"]] == [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)]
    assert sorted(p.name for p in (out / "val2014").iterdir()) == [
        "000000000001.png", "000000000002.png", "000000000003.jpg"
    ]  # fmt: skip


def test_vqa_round_trip(tiny, tmp_path):
    out = export_vqa(tiny, tmp_path / "vqa")
    back = data.read_vqa(out / "questions.json", out / "annotations.json", out / "images")
    same_images(back, tiny)
    same_labels(back, tiny, ["gender", "tone", "context", "role"])
    columns = ["image_id", "question", "answer", "answer_type"]
    assert back.questions[columns].to_numpy().tolist() == tiny.questions[columns].to_numpy().tolist()
    assert back.questions["question_id"].tolist() == tiny.questions["question_id"].tolist()
    assert all(
        answers == [answer] * 10 for answers, answer in back.questions[["answers", "answer"]].to_numpy()
    )


def test_vqa_file_is_what_other_tools_expect(tiny, tmp_path):
    out = export_vqa(tiny, tmp_path / "vqa", subset="val2014")
    questions = json.loads((out / "questions.json").read_text())
    annotations = json.loads((out / "annotations.json").read_text())
    assert questions["task_type"] == "Open-Ended"
    assert [q["question_id"] for q in questions["questions"]] == [1000, 1001, 2000, 3000]
    assert [a["question_id"] for a in annotations["annotations"]] == [1000, 1001, 2000, 3000]
    first = annotations["annotations"][1]
    assert first["answer_type"] == "yes/no"
    assert first["multiple_choice_answer"] == "yes"
    assert first["question_type"] == "is this"
    assert [a["answer_id"] for a in first["answers"]] == list(range(1, 11))
    assert {a["answer_confidence"] for a in first["answers"]} == {"yes"}
    assert (out / "images" / "COCO_val2014_000000000001.png").is_file()


def test_vqa_read_without_our_fields_finds_images_by_number(tiny, tmp_path):
    out = export_vqa(tiny, tmp_path / "vqa")
    path = out / "questions.json"
    body = json.loads(path.read_text())
    del body["images"], body["info"]
    for question in body["questions"]:
        del question["question_key"]
    path.write_text(json.dumps(body))
    labels = pd.DataFrame({"image_id": ["1", "3"], "gender": ["woman", "man"]})
    back = data.read_vqa(path, out / "annotations.json", out / "images", labels=labels, attributes=["gender"])
    assert back.ids == ["1", "2", "3"]
    assert back.digests() == tiny.digests()
    assert back.table["gender"].tolist() == ["woman", "unknown", "man"]
    assert back.questions["question_id"].tolist() == ["1000", "1001", "2000", "3000"]


def test_ten_answers_of_people_are_kept(tiny, tmp_path):
    many = [["cook"] * 9 + ["chef"], ["yes"] * 10, ["2"] * 3, ["no"] * 10]
    out = export_vqa(replace(tiny, questions=tiny.questions.assign(answers=many)), tmp_path / "vqa")
    back = data.read_vqa(out / "questions.json", out / "annotations.json", None)
    assert back.questions["answers"][0] == many[0]
    assert (
        back.questions["answers"][2] == ["2"] * 10
    )  # three are not the format's ten: the one answer ten times


def test_fairface_round_trip(tiny, tmp_path):
    out = export_fairface(tiny, tmp_path / "ff")
    back = data.read_fairface(out / "val_labels.csv", out, contexts=["context", "role"])
    same_images(back, tiny)
    assert back.attributes == ("gender", "tone")
    assert back.table["gender"].tolist() == ["woman", "man", "woman"]
    assert back.column("gender").categories.tolist() == ["woman", "man"]
    same_labels(back, tiny, ["tone", "role"])
    assert back.table["twin"].tolist() == tiny.table["twin"].tolist()
    head = (out / "val_labels.csv").read_text().splitlines()[0].split(",")
    assert head[:4] == ["file", "gender", "tone", "service_test"]
    # woman/1, man/5 and woman/5 occur once each, so all are in the balanced part
    assert back.table["service_test"].tolist() == ["True"] * 3


def test_service_test_is_balanced(tiny, tmp_path):
    one = replace(tiny, attributes=("gender",))
    out = export_fairface(one, tmp_path / "ff")
    table = pd.read_csv(out / "val_labels.csv")
    assert table["service_test"].tolist() == [True, True, False]


@pytest.mark.parametrize("export", [export_coco, export_vqa, export_fairface])
def test_a_folder_that_is_there_is_not_touched(tiny, tmp_path, export):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        export(tiny, target)
    assert [p.name for p in target.iterdir()] == ["mine.txt"]
    export(tiny, target, overwrite=True)
    assert not (target / "mine.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("export", [export_coco, export_vqa, export_fairface])
def test_nothing_half_written(tiny, tmp_path, export):
    broken = replace(tiny, read=lambda rows: [b"no image"] * len(rows))
    with pytest.raises(DataError, match="image 's-1' cannot be read, so it cannot be exported"):
        export(broken, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    kept = export(tiny, tmp_path / "out")
    files = sorted(p.name for p in kept.rglob("*"))
    with pytest.raises(DataError):
        export(broken, kept, overwrite=True)
    assert sorted(p.name for p in kept.rglob("*")) == files  # the old export survives a failed new one
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_old_export_comes_back_when_the_last_rename_fails(tiny, tmp_path, monkeypatch):
    kept = export_coco(tiny, tmp_path / "out")
    files = sorted(p.name for p in kept.rglob("*"))
    real = os.replace

    def replace_but_not_into_place(source, target):
        if Path(target) == kept and Path(source).name != "old":
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_but_not_into_place)
    with pytest.raises(OSError, match="no"):
        export_coco(tiny, kept, overwrite=True)
    assert sorted(p.name for p in kept.rglob("*")) == files
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_exported_is_told(tiny, tmp_path):
    bare = replace(tiny, table=tiny.table.drop(columns=["caption", "captions"]))
    with pytest.raises(DataError, match="no captions to export"):
        export_coco(bare, tmp_path / "x")
    only = replace(tiny, table=tiny.table.drop(columns="captions").assign(caption=["a", " ", "b"]))
    with pytest.raises(DataError, match="1 images of 'tiny' have no caption, first: 's-2'"):
        export_coco(only, tmp_path / "x")
    with pytest.raises(DataError, match="no questions to export"):
        export_vqa(replace(tiny, questions=None), tmp_path / "x")
    with pytest.raises(DataError, match="no attributes to export"):
        export_fairface(replace(tiny, attributes=()), tmp_path / "x")
    stray = tiny.questions.assign(image_id="gone")
    with pytest.raises(DataError, match="about image 'gone', which is not in the set"):
        export_vqa(replace(tiny, questions=stray), tmp_path / "x")


def test_a_column_called_like_a_field_does_not_replace_it(tiny, tmp_path):
    odd = replace(tiny, table=tiny.table.assign(id=[7, 8, 9], file_name="x", file="y", width=1))
    out = export_coco(odd, tmp_path / "coco")
    back = data.read_coco_captions(out / "annotations" / "captions_world.json", out / "world")
    same_images(back, tiny)
    assert back.table["id_"].tolist() == [7, 8, 9]
    assert (
        len(data.read_fairface(export_fairface(odd, tmp_path / "ff") / "val_labels.csv", tmp_path / "ff"))
        == 3
    )


# -- reading files of others --------------------------------------------------------------------


def coco(tmp_path, images, annotations):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_coco_without_captions_or_images_is_counted(tmp_path):
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}]
    path = coco(tmp_path, images, [{"image_id": 1, "caption": " a dog "}, {"image_id": 9, "caption": "x"}])
    found = data.read_coco_captions(path, None)
    assert found.ids == ["1"]
    assert found.table["captions"].tolist() == [["a dog"]]
    assert found.left_out.to_numpy().tolist() == [
        ["2", "no caption"], ["9", "caption of an image that the file does not list"]
    ]  # fmt: skip


def test_coco_labels_are_joined_and_checked(tmp_path):
    path = coco(tmp_path, [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}],
                [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}])  # fmt: skip
    labels = tmp_path / "gender.csv"
    labels.write_text("id,gender\n1,woman\n")
    found = data.read_coco_captions(
        path, None, labels=labels, label_id="id", attributes=["gender"], levels={"gender": ["woman", "man"]}
    )
    assert found.table["gender"].tolist() == ["woman", "unknown"]
    for content, message in (
        ("id,gender\n1,woman\n1,man\n", "more than one row for image '1'"),
        ("id,gender\n7,woman\n", "names none of the images: it has ids such as '7'"),
        ("idd,gender\n1,woman\n", "no column 'id'. Did you mean 'idd'"),
        ("id,gender\n1,wman\n", "'wman' in row 1.*Did you mean 'woman'"),
        ("id,gendr\n1,woman\n", "no column 'gender'. Did you mean 'gendr'"),
    ):
        labels.write_text(content)
        with pytest.raises(DataError, match=message):
            data.read_coco_captions(
                path,
                None,
                labels=labels,
                label_id="id",
                attributes=["gender"],
                levels={"gender": ["woman", "man"]},
            )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "was not found"),
        ("{", "is not valid JSON"),
        ("[]", "has no list 'images'. It holds: list"),
        ('{"images": []}', "has no list 'annotations'. It holds: 'images'"),
        ('{"images": [], "annotations": []}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": []}', "image entry 0 lacks 'id' or 'file_name'"),
        (
            '{"images": [{"id": 1, "file_name": "x"}], "annotations": [{"image_id": 1, "bbox": []}]}',
            "is this a captions file",
        ),
    ],
)
def test_what_is_no_coco_captions_file_is_told(tmp_path, content, message):
    path = tmp_path / "captions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        data.read_coco_captions(path, None)


ASKED = {"question_id": 5, "image_id": 1, "question": "?"}
ANSWERED = {"question_id": 5, "multiple_choice_answer": "x", "answers": []}


@pytest.mark.parametrize(
    ("asked", "answered", "message"),
    [
        ([], [], "holds no questions"),
        ([{"question": "?"}], [ANSWERED], "question 0 has no 'question_id'"),
        ([ASKED, ASKED], [ANSWERED], "question_id 5 twice"),
        ([ASKED], [{**ANSWERED, "question_id": 6}], "annotates none of the questions"),
        ([ASKED], [{"question_id": 5}], "annotation 0 has no 'answers' and no 'multiple_choice_answer'"),
    ],
)
def test_what_is_no_vqa_pair_is_told(tmp_path, asked, answered, message):
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(json.dumps({"questions": asked}))
    annotations.write_text(json.dumps({"annotations": answered}))
    with pytest.raises(DataError, match=message):
        data.read_vqa(questions, annotations, None)


def test_vqa_test_split_and_missing_parts(tmp_path):
    questions, annotations = tmp_path / "q.json", tmp_path / "a.json"
    questions.write_text(json.dumps({"questions": [ASKED, {**ASKED, "question_id": 6, "image_id": 2}]}))
    annotations.write_text(json.dumps({"annotations": [ANSWERED]}))
    unanswered = data.read_vqa(questions, None, None)
    assert unanswered.questions["answer"].tolist() == ["", ""]
    found = data.read_vqa(questions, annotations, None)
    assert found.questions["question_id"].tolist() == ["5"]
    assert found.left_out.to_numpy().tolist() == [["question 6", "no annotation"]]
    images = tmp_path / "images"
    images.mkdir()
    (images / "COCO_val2014_000000000001.jpg").write_bytes(b"x")
    found = data.read_vqa(questions, None, images)
    assert found.ids == ["1"]
    assert found.questions["image_id"].tolist() == ["1"]
    assert found.left_out["item"].tolist() == ["2", "question 6"]
    assert found.left_out["reason"][1] == "its image is left out"
    (images / "1.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="two files of image 1"):
        data.read_vqa(questions, None, images)


def test_a_column_with_one_level_is_exported(tiny, tmp_path):
    one = replace(tiny, table=tiny.table.assign(style=pd.Categorical(["noto"] * 3)))
    out = export_coco(one, tmp_path / "coco")
    back = data.read_coco_captions(out / "annotations" / "captions_world.json", out / "world")
    assert back.table["style"].tolist() == ["noto"] * 3
