"""Readers of A-OKVQA, GQA, Visual Genome questions, OK-VQA and easy-VQA, on files made by hand."""

from __future__ import annotations

import json

import pytest

from clipbias import data
from clipbias.errors import DataError


def write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return path


AOK = {
    "image_id": 7,
    "question_id": "ab",
    "question": "what is it?",
    "choices": ["a", "b", "c", "d"],
    "correct_choice_idx": 2,
    "direct_answers": ["c", "c", "d", " c "],
    "difficult_direct_answer": False,
}


def test_aokvqa(tmp_path, pictures):
    hard = {**AOK, "question_id": "cd", "image_id": 8, "difficult_direct_answer": True}
    bare = {k: v for k, v in AOK.items() if k not in ("correct_choice_idx", "direct_answers")}
    path = write(tmp_path / "a.json", [AOK, hard, {**bare, "question_id": "ef"}])
    found = data.read_aokvqa(path, None)
    first, last = found.questions.to_dict("records")
    assert (first["answer"], first["answers"], first["choice"]) == ("c", ["c", "c", "d", "c"], "c")
    assert (last["answer"], last["answers"], last["choice"]) == ("", [], "")
    assert found.left_out.to_numpy().tolist() == [
        ["question cd", "marked as too difficult for a direct answer"]
    ]
    assert len(data.read_aokvqa(path, None, difficult=True).questions) == 3
    write(tmp_path / "images" / "x", "")
    (tmp_path / "images" / "000000000007.png").write_bytes(pictures[0])
    found = data.read_aokvqa(path, tmp_path / "images", difficult=True)
    assert found.ids == ["7"]
    assert found.left_out.to_numpy().tolist()[1] == ["question cd", "its image is left out"]


def test_gqa(tmp_path):
    one = {"imageId": "n5", "question": "is it?", "answer": "yes", "types": {"structural": "verify"}}
    path = write(
        tmp_path / "g.json",
        {
            "1": {**one, "isBalanced": True},
            "2": {**one, "isBalanced": False, "answer": "red"},
            "3": {**one, "answer": " "},
        },
    )
    found = data.read_gqa(path, None)
    assert found.questions["answers"].tolist() == [["yes"] * 10, ["red"] * 10]
    assert found.questions["answer_type"].tolist() == ["yes/no", "other"]
    assert found.questions["question_type"].tolist() == ["verify", "verify"]
    assert found.left_out.to_numpy().tolist() == [["question 3", "no answer"]]
    some = data.read_gqa(path, None, balanced=True)
    assert some.questions["question_id"].tolist() == ["1"]
    assert some.left_out.to_numpy().tolist()[0] == ["question 2", "not of the balanced part"]


def test_visual_genome(tmp_path, pictures):
    asked = {"qa_id": 1, "question": "What colour?", "answer": "Dark red."}
    body = [
        {"id": 10, "qas": [asked, {**asked, "qa_id": 2, "answer": ""}]},
        {"id": 11, "qas": []},
        {"id": 12, "qas": [{**asked, "qa_id": 3, "answer": "Yes."}]},
    ]
    path = write(tmp_path / "qa.json", body)
    about = write(
        tmp_path / "image_data.json", [{"image_id": 10, "coco_id": 99}, {"image_id": 12, "coco_id": None}]
    )
    for folder, name in (("VG_100K", "10.jpg"), ("VG_100K_2", "12.jpg")):
        (tmp_path / "i" / folder).mkdir(parents=True)
        (tmp_path / "i" / folder / name).write_bytes(pictures[2])
    found = data.read_visual_genome_qa(path, tmp_path / "i", image_data=about)
    assert found.ids == ["10", "12"]
    assert found.table["coco_id"].tolist() == ["99", ""]
    assert found.questions["answer"].tolist() == ["Dark red", "Yes"]
    assert found.questions["answer_type"].tolist() == ["other", "yes/no"]
    assert found.read([0, 1]) == [pictures[2]] * 2
    assert found.left_out.to_numpy().tolist() == [["11", "no question"], ["question 2", "no answer"]]
    body[2]["qas"][0]["qa_id"] = 1
    with pytest.raises(DataError, match="question_id 1 twice"):
        data.read_visual_genome_qa(write(path, body), None)


def test_ok_vqa(tmp_path):
    questions = write(
        tmp_path / "q.json", {"questions": [{"question_id": 5, "image_id": 1, "question": "sport?"}]}
    )
    answers = [{"answer": "surf", "raw_answer": "surfing"}] * 6 + [
        {"answer": "swim", "raw_answer": "swimming"}
    ] * 4
    annotations = write(
        tmp_path / "a.json", {"annotations": [{"question_id": 5, "image_id": 1, "answers": answers}]}
    )
    found = data.read_vqa(questions, annotations, None).questions.iloc[0]
    assert (found["answer"], found["answers"].count("surf")) == ("surf", 6)
    raw = data.read_vqa(questions, annotations, None, answer_field="raw_answer").questions.iloc[0]
    assert raw["answer"] == "surfing"
    with pytest.raises(DataError, match="no 'typed'. It has: answer, raw_answer"):
        data.read_vqa(questions, annotations, None, answer_field="typed")


def test_vqa_says_what_it_did_not_take(tmp_path):
    asked = [{"question_id": n, "image_id": n, "question": "?"} for n in range(1, 6)]
    said = [
        {"question_id": 1, "image_id": 1, "multiple_choice_answer": "x", "answers": [{"answer": "x"}]},
        {"question_id": 2, "image_id": 9, "multiple_choice_answer": "x", "answers": []},
        {"question_id": 3, "image_id": 3, "multiple_choice_answer": "", "answers": []},
        {"question_id": 4, "image_id": 4, "answers": [{"answer": "a"}, {"answer": "b"}, {"answer": "b"}]},
        {"question_id": 77, "image_id": 4, "answers": []},
    ]
    files = (
        write(tmp_path / "q.json", {"questions": asked}),
        write(tmp_path / "a.json", {"annotations": said}),
    )
    found = data.read_vqa(*files, None)
    assert found.questions["answers"].tolist() == [["x"] * 10, ["a", "b", "b"]]  # one answer is the true one
    assert found.questions["answer"].tolist() == ["x", "b"]
    assert found.left_out.to_numpy().tolist() == [
        ["question 5", "no annotation"],
        ["annotation of question 77", "no such question"],
        ["question 2", "its annotation is about another image"],
        ["question 3", "no answer"],
    ]
    write(files[1], {"annotations": [said[0], said[0]]})
    with pytest.raises(DataError, match="question_id 1 twice"):
        data.read_vqa(*files, None)


def easy(tmp_path, pictures):
    for split, body in (
        ("train", [["is there a box?", "yes", 0], ["what shape?", "box", 1]]),
        ("test", [["what shape?", "ball", 0]]),
    ):
        write(tmp_path / split / "questions.json", body)
        (tmp_path / split / "images").mkdir()
        for image in {row[2] for row in body}:
            (tmp_path / split / "images" / f"{image}.png").write_bytes(pictures[image])
    return tmp_path


def test_easy_vqa(tmp_path, pictures, monkeypatch):
    found = data.read_easy_vqa(easy(tmp_path, pictures))
    assert found.ids == ["train-0", "train-1", "test-0"]
    assert found.table["split"].tolist() == ["train", "train", "test"]
    assert found.questions["question_id"].tolist() == ["train-q0", "train-q1", "test-q0"]
    assert found.questions["answers"].tolist()[2] == ["ball"] * 10
    assert found.read([1, 2]) == [pictures[1], pictures[0]]
    monkeypatch.setattr("clipbias.data.easy_vqa.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install easy-vqa"):
        data.read_easy_vqa()
    write(tmp_path / "test" / "questions.json", [["only two", "yes"]])
    with pytest.raises(DataError, match="no list of"):
        data.read_easy_vqa(tmp_path)


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("aokvqa", {}, "is this an A-OKVQA file"),
        ("aokvqa", [{"image_id": 1}], "question 0 has no 'question_id'; is this an A-OKVQA file"),
        ("aokvqa", [AOK, AOK], "question_id ab twice"),
        ("gqa", [], "is this a GQA questions file"),
        ("gqa", {"1": {"question": "?"}}, "question 0 has no 'imageId'"),
        (
            "gqa",
            {"1": {"imageId": "1", "question": "?", "answer": ""}},
            "no question of the balanced part with an answer",
        ),
        ("visual-genome-qa", {}, "question_answers.json"),
        ("visual-genome-qa", [{"qas": []}], "image entry 0 has no 'id'"),
        ("visual-genome-qa", [{"id": 1, "qas": [{"qa_id": 1}]}], "question of image 1, 0 has no 'question'"),
        ("visual-genome-qa", [{"id": 1, "qas": []}], "no question with an answer"),
        ("gqa", "{", "is not valid JSON"),
    ],
)
def test_other_files_are_told(tmp_path, kind, body, message):
    with pytest.raises(DataError, match=message):
        data.load(kind, write(tmp_path / "x.json", body), None)
