"""`clipbias measure` from end to end: what it writes, what it keeps, and how it says no."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipbias import content, measure, zoo
from clipbias.results import rows
from clipbias.results.run import RunFolder

RECIPE = """
views = ["global", "tone", "kmeans:2"]
random_subsets = 20
min_view = 20
[protocol]
name = "small"
k = 0.1
n_boot = 40
n_perm = 40
[[measurements]]
image_set = "world-people"
probe = "roles"
truth = "role"
caption = "caption"
attributes = ["gender"]
metrics = ["max_skew", "c_asc", "zero_shot_disparity", "kl_recall"]
recall_k = 5
only = { style = "noto", context = "park" }
"""
MODELS = ["zoo:resnet-50", "zoo:resnet-70", "zoo:resnet-85", "zoo:resnet-95"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A study folder with a small recipe, searched before the shipped content."""
    folder = tmp_path / "study"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "measure.toml").write_text(RECIPE)
    monkeypatch.setenv("CLIPBIAS_STUDY", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twelve pictures and a table of who is in them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    records = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{i}.png")
        records.append(
            {"path": f"{i}.png", "gender": ("woman", "man")[i % 2], "place": ("in", "out")[i // 6]}
        )
    pd.DataFrame(records).to_csv(folder / "people.csv", index=False)
    return folder


def image_set(photos: Path, **more: str) -> str:
    query = "&".join(f"{k}={v}" for k, v in ({"images": str(photos), "attributes": "gender"} | more).items())
    return f"table:{photos / 'people.csv'}?{query}"


def run(*words: object) -> int:
    return measure.main([str(word) for word in words])


def test_a_run_folder_holds_every_table_and_the_report(study, tmp_path, capsys):
    assert run("--models", *MODELS, "--out", tmp_path / "run", "--quiet") == 0
    folder = RunFolder(tmp_path / "run")
    assert {
        "intrinsic",
        "models",
        "views",
        "null_bands",
        "examples",
        "metrics",
        "prompts",
        "validity",
        "metric_validity",
        "left_out",
    } <= set(folder.tables())
    measured = folder.read("metrics")["metric"]
    assert set(folder.read("metric_validity")["metric"]) == set(measured)
    frame = folder.read("intrinsic")
    assert list(frame.columns) == list(rows.COLUMNS)
    assert set(frame["model"]) == set(MODELS)
    assert set(frame["view"]) >= {"global", "tone=1", "tone=5"}
    assert (frame["status"] == "ok").mean() > 0.9
    whole = frame[(frame["probe"] == "") & (frame["status"] == "ok")]
    assert ((whole["ci_low"] <= whole["value"]) & (whole["value"] <= whole["ci_high"])).all()
    tests = folder.read("tests")
    assert len(tests) == frame["p"].notna().sum()
    assert (tests["q"] >= tests["p"] - 1e-12).all()
    assert tests["minimum_detectable"].notna().any()
    local = folder.read("local")
    fine = local[local["status"] == "ok"]
    assert len(fine)
    assert np.allclose(fine["delta"], fine["value"] - fine["global"])
    assert set(folder.read("view_differences")["grouping"]) == {"tone", "kmeans:2"}
    stability = folder.read("stability")
    assert set(stability["models"]) <= {3, 4}
    assert (stability["status"] == "ok").any()
    cards = folder.read("views").set_index("view")
    assert len(json.loads(cards.loc["tone=1", "words"].iloc[0])) == 5
    assert len(json.loads(cards.loc["tone=1", "examples"].iloc[0])) == 3
    assert {"anisotropy of images", "modality gap"} <= set(folder.read("integrity")["check"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(model in page for model in MODELS)
    manifest = folder.manifest
    assert set(manifest["units"]) == set(MODELS)
    assert manifest["config"]["recipe"]["measurements"][0]["recall_k"] == 5
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "report.html")


def test_a_second_run_encodes_nothing_and_keeps_the_same_numbers(study, tmp_path, capsys):
    words = ("--models", MODELS[0], "--out", tmp_path / "run", "--no-report")
    assert run(*words) == 0
    before = RunFolder(tmp_path / "run").read("intrinsic")
    capsys.readouterr()
    assert run(*words) == 0
    assert "nothing was encoded" in capsys.readouterr().err
    pd.testing.assert_frame_equal(before, RunFolder(tmp_path / "run").read("intrinsic"))
    assert run("--models", MODELS[0], "--out", tmp_path / "other", "--no-report") == 0
    assert "nothing was encoded" in capsys.readouterr().err
    pd.testing.assert_frame_equal(before, RunFolder(tmp_path / "other").read("intrinsic"))


def test_models_can_be_added_to_a_run_and_the_order_does_not_matter(study, tmp_path):
    run("--models", MODELS[0], "--out", tmp_path / "a", "--no-report", "--quiet", "--reference", MODELS[0])
    run(
        "--models",
        MODELS[1],
        MODELS[0],
        "--out",
        tmp_path / "a",
        "--no-report",
        "--quiet",
        "--reference",
        MODELS[0],
    )
    run("--models", *MODELS[:2], "--out", tmp_path / "b", "--no-report", "--quiet")
    pd.testing.assert_frame_equal(
        RunFolder(tmp_path / "a").read("intrinsic"), RunFolder(tmp_path / "b").read("intrinsic")
    )


@pytest.mark.slow
def test_workers_give_the_same_bits_as_one_process(study, tmp_path):
    run("--models", *MODELS[:2], "--out", tmp_path / "a", "--no-report", "--quiet")
    run("--models", *MODELS[:2], "--out", tmp_path / "b", "--no-report", "--quiet", "--engine", "workers:2")
    pd.testing.assert_frame_equal(
        RunFolder(tmp_path / "a").read("intrinsic"), RunFolder(tmp_path / "b").read("intrinsic")
    )


def test_a_dry_run_lists_the_units_and_writes_nothing(study, tmp_path, capsys):
    assert run("--models", MODELS[0], "--out", tmp_path / "run", "--dry-run") == 0
    assert MODELS[0] in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_full_size_models_and_local_checkpoints_run_end_to_end(study, tmp_path):
    import torch
    from safetensors.torch import save_file

    from clipbias.models import load_model

    spec = "random:ViT-B-32?seed=0"
    state = load_model(spec).network.state_dict()
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "m.safetensors")
    torch.save({"state_dict": state}, tmp_path / "m.pt")
    recipe = RECIPE.replace('context = "park"', 'context = "park", tone = "1"').replace(
        '"tone", "kmeans:2"', '"gender"'
    )
    (study / "tasks" / "measure.toml").write_text(recipe)
    specs = [spec, f"file:{tmp_path}/m.safetensors?model=ViT-B-32", f"file:{tmp_path}/m.pt?model=ViT-B-32"]
    assert run("--models", *specs, "--out", tmp_path / "run", "--quiet") == 0
    frame = RunFolder(tmp_path / "run").read("intrinsic")
    parts = [
        part.drop(columns="model").reset_index(drop=True) for _, part in frame.groupby("model", sort=False)
    ]
    assert len(parts) == 3
    for other in parts[1:]:
        pd.testing.assert_frame_equal(parts[0], other)


def test_ones_own_pictures_are_measured(photos, tmp_path):
    words = (
        "--models",
        MODELS[0],
        "--image-set",
        image_set(photos, contexts="place"),
        "--views",
        "global",
        "place",
        "--k",
        3,
    )
    assert run(*words, "--out", tmp_path / "run", "--quiet") == 0
    frame = RunFolder(tmp_path / "run").read("intrinsic")
    assert set(frame["view"]) == {"global", "place=in", "place=out"}
    assert {"max_skew", "ndkl"} <= set(frame.loc[frame["status"] == "ok", "metric"])


# -- the content folders are alive ------------------------------------------------------------------


def test_editing_a_probe_set_changes_the_rows(study, tmp_path):
    shutil.copytree(content.shipped() / "probes" / "roles", study / "probes" / "roles")
    items = study / "probes" / "roles" / "items.csv"
    lines = [line for line in items.read_text().splitlines() if not line.startswith("judge")]
    items.write_text("\n".join(lines) + "\n")
    recipe = RECIPE.replace('"zero_shot_disparity", ', "").replace('truth = "role"\n', "")
    (study / "tasks" / "measure.toml").write_text(recipe)
    run("--models", MODELS[0], "--out", tmp_path / "run", "--no-report", "--quiet")
    found = RunFolder(tmp_path / "run").read("intrinsic")
    assert "judge" not in set(found["probe"])
    assert "cook" in set(found["probe"])


def test_editing_a_recipe_changes_the_metrics(study, tmp_path):
    (study / "tasks" / "measure.toml").write_text(RECIPE.replace('"max_skew", ', '"ndkl", '))
    run("--models", MODELS[0], "--out", tmp_path / "run", "--no-report", "--quiet")
    assert set(RunFolder(tmp_path / "run").read("intrinsic")["metric"]) == {
        "ndkl",
        "c_asc",
        "zero_shot_disparity",
        "kl_recall",
    }


def test_editing_the_validity_question_changes_the_verdict(study, tmp_path):
    # The shipped question gives kl_recall the direction of recall_at_k.
    (study / "tasks" / "measure.toml").write_text(
        RECIPE.replace('"kl_recall"]', '"kl_recall", "recall_at_k"]')
    )
    (study / "analysis").mkdir()
    shipped = (content.shipped() / "analysis" / "validity.toml").read_text()
    (study / "analysis" / "validity.toml").write_text(shipped.replace("bound = 0.9\n", "bound = -1.0\n"))
    run("--models", *MODELS, "--out", tmp_path / "a", "--no-report", "--quiet")
    (study / "analysis" / "validity.toml").write_text(shipped.replace('"c_asc", ', ""))
    run("--models", *MODELS, "--out", tmp_path / "b", "--no-report", "--quiet")
    a, b = (RunFolder(tmp_path / name).read("validity").set_index("metric") for name in "ab")
    assert set(a.loc[a["declared"], "verdict"]) == {"holds"}
    assert "c_asc" in a.index
    assert "c_asc" not in b.index


def test_removing_a_content_file_is_noticed(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(content, "shipped", lambda: study)
    assert run("--models", "random:ViT-B-32", "--out", tmp_path / "run") == 2
    assert "there is no probe set 'roles'" in capsys.readouterr().err


def test_a_study_file_sets_options_and_the_command_line_wins(tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "measure.toml").write_text(RECIPE)
    monkeypatch.setenv("CLIPBIAS_STUDY", "")
    study_file = tmp_path / "study.toml"
    study_file.write_text(f'[measure]\nmodels = ["{MODELS[0]}", "{MODELS[1]}"]\nout = "{tmp_path}/run"\n')
    assert run("--study", study_file, "--models", MODELS[1], "--no-report", "--quiet") == 0
    assert set(RunFolder(tmp_path / "run").read("models")["model"]) == {MODELS[1]}


# -- how it says no ---------------------------------------------------------------------------------


def said(capsys) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--models", "zoo:resnt-50"), 1, "resnet-50"),
        (("--models", "ViT-B-33/openai"), 1, "ViT-B-32"),
        (("--models", "zoo:resnet-50", "--views", "contxt"), 2, "context"),
        (("--models", "zoo:resnet-50", "--metrics", "max_skw"), 2, "max_skew"),
        (("--models", "zoo:resnet-50", "--image-set", "world-peopel"), 2, "world-people"),
        (("--models", "zoo:resnet-50", "--attributes", "gendr"), 2, "gender"),
        (("--models", "zoo:resnet-50", "--probe", "rolls"), 2, "roles"),
        (("--models", "zoo:resnet-50", "--engine", "wokers:2"), 2, "workers"),
    ],
)
def test_wrong_words_name_the_nearest_and_write_nothing(study, tmp_path, capsys, words, code, message):
    assert (
        run(*words, "--out", tmp_path / "run") in (1, 2)
        if code == 1
        else run(*words, "--out", tmp_path / "run") == code
    )
    assert message in said(capsys)
    assert not (tmp_path / "run").exists()


def test_one_failed_model_does_not_stop_the_others(study, tmp_path, capsys):
    (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint")
    bad = f"file:{tmp_path}/bad.safetensors?model=ViT-B-32"
    assert (
        run("--models", bad, MODELS[0], "--reference", MODELS[0], "--out", tmp_path / "run", "--no-report")
        == 1
    )
    assert "bad.safetensors" in said(capsys)
    assert set(RunFolder(tmp_path / "run").read("models")["model"]) == {MODELS[0]}


def test_weights_that_cannot_be_had_give_one_message(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert run("--models", "ViT-B-32/laion2b_s34b_b79k", "--out", tmp_path / "run") == 1
    assert "laion2b_s34b_b79k" in said(capsys)
    assert not (tmp_path / "run").exists()


def test_missing_and_corrupt_images_are_counted_and_end_the_command_when_too_many(photos, tmp_path, capsys):
    (photos / "3.png").unlink()
    (photos / "4.png").write_bytes(b"not a picture")
    words = ("--models", MODELS[0], "--image-set", image_set(photos), "--views", "global", "--k", 3)
    assert run(*words, "--out", tmp_path / "run") == 2
    text = said(capsys)
    assert "4.png" in text
    assert "--max-bad" in text
    assert not (tmp_path / "run").exists()
    assert run(*words, "--out", tmp_path / "run", "--max-bad", 0.2, "--no-report", "--quiet") == 0
    left_out = RunFolder(tmp_path / "run").read("left_out")
    assert {"3.png", "4.png"} <= set(left_out["item"])


def test_a_missing_column_and_a_missing_table_are_named(photos, tmp_path, capsys):
    wrong = image_set(photos).replace("attributes=gender", "attributes=gendre")
    assert run("--models", MODELS[0], "--image-set", wrong, "--out", tmp_path / "run") == 2
    assert "Did you mean 'gender'" in said(capsys)
    assert (
        run(
            "--models",
            MODELS[0],
            "--image-set",
            "table:nowhere.csv?attributes=gender",
            "--out",
            tmp_path / "run",
        )
        == 2
    )
    assert "nowhere.csv" in said(capsys)
    assert not (tmp_path / "run").exists()


def test_k_larger_than_the_view_and_a_single_group_are_rows_with_a_reason(photos, tmp_path):
    table = pd.read_csv(photos / "people.csv")
    table.loc[table["place"] == "in", "gender"] = "woman"
    table.to_csv(photos / "people.csv", index=False)
    words = (
        "--models",
        MODELS[0],
        "--image-set",
        image_set(photos, contexts="place"),
        "--views",
        "place",
        "--k",
        8,
    )
    assert run(*words, "--out", tmp_path / "run", "--no-report", "--quiet") == 0
    frame = RunFolder(tmp_path / "run").read("intrinsic")
    inside = frame[(frame["view"] == "place=in") & (frame["metric"] == "max_skew")]
    outside = frame[(frame["view"] == "place=out") & (frame["metric"] == "max_skew")]
    assert set(inside["status"]) <= {"single group", "k larger than n"}
    assert outside["reason"].str.contains("8").all()
    assert outside["value"].isna().all()


def test_a_folder_of_another_version_is_refused(study, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 0, "clipbias": "0.0.1"}))
    assert run("--models", MODELS[0], "--out", folder) == 2
    assert "0.0.1" in said(capsys)


def test_every_zoo_model_can_be_named():
    assert len(zoo.names()) >= 14
