"""The run folder: whole files, schema, validation, merging, two writers at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import clipbias
from clipbias.errors import ClipbiasError
from clipbias.results import rows, run
from clipbias.results.run import RunFolder, new_manifest

# Every text of the contract, empty: what rows.table fills in for keys that do not apply.
EMPTY = {**dict.fromkeys((*rows.KEY, "protocol", "reason"), ""), "status": "ok"}


def results(model: str, metrics=("max_skew", "ndkl"), value: float = 0.1) -> pd.DataFrame:
    return rows.table(
        [
            {**EMPTY, "model": model, "stage": "pre", "image_set": "faces", "view": "global", "attribute": "gender",
             "metric": metric, "value": value, "n": 10}
            for metric in metrics
        ]
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "one")
    made.write_manifest(new_manifest(command=["measure"], seeds={"main": 0}))
    return made


def test_making_a_run_folder_touches_nothing(tmp_path):
    made = RunFolder(tmp_path / "runs" / "one")
    assert not made.exists()
    assert made.tables() == []
    assert list(tmp_path.iterdir()) == []


def test_tables_come_back_as_they_went_in(folder):
    frame = results("zoo:a")
    folder.write("intrinsic", frame)
    pd.testing.assert_frame_equal(folder.read("intrinsic"), frame)
    lists = pd.DataFrame(
        {"prompt": ["a", "b"], "many": [["x", "y"], []], "level": pd.Categorical(["u", "v"], ["v", "u", "w"])}
    )
    folder.write("prompts", lists)
    back = folder.read("prompts")
    assert back["many"].map(list).tolist() == [["x", "y"], []]
    assert back["level"].cat.categories.tolist() == ["v", "u", "w"]
    assert folder.tables() == ["intrinsic", "prompts"]


def test_missing_numbers_keep_their_status(folder):
    frame = rows.table(
        [
            {
                **EMPTY,
                "model": "m",
                "metric": "max_skew",
                "status": "empty group",
                "reason": "no woman in the view",
            }
        ]
    )
    folder.write("intrinsic", frame)
    back = folder.read("intrinsic")
    pd.testing.assert_frame_equal(back, frame)
    assert back["n"].isna().all()


def test_the_manifest_says_what_was_run_and_on_what(folder):
    manifest = folder.manifest
    assert manifest["schema_version"] == run.SCHEMA
    assert manifest["clipbias"] == clipbias.__version__
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["command"] == ["measure"]
    assert manifest["ended"] is None
    assert folder.update_manifest(ended=run.now())["ended"] >= manifest["started"]
    assert folder.manifest["seeds"] == {"main": 0}


def test_numpy_and_paths_go_into_the_manifest_and_other_things_do_not(folder):
    folder.write_manifest({"a": np.float32(0.5), "b": np.arange(2), "c": Path("x"), "d": {"z", "y"}})
    assert {k: folder.manifest[k] for k in "abcd"} == {"a": 0.5, "b": [0, 1], "c": "x", "d": ["y", "z"]}
    before = folder.manifest
    with pytest.raises(TypeError, match="object cannot go into a manifest"):
        folder.write_manifest({"a": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_manifest({"a": float("nan")})
    assert folder.manifest == before


def test_git_commit_is_the_checkout_s_or_none():
    found = run.git_commit()
    if (Path(clipbias.__file__).parent.parent / ".git").exists() and found:
        assert len(found["commit"]) == 40
        assert isinstance(found["dirty"], bool)
    else:
        assert found is None


@pytest.mark.parametrize("state", ["absent", "empty", "other"])
def test_opening_what_is_no_run_says_what_to_do(tmp_path, state):
    path = tmp_path / "run"
    if state != "absent":
        path.mkdir()
    if state == "other":
        (path / "notes.txt").write_text("mine")
    said = {"absent": "does not exist", "empty": "is empty", "other": "holds no manifest.json"}[state]
    for read in (lambda: RunFolder(path).manifest, lambda: RunFolder(path).read("intrinsic")):
        with pytest.raises(ClipbiasError, match=f"{said}.*clipbias.measure --out") as caught:
            read()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("schema", [0, run.SCHEMA + 1, None])
def test_another_schema_version_is_told(folder, schema):
    folder.write("intrinsic", results("m"))
    path = folder.path / "manifest.json"
    body = {**json.loads(path.read_text()), "schema_version": schema, "clipbias": "0.0.1"}
    path.write_text(json.dumps(body))
    with pytest.raises(
        ClipbiasError, match=rf"written by clipbias 0.0.1 with table schema {schema}.*Measure again"
    ):
        folder.read("intrinsic")


def test_damage_is_told(folder):
    folder.write("intrinsic", results("m"))
    path = folder.path / "intrinsic.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ClipbiasError, match="intrinsic.parquet is damaged.*Delete it"):
        folder.read("intrinsic")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ClipbiasError, match="is damaged"):
        folder.read("intrinsic")
    (folder.path / "manifest.json").write_text("{")
    with pytest.raises(ClipbiasError, match="manifest.json is damaged"):
        folder.read("intrinsic")


def test_one_changed_byte_among_numbers_is_noticed(folder):
    values = np.random.default_rng(0).random(4000)
    folder.write("scores", pd.DataFrame({"value": values}))
    path = folder.path / "scores.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01  # a number a little off: readable, and wrong
    path.write_bytes(bytes(data))
    with pytest.raises(ClipbiasError, match="scores.parquet is damaged"):
        folder.read("scores")


def test_unknown_table_names_the_nearest(folder):
    folder.write("intrinsic", results("m"))
    with pytest.raises(ClipbiasError, match="no table 'intrinsics'. Did you mean 'intrinsic'"):
        folder.read("intrinsics")


def test_result_tables_must_keep_the_contract(folder):
    frame = results("m")
    with pytest.raises(ValueError, match=r"lacks the columns \['protocol'\]"):
        folder.write("intrinsic", frame.drop(columns="protocol"))
    with pytest.raises(ValueError, match="unknown result columns"):
        folder.write("intrinsic", frame.assign(extra=1))
    with pytest.raises(ValueError, match="no value and no reason"):
        folder.write("intrinsic", frame.assign(value=np.nan))
    with pytest.raises(ValueError, match="2 rows with a key seen before"):
        folder.write("intrinsic", pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="2 rows with a key seen before"):
        folder.write("gaps", pd.concat([frame, frame]))
    assert folder.tables() == []  # nothing half-written
    assert [p.name for p in folder.path.iterdir() if p.name.startswith(".") and p.name != ".lock"] == []


def test_a_failed_write_keeps_the_old_table(folder, monkeypatch):
    folder.write("intrinsic", results("m"))

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(run.pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        folder.write("intrinsic", results("other"))
    monkeypatch.undo()
    assert folder.read("intrinsic")["model"].unique().tolist() == ["m"]
    assert sorted(p.name for p in folder.path.iterdir()) == [".lock", "intrinsic.parquet", "manifest.json"]


def test_merging_replaces_a_unit_whole_and_keeps_the_others(folder):
    folder.merge("intrinsic", results("b", ("max_skew", "ndkl")))
    folder.merge("intrinsic", results("a", ("max_skew",)))
    merged = folder.merge("intrinsic", results("b", ("ndkl", "c_asc"), value=0.7))
    assert merged[["model", "metric", "value"]].to_numpy().tolist() == [
        ["a", "max_skew", 0.1], ["b", "c_asc", 0.7], ["b", "ndkl", 0.7]
    ]  # fmt: skip
    pd.testing.assert_frame_equal(folder.read("intrinsic"), merged)


def test_the_order_of_units_does_not_matter(tmp_path):
    tables = []
    for order in (["a", "b", "c"], ["c", "a", "b"]):
        made = RunFolder(tmp_path / "".join(order))
        for model in order:
            made.merge("intrinsic", results(model))
        made.write_manifest(new_manifest())
        tables.append(made.read("intrinsic"))
    pd.testing.assert_frame_equal(*tables)


def test_merging_a_table_of_another_shape_by_its_own_unit(folder):
    folder.merge("examples", pd.DataFrame({"model": ["a", "a"], "rank": [2, 1]}), unit=["model"], order=False)
    folder.merge("examples", pd.DataFrame({"model": ["b"], "rank": [1]}), unit=["model"], order=False)
    merged = folder.merge(
        "examples", pd.DataFrame({"model": ["a"], "rank": [9]}), unit=["model"], order=False
    )
    assert merged.to_numpy().tolist() == [["b", 1], ["a", 9]]
    with pytest.raises(ValueError, match="no unit column 'modle'. Did you mean 'model'"):
        folder.merge("examples", merged, unit=["modle"])


def test_two_processes_lose_nothing(folder):
    code = """
import sys
from clipbias.results import rows
from clipbias.results.run import RunFolder
who = sys.argv[2]
for i in range(6):
    RunFolder(sys.argv[1]).merge("intrinsic", rows.table([{"model": f"{who}{i}", "metric": "x", "value": 1.0, "n": 1}]))
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(folder.path), who]) for who in "ab"]
    assert [w.wait(timeout=120) for w in workers] == [0, 0]
    expected = sorted(f"{who}{i}" for who in "ab" for i in range(6))
    assert folder.read("intrinsic")["model"].tolist() == expected
