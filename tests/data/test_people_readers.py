"""Readers of pictures of people, each on a few files in the layout of the real set."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipbias import data
from clipbias.errors import DataError


def jpeg(width: int = 8, height: int = 6) -> bytes:
    out = io.BytesIO()
    x = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    Image.fromarray(x).save(out, "JPEG")
    return out.getvalue()


def put(folder, *names: str):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())


def left(image_set) -> dict[str, str]:
    return dict(image_set.left_out[["item", "reason"]].to_numpy().tolist())


# -- names -----------------------------------------------------------------------------------------


def test_names_reads_labels_from_paths(tmp_path):
    put(tmp_path, "a/x_woman.png", "b/y_man.JPG", "odd.png", ".hidden/z_man.png")
    (tmp_path / "notes.txt").write_text("x")
    found = data.read_names(tmp_path, pattern="{place}/*_{gender}", attributes=["gender"], contexts=["place"])
    assert found.ids == ["a/x_woman.png", "b/y_man.JPG"]
    assert found.table["gender"].tolist() == ["woman", "man"]
    assert found.image(1).size == (8, 6)
    assert left(found) == {
        "odd.png": "its name does not fit '{place}/*_{gender}'", ".hidden/z_man.png": "not an image file",
        "notes.txt": "not an image file",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{gender", "cannot be read"),
        ("none", "needs named fields"),
        ("{a}/{a}", "each once"),
        ("{sex}_{x}", "no field 'gender'"),
    ],
)
def test_names_bad_patterns(tmp_path, pattern, message):
    put(tmp_path, "a_b.png")
    with pytest.raises(DataError, match=message):
        data.read_names(tmp_path, pattern=pattern, attributes=["gender"])


def test_names_nothing_fits(tmp_path):
    put(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"no image of .* can be used.*for example a\.png"):
        data.read_names(tmp_path, pattern="{gender}_{x}", attributes=["gender"])
    with pytest.raises(DataError, match="does not exist"):
        data.read_names(tmp_path / "no", pattern="{gender}", attributes=["gender"])


# -- UTKFace ---------------------------------------------------------------------------------------


def test_utkface_names_in_both_forms_and_malformed_ones(tmp_path):
    put(
        tmp_path, "part1/100_1_0_20170112213500903.jpg", "25_0_4_20170117134644944.jpg.chip.jpg", "9_1_1_20161219190659120.jpg",
        "39_1_20170116174525125.jpg.chip.jpg", "117_0_0_20170112213500903.jpg", "61_3_1_20170109150557335.jpg",
    )  # fmt: skip
    found = data.load("utkface", tmp_path)
    table = found.table.set_index("image_id")
    assert table.loc["part1/100_1_0_20170112213500903.jpg", ["age", "gender", "race", "age_years"]].tolist() == [
        "70+", "Female", "White", 100,
    ]  # fmt: skip
    assert table.loc["25_0_4_20170117134644944.jpg.chip.jpg", ["age", "gender", "race"]].tolist() == [
        "20-29",
        "Male",
        "Others",
    ]
    assert table.loc["9_1_1_20161219190659120.jpg", "age"] == "3-9"
    assert set(left(found)) == {
        "39_1_20170116174525125.jpg.chip.jpg", "117_0_0_20170112213500903.jpg", "61_3_1_20170109150557335.jpg",
    }  # fmt: skip
    assert "malformed name" in left(found)["39_1_20170116174525125.jpg.chip.jpg"]
    assert len(found.column("race").categories) == 5


@pytest.mark.parametrize(
    ("age", "group"),
    [(0, "0-2"), (2, "0-2"), (3, "3-9"), (10, "10-19"), (69, "60-69"), (70, "70+"), (116, "70+")],
)
def test_utkface_age_ranges_begin_where_fairface_says(tmp_path, age, group):
    put(tmp_path, f"{age}_0_0_20170112213500903.jpg")
    assert data.read_utkface(tmp_path).table["age"].tolist() == [group]


# -- CelebA ----------------------------------------------------------------------------------------

CELEBA = "3\n5_o_Clock_Shadow Male Young\n000001.jpg -1  1 -1\n000002.jpg  1 -1  1\n000003.jpg -1 -1 -1\n"


@pytest.fixture
def celeba(tmp_path):
    (tmp_path / "list_attr_celeba.txt").write_text(CELEBA)
    put(tmp_path / "img_align_celeba", "000001.jpg", "000002.jpg")
    return tmp_path


def test_celeba_as_published(celeba):
    found = data.read_celeba(celeba / "list_attr_celeba.txt", celeba / "img_align_celeba")
    assert found.attributes == ("gender", "age")
    assert found.contexts == ("5_o_Clock_Shadow",)
    assert found.table[["gender", "age", "5_o_Clock_Shadow"]].to_numpy().tolist() == [
        ["Male", "not young", "no"], ["Female", "young", "yes"],
    ]  # fmt: skip
    assert "missing file" in left(found)["000003.jpg"]


def test_celeba_split_and_csv(celeba):
    (celeba / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n000003.jpg 2\n")
    found = data.read_celeba(celeba / "list_attr_celeba.txt", None, split="test", attributes=["gender"])
    assert found.ids == ["000002.jpg", "000003.jpg"]
    assert "age" in found.contexts
    csv = celeba / "other" / "list_attr_celeba.csv"
    csv.parent.mkdir()
    csv.write_text("image_id,Male,Young\n000001.jpg,1,0\n")
    assert data.read_celeba(csv, None).table[["gender", "age"]].to_numpy().tolist() == [["Male", "not young"]]
    with pytest.raises(DataError, match=r"needs list_eval_partition\.txt"):
        data.read_celeba(csv, None, split="test")
    with pytest.raises(DataError, match="none of train, val and test"):
        data.read_celeba(celeba / "list_attr_celeba.txt", None, split="dev")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("3\n", "4\n", "promises 4 images and has 3"), ("3\n", "", "begin with the number"), (" 1 -1\n", " 2 -1\n", "'2' is neither 1 nor -1"),
     ("Male ", "", "columns are named")],
)  # fmt: skip
def test_celeba_damage_is_named(celeba, old, new, message):
    path = celeba / "list_attr_celeba.txt"
    path.write_text(CELEBA.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        data.read_celeba(path, None)


# -- PHASE -----------------------------------------------------------------------------------------


def person(region=(1, 1, 5, 4), **labels):
    given = {
        "age": "adult",
        "gender": "female",
        "skintone": "darker",
        "ethnicity": "black",
        "emotion": "happiness",
        "activity": "work",
    }
    return {"region": list(region), "annotations": {**given, **labels}}


def write(path, body):
    path.write_text(json.dumps(body))
    return path


def test_phase_majority_labels_and_cut_people(tmp_path):
    put(tmp_path / "images", "489254", "948611")
    body = {
        "489254": {"caption": "at work", "person1": person(), "person2": person(gender="unsure", ethnicity="east_asian", region=(4, 0, 99, 99))},
        "948611": {"caption": "", "person1": person(skintone="disagreement"), "person2": {"region": [1, 1, 2, 2]}, "person3": {"annotations": {}}},
        "777": {"caption": "nobody"}, "778": {"caption": "gone", "person1": person()},
    }  # fmt: skip
    found = data.read_phase(write(tmp_path / "phase_gcc_val_regions.json", body), tmp_path / "images")
    assert found.ids == ["489254/person1", "489254/person2", "948611/person1"]
    assert found.table["gender"].tolist() == ["female", "unknown", "female"]
    assert found.table["gender_note"].tolist() == ["", "unsure", ""]
    assert found.table["skintone_note"].tolist() == ["", "", "disagreement"]
    assert found.table["ethnicity"].tolist() == ["black", "east asian", "black"]
    assert found.table["scene"].tolist() == ["489254", "489254", "948611"]
    assert "gender_agreement" not in found.table
    assert found.image(0).size == (4, 3)
    assert found.image(1).size == (4, 6)  # the part inside the picture
    assert left(found) == {
        "948611/person2": "no annotations", "948611/person3": "no region", "777": "no person is annotated",
        "778/person1": f"missing file (in {tmp_path / 'images'})",
    }  # fmt: skip


def test_phase_all_annotations_give_agreement(tmp_path):
    votes = [
        {"worker": w, "age": a, "gender": g}
        for w, a, g in (("x", "adult", "male"), ("y", "adult", "female"), ("z", "young", "unsure"))
    ]
    found = data.read_phase(
        write(tmp_path / "all.json", {"1": {"person1": {"region": [0, 0, 1, 1], "annotations": votes}}}), None
    )
    row = found.table.iloc[0]
    assert (row["age"], row["age_agreement"], row["age_note"]) == ("adult", pytest.approx(2 / 3), "")
    assert (row["gender"], row["gender_note"]) == ("unknown", "disagreement")
    assert (row["skintone"], row["skintone_note"]) == ("unknown", "not annotated")
    assert np.isnan(row["skintone_agreement"])


def test_phase_one_row_per_image(tmp_path):
    put(tmp_path, "9.jpg")
    body = {"9.jpg": {"person1": person(gender="male"), "person2": person(region=(0, 0, 7, 5))}}
    found = data.read_phase(write(tmp_path / "p.json", body), tmp_path, unit="image")
    assert found.ids == ["9.jpg"]
    assert found.table["gender"].tolist() == ["female"]
    assert found.image(0).size == (8, 6)
    assert left(found) == {"9.jpg/person1": "a smaller region of an image that is used whole"}


def test_phase_errors(tmp_path):
    body = {"1": {"person1": person(gender="mal")}}
    with pytest.raises(DataError, match="gender 'mal' is no known label. Did you mean 'male'"):
        data.read_phase(write(tmp_path / "p.json", body), None)
    with pytest.raises(DataError, match="nobody with a region"):
        data.read_phase(write(tmp_path / "p.json", {"1": {}}), None)
    with pytest.raises(DataError, match="should map images"):
        data.read_phase(write(tmp_path / "p.json", []), None)
    with pytest.raises(DataError, match="unit='face'"):
        data.read_phase(tmp_path / "p.json", None, unit="face")


# -- FACET -----------------------------------------------------------------------------------------


def facet(tmp_path, *rows: dict):
    zero = dict.fromkeys(
        [f"gender_presentation_{g}" for g in ("masc", "fem", "non_binary", "na")]
        + [f"age_presentation_{a}" for a in ("young", "middle", "older", "na")]
        + [f"skin_tone_{t}" for t in [*range(1, 11), "na"]], 0,
    )  # fmt: skip
    base = {
        "filename": "sa_1.jpg",
        "class1": "doctor",
        "class2": "",
        "bounding_box": '{"x": 1, "y": 1, "width": 4, "height": 2}',
    }
    table = pd.DataFrame([{"person_id": i, **base, **zero, **row} for i, row in enumerate(rows, 1)])
    table.to_csv(tmp_path / "annotations.csv", index=False)
    return tmp_path / "annotations.csv"


def test_facet_keeps_counts_as_soft_labels(tmp_path):
    put(tmp_path / "images", "imgs_2/sa_1.jpg")
    csv = facet(
        tmp_path,
        {"gender_presentation_fem": 1, "skin_tone_3": 2, "skin_tone_4": 1, "age_presentation_middle": 1},
        {"gender_presentation_na": 1, "skin_tone_3": 1, "skin_tone_4": 1, "class2": "nurse"},
        {"filename": "sa_2.jpg", "gender_presentation_masc": 1},
    )
    found = data.load("facet", csv, tmp_path / "images")
    assert found.ids == ["1", "2"]
    assert found.table["skin_tone"].tolist() == ["3", "unknown"]
    assert found.table["skin_tone=3"].tolist() == pytest.approx([2 / 3, 0.5])
    assert found.table["skin_tone_note"].tolist() == ["", "annotators disagree"]
    assert found.table["gender"].tolist() == ["fem", "unknown"]
    assert found.table["gender_note"].tolist() == ["", "most annotators could not tell"]
    assert found.table["age_note"].tolist() == ["", "not annotated"]
    shares = found.table[found.facts["soft"]["skin_tone"]].sum(axis=1)
    assert shares.tolist() == pytest.approx([1, 1])
    assert found.image(0).size == (4, 2)
    assert "missing file" in left(found)["3"]


def test_facet_errors(tmp_path):
    with pytest.raises(DataError, match=r"bounding_box in row 1 should be a mapping"):
        data.read_facet(facet(tmp_path, {"bounding_box": "1,2,3"}), None)
    with pytest.raises(DataError, match="column 'skin_tone_2': 'x' in row 1 is no count"):
        data.read_facet(facet(tmp_path, {"skin_tone_2": "x"}), None)
    put(tmp_path / "images", "other.jpg")
    with pytest.raises(DataError, match=r"looked for sa_1\.jpg"):
        data.read_facet(facet(tmp_path, {}), tmp_path / "images")


# -- MMBias ----------------------------------------------------------------------------------------


def test_mmbias_folders_as_unpacked(tmp_path):
    put(
        tmp_path, "Religion/Muslim/1.jpg", "Religion/Jewish/2.jpg", "Disability/Non-Disabled/1.jpg", "Sexual Orientation/LGBT/1.jpg",
        "Valence Images/Pleasant/45.jpg", "__MACOSX/Religion/Muslim/._1.jpg", "Religion/Elsewhere/3.jpg",
    )  # fmt: skip
    found = data.read_mmbias(tmp_path)
    assert found.attributes == ("religion", "disability", "sexual_orientation")
    table = found.table.set_index("image_id")
    assert table.loc["Religion/Muslim/1.jpg", ["religion", "disability", "category", "valence"]].tolist() == [
        "Muslim", "unknown", "religion", "none",
    ]  # fmt: skip
    assert table.loc["Valence Images/Pleasant/45.jpg", ["category", "valence", "religion"]].tolist() == [
        "valence",
        "Pleasant",
        "unknown",
    ]
    assert left(found) == {
        "Religion/Elsewhere/3.jpg": "its folder is no group of MMBias", "__MACOSX/Religion/Muslim/._1.jpg": "not an image file",
    }  # fmt: skip


# -- COCO with gender and skin ----------------------------------------------------------------------


def test_coco_people(tmp_path):
    put(tmp_path / "val2014", "COCO_val2014_000000000785.jpg", "COCO_val2014_000000000872.jpg")
    csv = tmp_path / "images_val2014.csv"
    csv.write_text(
        "id,bb_gender,bb_skin,split\n785,Female,Light,train\n872,Male,Unsure,val\n999,Both,Both,val\n"
    )
    said = {
        "annotations": [
            {"image_id": 785, "id": 1, "caption": "a skier"},
            {"image_id": 1, "id": 2, "caption": "no"},
        ]
    }
    found = data.read_coco_people(csv, tmp_path / "val2014")
    assert found.ids == ["785", "872"]
    assert found.table["skin"].tolist() == ["Light", "unknown"]
    assert found.column("gender").categories.tolist() == ["Female", "Male", "Both"]
    assert found.contexts == ("split",)
    assert "missing file" in left(found)["999"]
    spoken = data.read_coco_people(csv, None, captions=write(tmp_path / "c.json", said))
    assert spoken.table["caption"].tolist() == ["a skier"]
    assert left(spoken) == {"872": "no caption", "999": "no caption"}


def test_coco_people_errors(tmp_path):
    csv = tmp_path / "a.csv"
    csv.write_text("id,bb_gender,bb_skin\n1,Female,7\n")
    with pytest.raises(DataError, match="'7' in row 1"):
        data.read_coco_people(csv, None)
    csv.write_text("id,bb_gender,bb_skin\n1,Female,1\n1,Male,6\n")
    with pytest.raises(DataError, match="image '1' twice"):
        data.read_coco_people(csv, None)
    csv.write_text("id,bb_gender,bb_skin\nx,Female,1\n")
    with pytest.raises(DataError, match="id 'x' is no COCO image number"):
        data.read_coco_people(csv, None)
