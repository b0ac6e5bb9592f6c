"""Readers of captions, what they leave out, and sets put together."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from clipbias import data
from clipbias.data.sniff import CAPTIONS, QUESTIONS, sniff
from clipbias.errors import DataError


def karpathy(tmp_path, **more):
    body = {
        "images": [
            {"filepath": "val2014", "filename": "COCO_1.png", "cocoid": 1, "split": "restval",
             "sentences": [{"raw": "a dog "}, {"raw": " "}], "sentids": [0, 1]},
            {"filename": "77.png", "split": "test", "sentences": [{"raw": "a cat"}]},
            {"filename": "88.png", "split": "val", "sentences": []},
        ],
        "dataset": "coco", **more,
    }  # fmt: skip
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def test_karpathy(tmp_path, pictures):
    path = karpathy(tmp_path)
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_1.png").write_bytes(pictures[0])
    (tmp_path / "77.png").write_bytes(pictures[1])
    found = data.read_karpathy(path, tmp_path)
    assert found.ids == ["1", "77"]
    assert found.table["split"].tolist() == ["restval", "test"]
    assert found.table["captions"].tolist() == [["a dog"], ["a cat"]]
    assert found.read([0, 1]) == pictures[:2]
    assert found.left_out.to_numpy().tolist() == [
        ["88", "no caption"],
        ["a caption of image 1", "empty caption"],
    ]
    assert sniff(path, CAPTIONS) == "karpathy"


def test_flickr30k(tmp_path):
    path = tmp_path / "results.token"
    path.write_text("10.jpg#0\tA man .\n10.jpg#1\tHe runs .\n\n11.jpg#0\tA \u00e9clair .\n", encoding="utf-8")
    found = data.read_flickr30k(path, None)
    assert found.ids == ["10", "11"]
    assert found.table["path"].tolist() == ["10.jpg", "11.jpg"]
    assert found.table["captions"].tolist() == [["A man .", "He runs ."], ["A \u00e9clair ."]]
    assert sniff(path, CAPTIONS) == "flickr30k"
    for text, message in (
        ("10.jpg#0 A man", "line 1 is not 'NAME.jpg#NUMBER<TAB>caption'"),
        ("10.jpg#0\ta\n10.jpg#0\tb", "line 2 holds 10.jpg#0 again"),
        ("", "holds no captions"),
        ("10.jpg#0\t ", "none of its 1 images has a caption"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            data.read_flickr30k(path, None)


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([1, 1], [(1, 1, "a")], "holds image 1 twice"),
        ([1], [(1, 1, "a"), (1, 1, "b")], "holds annotation 1 twice"),
        ([1], [(1, 2, "a")], "none of its 1 images has a caption"),
    ],
)
def test_coco_ids_are_checked(tmp_path, images, annotations, message):
    path = tmp_path / "c.json"
    body = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in images],
        "annotations": [{"id": n, "image_id": i, "caption": c} for n, i, c in annotations],
    }
    path.write_text(json.dumps(body))
    with pytest.raises(DataError, match=message):
        data.read_coco_captions(path, None)


def test_empty_captions_are_counted(tmp_path):
    path = tmp_path / "c.json"
    body = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [
            {"image_id": 1, "caption": "a"},
            {"image_id": 1, "caption": "  "},
            {"image_id": 1, "caption": None},
        ],
    }
    path.write_text(json.dumps(body))
    found = data.read_coco_captions(path, None)
    assert found.table["captions"].tolist() == [["a"]]
    assert found.left_out.to_numpy().tolist() == [["a caption of image 1", "empty caption"]] * 2


def test_sniff(tmp_path):
    path = tmp_path / "x.json"
    for text, kind in (
        ('{"info": {}, "questions": [', "vqa"),
        ('[{"split": "val", "choices": ["a"]', "aokvqa"),
        ('{"07": {"semantic": [], "imageId": "23"', "gqa"),
        ('[{"id": 1, "qas": [', "visual-genome-qa"),
    ):
        path.write_text(text)
        assert sniff(path, QUESTIONS) == kind
    with pytest.raises(DataError, match="of no known format"):
        sniff(path, (("coco-captions", "zzz"),))
    with pytest.raises(DataError, match="was not found"):
        sniff(tmp_path / "no", CAPTIONS)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        sniff(path, CAPTIONS)


def test_combine(tiny):
    other = tiny.take([0], "other")
    table = other.table.assign(image_id="o-1", tone=pd.Categorical(["6"], ["6"])).drop(columns="context")
    from dataclasses import replace

    other = replace(other, table=table, contexts=("role",), licence="MIT", questions=None)
    both = data.combine([tiny, other], name="both")
    assert both.ids == ["s-1", "s-2", "s-3", "o-1"]
    assert both.read([3, 0, 2]) == [tiny.read([0])[0], tiny.read([0])[0], tiny.read([2])[0]]
    assert both.column("tone").categories.tolist() == ["1", "2", "3", "4", "5", "6"]
    assert both.table["context"].tolist() == ["park", "city", "park", "unknown"]
    assert both.licence == "CC0-1.0 AND MIT"
    assert len(both.questions) == len(tiny.questions)
    with pytest.raises(DataError, match="duplicated image_id 's-1'"):
        data.combine([tiny, tiny], name="twice")
    with pytest.raises(DataError, match="made of no sets"):
        data.combine([], name="none")
