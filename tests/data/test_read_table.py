"""The folder-with-a-table reader, and bad input of every kind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clipbias import data
from clipbias.data import ImageSet, check_images, read_table
from clipbias.data.files import why_unreadable
from clipbias.data.labels import categorical
from clipbias.errors import ClipbiasError, DataError


def read(folder, **options) -> ImageSet:
    given = {"attributes": ["gender"], "contexts": ["place"], "path_column": "file", **options}
    return read_table(folder / "people.csv", folder / "images", **given)


def edit(folder, old: str, new: str) -> None:
    path = folder / "people.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_rows_labels_and_bytes(folder):
    found = read(folder, id_column="who", licence="CC0-1.0")
    assert found.ids == ["p1", "p2", "p3"]
    assert found.name == "people"
    assert found.licence == "CC0-1.0"
    assert found.table["gender"].tolist() == ["woman", "man", "unknown"]
    assert found.column("gender").categories.tolist() == ["man", "woman", "unknown"]
    assert found.column("place").categories.tolist() == [
        "city",
        "park",
    ]  # nobody is unlabelled: no such level
    assert found.read([2, 0]) == [(folder / "images" / n).read_bytes() for n in ("c.jpg", "a.png")]
    assert found.image(0).size == (8, 6)
    assert len(found.left_out) == 0
    assert read(folder).ids == ["a.png", "b.png", "c.jpg"]


def test_tsv_and_parquet_and_byte_order_mark(folder):
    table = pd.read_csv(folder / "people.csv", dtype=str)
    expected = read(folder).table
    table.to_csv(folder / "people.tsv", sep="\t", index=False, encoding="utf-8-sig")
    table.to_parquet(folder / "people.parquet")
    for name in ("people.tsv", "people.parquet"):
        found = read_table(
            folder / name, folder / "images", attributes=["gender"], contexts=["place"], path_column="file"
        )
        pd.testing.assert_frame_equal(found.table, expected)


def test_empty_group_is_kept_as_a_declared_level(folder):
    found = read(folder, levels={"gender": ["woman", "man", "non-binary"]})
    assert found.column("gender").categories.tolist() == ["woman", "man", "non-binary", "unknown"]
    assert (found.column("gender") == "non-binary").sum() == 0


def test_words_for_no_label_are_one_level_unless_declared():
    made = categorical(pd.Series(["a", "N/A", "nan", " ", "Unknown"]), where="x")
    assert made.tolist() == ["a", *["unknown"] * 4]
    declared = categorical(pd.Series(["a", "NA"]), levels=["a", "NA"], where="x")
    assert declared.tolist() == ["a", "NA"]
    assert declared.categories.tolist() == ["a", "NA"]
    assert categorical(pd.Series(["a", "unsure"]), where="x", no_label=["unsure"]).tolist() == [
        "a",
        "unknown",
    ]


def test_wrong_level_names_value_row_and_levels(folder):
    edit(folder, "p2,man", "p2,mna")
    with pytest.raises(
        DataError,
        match=r"people.csv, column 'gender': 'mna' in row 2 is no allowed level. Did you mean 'man'",
    ) as e:
        read(folder, levels={"gender": ["woman", "man"]})
    assert "Allowed: woman, man." in str(e.value)
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ["gendr"]}, "people.csv has no column 'gendr'. Did you mean 'gender'"),
        ({"contexts": ["plce"]}, "has no column 'plce'. Did you mean 'place'"),
        ({"path_column": "fil"}, "has no column 'fil'. Did you mean 'file'"),
        ({"id_column": "whom"}, "has no column 'whom'. Did you mean 'who'"),
        ({"levels": {"gendr": ["woman"]}}, "levels are declared for 'gendr'.*Did you mean 'gender'"),
    ],
)
def test_missing_column_names_the_nearest(folder, options, message):
    with pytest.raises(DataError, match=message):
        read(folder, **options)


def test_missing_files_are_left_out_and_counted(folder):
    (folder / "images" / "b.png").unlink()
    found = read(folder, id_column="who")
    assert found.ids == ["p1", "p3"]
    assert found.read([1]) == [(folder / "images" / "c.jpg").read_bytes()]
    assert found.left_out["item"].tolist() == ["p2"]
    assert found.left_out["reason"][0].startswith("missing file")


def test_no_file_at_all_is_an_error(folder):
    for name in ("a.png", "b.png", "c.jpg"):
        (folder / "images" / name).unlink()
    with pytest.raises(DataError, match=r"none of the 3 images is in .*images; looked for .*a.png first"):
        read(folder)
    with pytest.raises(DataError, match="the image folder .*nowhere does not exist"):
        read_table(folder / "people.csv", folder / "nowhere", attributes=["gender"], path_column="file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "was not found"),
        (b"", "cannot be read as a table"),
        (b"file,who,gender,place\n", "has no rows"),
        ("file,gender\na.png,\u00e4\n".encode("latin-1"), "is not UTF-8"),
        (b'file,gender\na.png,"x\n', "cannot be read as a table"),
    ],
)
def test_a_table_that_cannot_be_read(folder, content, message):
    path = folder / "people.csv"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"people.csv {message}"):
        read(folder)


def test_duplicated_ids_are_an_error(folder):
    edit(folder, "p2", "p1")
    with pytest.raises(DataError, match="duplicated image_id 'p1'"):
        read(folder, id_column="who")


def test_a_column_of_lists_holds_no_labels(tiny):
    with pytest.raises(DataError, match="'captions' of 'tiny' holds no labels"):
        tiny.column("captions")


def test_without_images_labels_are_there_and_pixels_are_an_error(folder):
    found = read_table(folder / "people.csv", None, attributes=["gender"], path_column="file")
    assert len(found) == 3
    with pytest.raises(DataError, match="read without images; give the folder"):
        found.read([0])


def test_a_file_that_goes_away_later_is_a_message(folder):
    found = read(folder)
    (folder / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="a.png cannot be read any more"):
        found.read([0])


# -- corrupt images -----------------------------------------------------------------------------


def test_corrupt_images_are_left_out_with_their_reason(folder):
    images = folder / "images"
    (images / "a.png").write_bytes((images / "a.png").read_bytes()[:60])
    (images / "b.png").write_text("not an image")
    found = check_images(read(folder, id_column="who"), max_bad=1.0)
    assert found.ids == ["p3"]
    assert found.left_out["item"].tolist() == ["p1", "p2"]
    assert found.left_out["reason"].str.startswith("unreadable image: ").all()
    assert "not an image of a known format" in found.left_out["reason"][1]
    assert found.read([0]) == [(images / "c.jpg").read_bytes()]


def test_a_truncated_jpeg_an_empty_file_and_a_missing_one_are_bad(folder):
    images = folder / "images"
    whole = (images / "c.jpg").read_bytes()
    assert why_unreadable(whole) == ""
    assert why_unreadable(whole[: len(whole) // 2])
    assert why_unreadable(b"") == "the file is empty"
    found = read(folder, id_column="who")
    (images / "b.png").unlink()
    checked = check_images(found, max_bad=1.0)
    assert checked.ids == ["p1", "p3"]
    assert "cannot be read any more" in checked.left_out["reason"][0]


def test_more_bad_images_than_allowed_is_an_error(folder):
    images = folder / "images"
    (images / "a.png").unlink()
    (images / "b.png").write_bytes(b"")
    found = read(folder, id_column="who")
    with pytest.raises(
        DataError, match=r"2 of 3 images of 'people' are missing or unreadable \(66.7%\), more than the 1.0%"
    ) as e:
        check_images(found)
    assert "p1: missing file" in str(e.value)
    assert "p2: unreadable image: the file is empty" in str(e.value)
    assert check_images(found, max_bad=0.67).ids == ["p3"]


def test_what_was_left_out_for_other_reasons_is_not_bad(tiny):
    hidden = pd.DataFrame({"item": ["h"] * 99, "reason": ["gender cannot be seen"] * 99})
    made = replace(tiny, left_out=hidden)
    assert check_images(made, max_bad=0.0) is made


def test_no_image_left_is_an_error(folder):
    for name in ("a.png", "b.png", "c.jpg"):
        (folder / "images" / name).write_bytes(b"x")
    with pytest.raises(DataError, match="holds no image that can be read"):
        check_images(read(folder), max_bad=1.0)


# -- registry -----------------------------------------------------------------------------------


def test_readers_by_name(folder, monkeypatch):
    from clipbias.data import registry

    monkeypatch.setattr(registry, "_readers", dict(registry._readers))
    found = data.load(
        "table", folder / "people.csv", folder / "images", attributes=["gender"], path_column="file"
    )
    assert len(found) == 3
    with pytest.raises(DataError, match="no reader 'farface'. Did you mean 'fairface'"):
        data.load("farface")
    assert {"table", "fairface", "coco-captions", "vqa"} <= set(data.list_readers())

    @data.reader("mine")
    def read_mine(name: str) -> ImageSet:
        """Read mine."""
        return ImageSet(name, pd.DataFrame({"image_id": ["x"]}), (), lambda rows: [b""] * len(rows))

    assert data.load("mine", "n").name == "n"
    assert data.list_readers()["mine"] == "Read mine."
    with pytest.raises(DataError, match="a reader 'mine' already"):
        data.reader("mine")(lambda: None)


def test_errors_are_messages_not_tracebacks():
    assert issubclass(DataError, ClipbiasError)
    assert DataError("x").exit_code == 2


def test_importing_data_and_views_does_not_import_torch_or_sklearn():
    code = "import sys; import clipbias.data, clipbias.views; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_taking_a_part_keeps_images_and_questions(tiny):
    part = tiny.take(np.array([False, True, True]))
    assert part.ids == ["s-2", "s-3"]
    assert part.questions["image_id"].tolist() == ["s-2", "s-3"]
    assert part.read([0]) == tiny.read([1])
