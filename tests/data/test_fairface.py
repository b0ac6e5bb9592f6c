"""FairFace in all the spellings it goes around in."""

from __future__ import annotations

import itertools

import pytest

from clipbias.data import read_fairface
from clipbias.errors import DataError

HEAD = "file,age,gender,race,service_test\n"
ROWS = [
    "val/1.jpg,3-9,Male,East Asian,False",
    "val/2.jpg,more than 70,Female,Latino_Hispanic,True",
    "val/3.jpg,10-19,Female,Southeast Asian,True",
]


def write(folder, *rows: str, head: str = HEAD):
    path = folder / "labels.csv"
    path.write_text(head + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def images(tmp_path, pictures):
    folder = tmp_path / "data" / "val"
    folder.mkdir(parents=True)
    for i, data in enumerate(pictures, 1):
        (folder / f"{i}.jpg").write_bytes(data)
    return folder.parent


def test_published_labels(tmp_path, images, pictures):
    found = read_fairface(write(tmp_path, *ROWS), images)
    assert found.ids == ["val/1.jpg", "val/2.jpg", "val/3.jpg"]
    assert found.attributes == ("age", "gender", "race")
    assert found.contexts == ("service_test",)
    assert found.table["age"].tolist() == ["3-9", "70+", "10-19"]
    assert found.column("age").categories.tolist()[:3] == [
        "0-2",
        "3-9",
        "10-19",
    ]  # absent levels stay declared
    assert len(found.column("age").categories) == 9
    assert len(found.column("race").categories) == 7
    assert found.column("gender").categories.tolist() == ["Female", "Male"]
    assert found.read([1]) == [pictures[1]]
    assert found.facts["notes"] == ()


@pytest.mark.parametrize(
    "spelled", ["Latino_Hispanic", "Latino Hispanic", "Latino", "latino/hispanic", "Hispanic"]
)
def test_race_spellings(tmp_path, spelled):
    found = read_fairface(write(tmp_path, f"val/1.jpg,20-29,Male,{spelled},False"), None)
    assert found.table["race"].tolist() == ["Latino_Hispanic"]


@pytest.mark.parametrize("spelled", ["more than 70", "70+", ">70", "More than 70"])
def test_oldest_age_spellings(tmp_path, spelled):
    found = read_fairface(write(tmp_path, f"val/1.jpg,{spelled},Male,White,False"), None)
    assert found.table["age"].tolist() == ["70+"]
    assert found.facts["notes"] == ()  # a spelling, not damage


@pytest.mark.parametrize(
    ("mangled", "age"),
    [("9-Mar", "3-9"), ("09-Mar", "3-9"), ("Mar-09", "3-9"), ("3-Sep", "3-9"), ("03. Sep", "3-9"), ("2023-03-09", "3-9"),
     ("2023-03-09 00:00:00", "3-9"), ("3/9/2023", "3-9"), ("03/09/23", "3-9"), ("19-Oct", "10-19"), ("Oct-19", "10-19"),
     ("19. Okt", "10-19"), ("2023-10-19", "10-19"), ("10/19/2023", "10-19")],
)  # fmt: skip
def test_ages_that_a_spreadsheet_made_dates_are_mended_and_told(tmp_path, mangled, age):
    rows = [
        f"val/1.jpg,{mangled},Male,White,False",
        "val/2.jpg,20-29,Male,White,False",
        f"val/3.jpg,{age},Male,White,False",
    ]
    found = read_fairface(write(tmp_path, *rows), None)
    assert found.table["age"].tolist() == [age, "20-29", age]
    assert len(found.facts["notes"]) == 1
    assert found.facts["notes"][0].startswith("1 ages were written as dates")


@pytest.mark.parametrize("wrong", ["9-Apr", "19-Sep", "30-9", "2023-03-10", "3", "forty"])
def test_other_ages_are_not_guessed(tmp_path, wrong):
    with pytest.raises(DataError, match=f"column 'age': '{wrong}' in row 1"):
        read_fairface(write(tmp_path, f"val/1.jpg,{wrong},Male,White,False"), None)


@pytest.mark.parametrize(
    ("prefix", "below"),
    [
        ("", "val"),
        *itertools.product(["val/", "fairface/val/", "a/b/fairface/val/", "fairface\\val\\"], [".", "val"]),
    ],
)
def test_path_prefixes_of_table_and_folder(tmp_path, images, pictures, prefix, below):
    found = read_fairface(
        write(tmp_path, *[f"{prefix}{i}.jpg,20-29,Male,White,True" for i in (1, 2, 3)]), images / below
    )
    assert found.read([2]) == [pictures[2]]
    assert len(found.left_out) == 0


def test_train_and_val_are_never_one_picture(tmp_path, images):
    path = write(tmp_path, "val/1.jpg,20-29,Male,White,True", "train/1.jpg,20-29,Male,White,True")
    found = read_fairface(path, images)
    assert found.ids == ["val/1.jpg"]
    assert found.left_out["item"].tolist() == ["train/1.jpg"]
    with pytest.raises(
        DataError, match=r"two images of the table are one file .*1.jpg. Give the folder above"
    ):
        read_fairface(path, images / "val")


def test_missing_images_are_counted(tmp_path, images):
    (images / "val" / "2.jpg").unlink()
    found = read_fairface(write(tmp_path, *ROWS), images)
    assert len(found) == 2
    assert found.left_out["item"].tolist() == ["val/2.jpg"]


@pytest.mark.parametrize(
    ("head", "row", "message"),
    [
        ("file_name,age,gender\n", "val/1.jpg,20-29,Male", "no column 'file'. Did you mean 'file_name'"),
        ("file,gendr\n", "val/1.jpg,Male", "no column 'gender'. Did you mean 'gendr'"),
        (
            "file,gender\n",
            "val/1.jpg,Mael",
            "column 'gender': 'Mael' in row 1 is no allowed level. Did you mean 'Male'",
        ),
        ("file,race\n", "val/1.jpg,Asian", "column 'race': 'Asian' in row 1"),
    ],
)
def test_what_is_not_fairface_is_told(tmp_path, head, row, message):
    with pytest.raises(DataError, match=message):
        read_fairface(write(tmp_path, row, head=head), None)


def test_unlabelled_people_are_unknown(tmp_path):
    found = read_fairface(write(tmp_path, "val/1.jpg,,Male,White,True"), None)
    assert found.table["age"].tolist() == ["unknown"]
