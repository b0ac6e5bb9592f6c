"""Task data: splits by image, people's annotations, and every file format through one door."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipbias.data import ImageSet, export_coco, export_vqa
from clipbias.errors import DataError
from clipbias.tasks.data import TaskData
from clipbias.tasks.examples import caption_examples
from clipbias.tasks.files import from_files
from clipbias.tasks.people import gender_of_captions, read_people
from clipbias.tasks.splits import split_images

WORDS = {"masculine": ["man", "he"], "feminine": ["woman", "she"]}


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def image_set(n: int = 20, **columns: object) -> ImageSet:
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "gender": pd.Categorical(["woman", "man"] * (n // 2), ["woman", "man"]),
            "captions": [[f"a {k}", "b"] for k in range(n)],
            **columns,
        }
    )
    asked = pd.DataFrame(
        {
            "question_id": [f"q{k}" for k in range(n)],
            "image_id": table["image_id"],
            "question": "what?",
            "answer": ["", "yes"] * (n // 2),
            "answer_type": "other",
            "answers": [["no", "no", "yes"]] * n,
        }
    )
    return ImageSet("set", table, ("gender",), lambda rows: [png(r) for r in rows], (), asked)


def task_data(images: ImageSet, splits: dict[str, str]) -> TaskData:
    return TaskData("captioning", images, caption_examples(images, splits), "d")


SPLITS = {"i0": "train", "i1": "val", "i2": "test"}


def test_captioning_rows_and_places():
    found = task_data(image_set(), SPLITS)
    assert found.split("train")["example_id"].tolist() == ["i0#0", "i0#1"]
    assert found.split("train")["target"].tolist() == ["a 0", "b"]
    test = found.split("test")
    assert test[["example_id", "answers"]].to_numpy().tolist() == [["i2", ["a 2", "b"]]]
    assert found.image_rows(found.examples).tolist() == [0, 0, 1, 1, 2]
    assert found.image_rows(["i19", "i0"]).tolist() == [19, 0]
    with pytest.raises(DataError, match="image 'x' is not in 'd'"):
        found.image_rows(["x"])
    with pytest.raises(DataError, match="no split 'tst'. Did you mean 'test'"):
        found.split("tst")


def test_an_image_or_twin_in_two_splits_is_an_error():
    images = image_set()
    good = task_data(images, SPLITS)
    both = good.examples.assign(split=["train", "test", "val", "val", "test"])
    with pytest.raises(DataError, match="image 'i0' in train, test"):
        replace(good, examples=both)
    twins = image_set(scene=[0, 1, 0, *range(3, 20)])
    with pytest.raises(DataError, match="scene '0' in train, test"):
        task_data(twins, SPLITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(example_id="same"), "example 'same' twice"),
        (lambda t: t.assign(split="dev"), "no split 'dev'"),
        (lambda t: t.assign(image_id="gone"), "about image 'gone'"),
        (lambda t: t.drop(columns="target"), "no column 'target'"),
        (lambda t: t[t["split"] != "val"], "no examples to choose the best state by"),
    ],
)
def test_wrong_examples(change, message):
    good = task_data(image_set(), SPLITS)
    with pytest.raises(DataError, match=message):
        replace(good, examples=change(good.examples))


def test_digest_follows_the_examples():
    good = task_data(image_set(), SPLITS)
    assert good.digest == task_data(image_set(), SPLITS).digest
    assert good.digest != replace(good, examples=good.examples.assign(target="other")).digest


# -- splits -------------------------------------------------------------------------------------


def test_splits_are_drawn_by_seed_and_not_by_order():
    images = image_set(100)
    one, left = split_images(images, val_share=0.1, test_share=0.2, seed=3)
    counts = pd.Series(one).value_counts().to_dict()
    assert counts == {"train": 70, "test": 20, "val": 10}
    assert left.empty
    back = images.take(np.arange(100)[::-1])
    assert split_images(back, val_share=0.1, test_share=0.2, seed=3)[0] == one
    assert split_images(images, val_share=0.1, test_share=0.2, seed=4)[0] != one


def test_bias_is_shown_on_images_with_known_people():
    gender = pd.Categorical(["woman"] * 6 + ["unknown"] * 14)
    splits, _ = split_images(image_set(20, gender=gender), test_share=0.2)
    assert {i for i, s in splits.items() if s == "test"} <= {f"i{k}" for k in range(6)}


def test_scenes_stay_together():
    images = image_set(40, scene=np.repeat(np.arange(10), 4))
    splits, _ = split_images(images, val_share=0.2, test_share=0.2)
    frame = images.table.assign(split=images.table["image_id"].map(splits))
    assert (frame.groupby("scene")["split"].nunique() == 1).all()
    task_data(images, splits)


def test_declared_splits_and_a_limit():
    images = image_set(20, split=["restval", "train"] * 6 + ["val"] * 4 + ["test"] * 4)
    splits, left = split_images(images, n_train=5)
    assert pd.Series(splits).value_counts().to_dict() == {"train": 5, "val": 4, "test": 4}
    assert left.to_numpy().tolist() == [["7 training images", "beyond the 5 asked for (n_train)"]]
    with pytest.raises(DataError, match="a split 'tests'. Did you mean 'test'"):
        split_images(image_set(20, split="tests"))
    with pytest.raises(DataError, match="too few for the splits"):
        split_images(image_set(2))
    with pytest.raises(DataError, match="test_share is 1"):
        split_images(image_set(20), test_share=1)


# -- people -------------------------------------------------------------------------------------


def test_gender_of_captions():
    said = [["A MAN.", "a dog"], ["the woman's car"], ["a man and a woman"], ["a dog"], []]
    found = gender_of_captions(said, WORDS)
    assert list(found) == ["man", "woman", "unknown", "unknown", "unknown"]
    assert found.categories.tolist() == ["woman", "man", "unknown"]


def test_read_people(tmp_path):
    path = tmp_path / "images_val2014.csv"
    path.write_text("id,bb_gender,bb_skin,split,ratio\n1,Female,Light,x,2\n2,Male,Both,x,3\n3,Unsure,,x,1\n")
    people, attributes = read_people(path)
    assert attributes == ["gender", "skin"]
    assert people.to_numpy().tolist() == [["1", "woman", "Light"], ["2", "man", "Both"], ["3", "Unsure", ""]]
    with pytest.raises(DataError, match="no column 'skn'. Did you mean 'skin'|no column 'skn'"):
        read_people(path, attributes=["skn"])
    for text, message in (
        ("number,gender\n1,m\n", "none of the columns image_id"),
        ("id,height\n1,2\n", "no column that is known as an attribute"),
        ("id,gender\n1,m\n1,f\n", "more than one row for image '1'"),
        ("id,gender,bb_gender\n1,m,f\n", "both 'gender' and 'bb_gender'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_people(path)


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    """Captions and questions about forty images, as distributed: image ids are numbers."""
    images = tmp_path / "val2014"
    images.mkdir()
    captions, questions, annotations = [], [], []
    for number in range(1, 41):
        (images / f"COCO_val2014_{number:012d}.png").write_bytes(png(number))
        who = ("man", "woman", "dog")[number % 3]
        captions += [{"image_id": number, "id": 10 * number + k, "caption": f"a {who} {k}"} for k in range(2)]
        key = {"question_id": number * 1000, "image_id": number}
        questions.append({**key, "question": f"who is {number}?"})
        annotations.append(
            {**key, "question_type": "who is", "answer_type": "other", "multiple_choice_answer": who,
             "answers": [{"answer": who, "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)]}
        )  # fmt: skip
    entries = [{"id": n, "file_name": f"COCO_val2014_{n:012d}.png"} for n in range(1, 41)]
    for name, body in (
        ("captions", {"images": entries, "annotations": captions}),
        ("questions", {"questions": questions}),
        ("annotations", {"annotations": annotations}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(body))
    (tmp_path / "people.csv").write_text("id,bb_gender\n" + "".join(f"{n},Male\n" for n in range(1, 21)))
    return tmp_path


def parts(root, *names):
    return {name: root / f"{name}.json" for name in names} | {"images": root / "val2014"}


def test_captions_with_gender_from_words(coco):
    found = from_files("captioning", **parts(coco, "captions"), words=WORDS)
    assert found.images.attributes == ("gender",)
    assert found.images.table.set_index("image_id")["gender"].astype(str).to_dict()["3"] == "man"
    assert "word list custom" in found.images.facts["gender"]
    test = found.split("test")
    genders = found.images.table["gender"].astype(str).to_numpy()[found.image_rows(test)]
    assert len(test) == 8
    assert set(genders) <= {"man", "woman"}
    row = found.image_rows(["3"])[0]
    assert found.images.read([row]) == [png(3)]
    assert from_files("captioning", **parts(coco, "captions"), words=None).images.attributes == ()


def test_annotations_of_people_win_over_words(coco):
    found = from_files("captioning", **parts(coco, "captions"), labels=coco / "people.csv", words=WORDS)
    column = found.images.table.set_index("image_id")["gender"].astype(str)
    assert column["1"] == "man"
    assert column["40"] == "unknown"
    assert set(map(int, found.split("test")["image_id"])) <= set(range(1, 21))
    (coco / "people.csv").write_text("id,gender\nx,m\n")
    with pytest.raises(DataError, match="names none of the images: it has ids such as 'x'"):
        from_files("captioning", **parts(coco, "captions"), labels=coco / "people.csv")


def test_questions_with_gender_from_captions(coco):
    found = from_files("vqa", **parts(coco, "questions", "annotations", "captions"), words=WORDS, n_train=10)
    assert found.images.attributes == ("gender",)
    assert len(found.split("train")) == 10
    assert len(found.images) == len(found.examples)  # only what is used
    first = found.split("test").iloc[0]
    assert first["answers"] == [first["target"]] * 10
    assert first["example_id"] == first["image_id"] + "000"
    assert found.left_out["reason"].tolist() == ["beyond the 10 asked for (n_train)"]


def test_bias_evaluation_of_its_own_files(coco, tmp_path):
    body = json.loads((coco / "captions.json").read_text())
    for name, kept in (("train", range(1, 31)), ("eval", range(25, 41))):
        some = {
            "images": [e for e in body["images"] if e["id"] in kept],
            "annotations": [a for a in body["annotations"] if a["image_id"] in kept],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(some))
    labels = pd.DataFrame({"image_id": [str(n) for n in range(35, 41)], "gender": ["F"] * 6})
    found = from_files(
        "captioning",
        captions=tmp_path / "train.json",
        images=coco / "val2014",
        labels=labels,
        test={"captions": tmp_path / "eval.json", "images": coco / "val2014"},
    )
    assert sorted(map(int, found.split("test")["image_id"])) == list(range(25, 41))
    lost = found.left_out[found.left_out["reason"].str.startswith("in training and bias")]
    assert sorted(map(int, lost["item"])) == list(range(25, 31))
    assert found.images.column("gender").categories.tolist() == ["woman", "unknown"]
    with pytest.raises(DataError, match="test has no part 'caption'. Did you mean 'captions'"):
        from_files("captioning", captions=coco / "captions.json", test={"caption": "x"})


@pytest.mark.parametrize(
    ("task", "given", "changes", "message"),
    [
        ("captioning", [], {}, "needs a file of captions"),
        ("vqa", [], {}, "needs a file of questions"),
        ("vqa", ["questions"], {}, "give its annotations"),
        ("captioning", ["captions"], {"words": "hendriks2018"}, "no word list 'hendriks2018'. Did you mean"),
        ("captions", ["captions"], {}, "no task 'captions'. Did you mean 'captioning'"),
        ("captioning", ["captions"], {"kind": "coco"}, "no reader 'coco'"),
        ("captioning", ["captions"], {"contexts": ["place"]}, "no column 'place'"),
    ],
)
def test_what_is_missing_is_told(coco, task, given, changes, message):
    with pytest.raises(DataError, match=message):
        from_files(task, **parts(coco, *given), **changes)


def test_captions_of_other_images_give_no_gender(coco):
    body = {"images": [{"id": 999, "file_name": "x"}], "annotations": [{"image_id": 999, "caption": "a"}]}
    (coco / "captions.json").write_text(json.dumps(body))
    with pytest.raises(DataError, match="describes none of the images asked about"):
        from_files("vqa", **parts(coco, "questions", "annotations", "captions"), words=WORDS)


def test_one_file_with_its_answers(coco):
    body = {
        str(n): {"imageId": str(n), "question": "?", "answer": "red" if n % 2 else "blue"} for n in range(20)
    }
    path = coco / "gqa.json"
    path.write_text(json.dumps(body))
    found = from_files("vqa", questions=path)
    assert found.images.attributes == ()
    assert found.examples["target"].isin(["red", "blue"]).all()
    with pytest.raises(DataError, match="a file of gqa, which holds its answers"):
        from_files("vqa", questions=path, annotations=coco / "annotations.json")
    with pytest.raises(DataError, match="was read without images"):
        found.images.read([0])


def test_our_own_export_comes_back(tmp_path):
    images = image_set(20, scene=np.repeat(np.arange(10), 2))
    folder = export_coco(images, tmp_path / "coco")
    found = from_files(
        "captioning", captions=folder / "annotations" / "captions_world.json", images=folder / "world"
    )
    assert set(found.images.ids) == set(images.ids)
    assert found.images.attributes == ("gender",)
    asked = images.questions.assign(answer="no")
    folder = export_vqa(replace(images, questions=asked), tmp_path / "vqa")
    found = from_files(
        "vqa",
        questions=folder / "questions.json",
        annotations=folder / "annotations.json",
        images=folder / "images",
    )
    assert set(found.examples["example_id"]) == {f"q{k}" for k in range(20)}


def test_questions_nobody_answered_are_counted(coco):
    body = json.loads((coco / "annotations.json").read_text())
    for one in body["annotations"][:3]:
        one.update(multiple_choice_answer="", answers=[])
    del body["annotations"][5]
    (coco / "annotations.json").write_text(json.dumps(body))
    found = from_files("vqa", **parts(coco, "questions", "annotations"), words=None)
    assert found.left_out["reason"].value_counts().to_dict() == {"no answer": 3, "no annotation": 1}
    assert len(found.examples) == 36
