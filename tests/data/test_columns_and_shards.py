"""Columns of images (datasets objects, parquet), matched sets, and WebDataset shards."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipbias import data
from clipbias.errors import DataError


class ClassLabel:
    """What `datasets` calls a column of numbers with names."""

    def __init__(self, names):
        self.names = names

    def int2str(self, number):
        return self.names[number]


class Dataset:
    """The part of `datasets.Dataset` that the reader uses, with its behaviour: arrow format does not decode."""

    def __init__(self, table, features):
        self.table, self.features, self.info = table, features, None

    def __len__(self):
        return len(self.table)

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def select_columns(self, names):
        return Dataset(self.table.select(names), self.features)

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return self.table[rows.start or 0 : rows.stop or len(self)] if rows != slice(None) else self.table
        return self.table.take(rows)


def images(pictures, paths=(None, None, None)):
    cells = [
        {"bytes": p, "path": path} if p or path else None for p, path in zip(pictures, paths, strict=True)
    ]
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def left(image_set):
    return dict(image_set.left_out.to_numpy().tolist())


# -- datasets and parquet ---------------------------------------------------------------------------


@pytest.fixture
def columns(pictures):
    return pa.table(
        {
            "image": images([pictures[0], None, pictures[2]]),
            "gender": [1, 0, -1],
            "service_test": [True, False, True],
            "who": ["a", "b", "c"],
        }
    )


def test_a_datasets_object(columns, pictures):
    features = {
        "image": object(),
        "gender": ClassLabel(["Male", "Female"]),
        "service_test": object(),
        "who": object(),
    }
    found = data.read_datasets(
        Dataset(columns, features),
        attributes=["gender"],
        contexts=["service_test"],
        id_column="who",
        name="hub",
    )
    assert found.ids == ["a", "c"]
    assert found.table["gender"].tolist() == ["Female", "unknown"]
    assert found.column("gender").categories.tolist() == ["Male", "Female", "unknown"]
    assert found.table["service_test"].tolist() == ["yes", "yes"]
    assert found.read([1, 0]) == [pictures[2], pictures[0]]
    assert left(found) == {"b": "the row has no image"}


def test_parquet_files_of_the_hub(tmp_path, columns, pictures):
    said = {"info": {"features": {"gender": {"names": ["Male", "Female"], "_type": "ClassLabel"}}}}
    table = columns.replace_schema_metadata({"huggingface": json.dumps(said)})
    pq.write_table(table, tmp_path / "train-00000-of-00002.parquet", row_group_size=1)
    pq.write_table(table.slice(2), tmp_path / "train-00001-of-00002.parquet")
    found = data.load("datasets", tmp_path, attributes=["gender"])
    assert found.ids == ["0", "2", "3"]
    assert found.table["gender"].tolist() == ["Female", "unknown", "unknown"]
    assert found.read([2, 0, 1]) == [pictures[2], pictures[0], pictures[2]]
    assert left(found) == {"1": "the row has no image"}


def test_paths_instead_of_bytes(tmp_path, pictures):
    (tmp_path / "a.png").write_bytes(pictures[0])
    table = pa.table({"image": images([None] * 3, ["a.png", "b.png", None]), "gender": ["x", "y", "x"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = data.read_datasets(tmp_path / "t.parquet", tmp_path, attributes=["gender"])
    assert found.ids == ["0", "1"]
    assert found.read([0]) == [pictures[0]]
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        found.read([1])


def test_column_errors(tmp_path, columns):
    pq.write_table(columns, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no column 'picture'"):
        data.read_datasets(tmp_path / "t.parquet", attributes=["gender"], image_column="picture")
    with pytest.raises(DataError, match="no column 'gendr'. Did you mean 'gender'"):
        data.read_datasets(tmp_path / "t.parquet", attributes=["gendr"])
    with pytest.raises(DataError, match=r"dictionary of splits \(train\)"):
        data.read_datasets({"train": 1}, attributes=["gender"])
    with pytest.raises(DataError, match="a list is no datasets.Dataset"):
        data.read_datasets([1], attributes=["gender"])
    pq.write_table(columns.drop(["who"]), tmp_path / "u.parquet")
    with pytest.raises(DataError, match="other columns than"):
        data.read_datasets(tmp_path, attributes=["gender"])
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        data.read_datasets(tmp_path / "bad.parquet", attributes=["gender"])
    with pytest.raises(DataError, match="was not found"):
        data.read_datasets(tmp_path / "no.parquet", attributes=["gender"])


# -- matched sets -----------------------------------------------------------------------------------


def test_pairs_folder_as_published(tmp_path, pictures):
    for scenario, people in (
        ("desk", ["black_man", "black_woman", "white_man1", "white_woman"]),
        ("taxi", ["black_man", "white_woman"]),
        ("bus", ["white_man"]),
    ):
        for who in people:
            path = tmp_path / "data" / "occupations" / scenario / f"{who}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[0])
    found = data.read_pairs(tmp_path / "data")
    table = found.table.set_index("image_id")
    assert found.attributes == ("skin", "gender")
    assert table.loc["occupations/desk/black_man.png", "twin"] == "occupations/desk/black_woman.png"
    assert (
        table.loc["occupations/taxi/black_man.png", "twin"] == ""
    )  # its counterpart differs in skin as well
    assert table.loc["occupations/taxi/black_man.png", "scene"] == "occupations/taxi"
    assert table.loc["occupations/desk/white_man1.png", "gender"] == "man"  # as in the published set
    assert found.column("gender").categories.tolist() == ["man", "woman"]
    assert found.facts["incomplete"] == ("occupations/bus", "occupations/taxi")
    assert found.facts["notes"] == ("1 labels of 'gender' had a number behind them (man1).",)


def test_pairs_like_csv(tmp_path):
    (tmp_path / "index.csv").write_text(
        "file,section,scenario,skin,gender\na.jpg,occupations,desk,black,man\nb.jpg,occupations,desk,black,woman\n"
    )
    found = data.load("pairs", tmp_path / "index.csv", None)
    assert found.table["twin"].tolist() == ["b.jpg", "a.jpg"]
    assert found.facts["incomplete"] == ()
    with pytest.raises(DataError, match="no column 'place'"):
        data.read_pairs(tmp_path / "index.csv", None, scene="place")


SOCIAL = {
    "caption": ["An image of a Black male Surgeon", "An image of a Black female Surgeon", "An image of an obese male chef"],
    "a1": ["Black", "Black", "obese"], "a1_type": ["race", "race", "physicaltrait"],
    "a2": ["male", "female", "male"], "a2_type": ["gender"] * 3, "counterfactual_set": ["s_1", "s_1", "s_2"],
}  # fmt: skip


def test_social_counterfactuals(tmp_path, pictures):
    pq.write_table(pa.table({"image": images(pictures), **SOCIAL}), tmp_path / "train-00000.parquet")
    found = data.read_social_counterfactuals(tmp_path)
    assert found.attributes == ("race", "gender", "physical_trait")
    assert found.table["race"].tolist() == ["Black", "Black", "unknown"]
    assert found.table["physical_trait"].tolist() == ["unknown", "unknown", "obese"]
    assert found.table["occupation"].tolist() == ["surgeon", "surgeon", "chef"]
    assert found.table["scene"].tolist() == ["s_1", "s_1", "s_2"]
    assert found.ids == ["s_1/Black/male", "s_1/Black/female", "s_2/obese/male"]
    narrow = data.read_social_counterfactuals(tmp_path, only=["race", "gender"])
    assert narrow.attributes == ("race", "gender")
    assert narrow.read([1]) == [pictures[1]]
    assert left(narrow) == {"s_2/obese/male": "varies other attributes than those asked for"}
    with pytest.raises(
        DataError,
        match="no row that varies age and gender. It has: gender and physical_trait; gender and race",
    ):
        data.read_social_counterfactuals(tmp_path, only=["age", "gender"])


# -- WebDataset -------------------------------------------------------------------------------------


def shard(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def npy(*values) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values))
    return out.getvalue()


def test_shards_with_json(tmp_path, pictures):
    shard(tmp_path / "val-00.tar", {
        "a/001.png": pictures[0], "a/001.json": b'{"gender": "woman", "old": true}', "a/001.txt": b"a cook\n",
        "a/002.json": b'{"gender": "man"}', "a/003.jpg": pictures[2],
    })  # fmt: skip
    shard(
        tmp_path / "val-01.tar",
        {
            "b/004.seg.png": pictures[1],
            "b/004.json": b'{"gender": "man", "old": false}',
            "b/004.jpg": pictures[2],
        },
    )
    found = data.read_webdataset(str(tmp_path / "val-{00..01}.tar"), attributes=["gender"], contexts=["old"])
    assert found.ids == ["a/001", "b/004"]
    assert found.table["gender"].tolist() == ["woman", "man"]
    assert found.table["old"].tolist() == ["yes", "no"]
    assert found.table["caption"].tolist()[0] == "a cook"
    assert found.read([1, 0]) == [pictures[2], pictures[0]]
    assert left(found) == {"a/002": "no image in the sample", "a/003": "no labels in the sample"}


def test_shards_in_the_layout_of_datacomp(tmp_path, pictures):
    shard(
        tmp_path / "0.tar",
        {
            "s0.webp": pictures[0],
            "s0.cls": b"1",
            "s0.npy": npy(3, 1, 6, 0),
            "s1.webp": pictures[1],
            "s1.cls": b"0",
            "s1.npy": npy(0, 0, 6, 0),
        },
    )
    found = data.load(
        "webdataset",
        tmp_path,
        attributes=["gender", "race"],
        contexts=["cls"],
        npy_columns="age,gender,race,race_binary",
        classes=["cat", "dog"],
    )
    assert found.table["gender"].tolist() == ["1", "0"]
    assert found.table["cls"].tolist() == ["dog", "cat"]


def test_shard_errors(tmp_path, pictures):
    good = {"s.png": pictures[0], "s.json": b'{"gender": "x"}'}
    path = shard(tmp_path / "a.tar", good)
    with pytest.raises(DataError, match="no column 'gendr'. Did you mean 'gender'"):
        data.read_webdataset(path, attributes=["gendr"])
    with pytest.raises(DataError, match=r"b\.tar was not found \(1 of 2 shards"):
        data.read_webdataset([path, tmp_path / "b.tar"], attributes=["gender"])
    (tmp_path / "b.tar").write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"b\.tar is damaged"):
        data.read_webdataset(tmp_path / "b.tar", attributes=["gender"])
    with pytest.raises(DataError, match="two images of the sample 's'"):
        data.read_webdataset(shard(tmp_path / "c.tar", {**good, "s.jpg": pictures[2]}), attributes=["gender"])
    with pytest.raises(DataError, match=r"s\.json cannot be read"):
        data.read_webdataset(shard(tmp_path / "d.tar", {**good, "s.json": b"{"}), attributes=["gender"])
    with pytest.raises(DataError, match="holds 2 numbers and npy_columns names 1"):
        data.read_webdataset(
            shard(tmp_path / "e.tar", {**good, "s.npy": npy(1, 2)}),
            attributes=["gender"],
            npy_columns=["age"],
        )
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"holds no \.tar file"):
        data.read_webdataset(tmp_path / "none", attributes=["gender"])


def test_a_key_in_two_shards_is_an_error(tmp_path, pictures):
    files = {"s.png": pictures[0], "s.json": b'{"gender": "x"}'}
    paths = [shard(tmp_path / name, files) for name in ("a.tar", "b.tar")]
    with pytest.raises(DataError, match="duplicated image_id 's'"):
        data.read_webdataset(paths, attributes=["gender"])


def test_every_reader_of_the_package_is_listed_with_a_description():
    listed = data.list_readers()
    assert {
        "fairface", "utkface", "celeba", "phase", "facet", "visogender", "mmbias", "social-counterfactuals", "pairs", "coco-people", "table",
        "names", "datasets", "webdataset",
    } <= set(listed)  # fmt: skip
    assert all(len(text) > 20 for text in listed.values())
    assert isinstance(pd.Series(listed), pd.Series)
