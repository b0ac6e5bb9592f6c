"""`clipbias adapt` from end to end: options to units, what is kept, what is printed, and how it says no."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clipbias import adapt, content
from clipbias.commands import adapted
from clipbias.engine import Outcome
from clipbias.results import rows
from clipbias.results.run import RunFolder
from clipbias.tasks import recipe as recipes
from clipbias.tasks.unit import Adaptation, AdaptUnit

MODELS = ["zoo:resnet-50", "zoo:resnet-95", "zoo:vit-50"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A study folder with small budgets, searched before the shipped content."""
    folder = tmp_path / "study"
    (folder / "tasks").mkdir(parents=True)
    for task in recipes.TASKS:
        text = content.find("tasks", f"{task}.toml").read_text()
        for name, value in (
            ("n_train", 40),
            ("n_val", 10),
            ("steps", 4),
            ("states", 10),
            ("n_boot", 10),
            ("n_perm", 0),
        ):
            text = _set(text, name, value)
        (folder / "tasks" / f"{task}.toml").write_text(text)
    monkeypatch.setenv("CLIPBIAS_STUDY", str(folder))
    return folder


def _set(text: str, name: str, value: int) -> str:
    lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in text.splitlines()]
    return "\n".join(lines)


def run(*words: object) -> int:
    return adapt.main([str(word) for word in words])


def units(*words: str) -> list[AdaptUnit]:
    """Return the units that the words of a command line make."""
    found: list[AdaptUnit] = []

    def take(specs, **options):
        keep = (
            "recipes",
            "heads",
            "modes",
            "interventions",
            "seeds",
            "controls",
            "blind",
            "out",
            "device",
            "precision",
        )
        found.extend(adapt.units_of(specs, **{name: options[name] for name in keep}))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapt, "adapt", take)
        assert adapt.main(list(words)) == 0
    return found


# -- options to units ---------------------------------------------------------------------------


def test_the_default_is_both_tasks_with_blind_baselines_and_a_second_seed():
    found = units("--models", *MODELS)
    # Two architectures, two tasks: the ResNets share their baseline.
    assert [u.mode for u in found].index("frozen") == sum(u.mode == "blind" for u in found) == 4
    assert {(u.model, u.of_blind[0]) for u in found} == {
        (MODELS[0], MODELS[0]), (MODELS[1], MODELS[0]), (MODELS[2], MODELS[2]),
    }  # fmt: skip
    assert {u.task for u in found} == {"vqa", "captioning"}
    assert {(u.model, u.seed) for u in found if u.states == "second_seed"} == {(m, 1) for m in MODELS[:2]}
    assert all(u.head == u.recipe.head for u in found)
    assert len({u.name for u in found}) == len(found) == 14


def test_options_choose_tasks_heads_modes_and_seeds():
    found = units(
        "--models",
        MODELS[0],
        "--task",
        "captioning",
        "--mode",
        "frozen,full",
        "--seeds",
        "3",
        "4",
        "--no-blind",
    )
    assert [(u.mode, u.seed, u.states) for u in found] == [
        ("frozen", 3, "post"), ("frozen", 4, "second_seed"), ("full", 3, "post"), ("full", 4, "second_seed"),
    ]  # fmt: skip
    found = units("--models", MODELS[0], "--head", "vqa=decoder", "--no-blind", "--no-controls")
    assert {u.task: u.head for u in found} == {"vqa": "decoder", "captioning": "decoder"}
    [budget] = {u.recipe.training_of("full").steps for u in units("--models", MODELS[0], "--steps", "7")}
    assert budget == 7
    [world] = {(u.recipe.world.n_train, u.recipe.world.seed) for u in units("--n-train", "9", "--seed", "2")}
    assert world == (9, 2)


def test_epochs_become_steps_by_the_number_of_examples():
    training = units("--models", MODELS[0], "--epochs", "2", "--task", "vqa")[0].recipe.training
    assert training.resolved(1000).steps == -(-2000 // training.batch_size)


def test_quick_is_four_models_spread_over_the_list_and_frozen():
    found = units("--quick", "--mode", "full")
    models = list(dict.fromkeys(u.model for u in found))
    assert len(models) == 4
    assert len({m.partition("-")[0] for m in models}) > 1
    assert {u.mode for u in found} == {"blind", "frozen"}


def test_a_study_file_sets_the_options_and_the_command_line_wins(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        '[adapt]\nmodels = ["zoo:vit-50"]\ntask = "vqa"\nmode = ["full"]\nsteps = 5\nblind = false\n'
    )
    found = units("--study", str(file), "--steps", "6")
    assert {(u.model, u.task, u.mode, u.recipe.training.steps) for u in found} == {
        ("zoo:vit-50", "vqa", "full", 6)
    }


def test_real_files_choose_their_task(tmp_path):
    found = units("--captions", "c.json", "--images", "pictures", "--models", MODELS[0])
    assert {u.task for u in found} == {"captioning"}
    assert found[0].recipe.files.arguments == {
        "captions": "c.json",
        "images": "pictures",
        "words": "hendricks2018",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "vqq"], "there is no task 'vqq'. Did you mean 'vqa'"),
        (["--mode", "ful"], "there is no mode 'ful'. Did you mean 'full'"),
        (["--head", "answer", "--task", "vqa"], "there is no head 'answer'. Did you mean 'answers'"),
        (["--head", "answers", "--task", "captioning"], "'answers' does vqa, not captioning"),
        (["--engine", "workers:x"], "say how many processes"),
        (["--questions", "q.json", "--task", "vqa"], "needs --images"),
        (["--captions", "nowhere.json", "--images", "nowhere"], "nowhere.json"),
        (["--steps", "0"], "training.steps"),
        (["--intervention", "no_such_thing"], "no_such_thing"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_message_and_nothing_is_written(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    code = run(*words, "--out", out)
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert code == 2
    assert not out.exists()


def test_an_unknown_key_of_a_study_names_the_nearest(tmp_path, capsys):
    file = tmp_path / "study.toml"
    file.write_text("[adapt]\nmodel = []\n")
    assert run("--study", file) == 2
    assert "[adapt] has no key 'model'. Did you mean 'models'" in capsys.readouterr().err


# -- the run folder, with units that cost nothing -------------------------------------------------


def faked(unit: AdaptUnit, **_: object) -> Adaptation:
    """Return what a unit would, at once; quality is 10 for the blind and 40 for the others."""
    key = f"key of {unit.name}"
    if unit.done == key:
        return Adaptation(key, kept=True)
    quality = 10.0 if unit.mode == "blind" else 40.0
    base = {**unit.columns, "stage": "post", "image_set": "w", "view": "global"}
    table = rows.table(
        [
            {**base, "metric": "vqa_accuracy", "value": quality, "n": 5},
            {
                **base,
                "metric": "flip_rate",
                "attribute": "gender",
                "value": 0.25,
                "ci_low": 0.2,
                "ci_high": 0.3,
                "n": 5,
            },
        ]
    )
    blind = unit.blind[1] if unit.blind else float("nan")
    summary = {
        **unit.columns,
        "metric": "vqa_accuracy",
        "quality": quality,
        "blind": blind,
        "competent": "yes",
    }
    return Adaptation(key, tables={"extrinsic": table, "adapted": pd.DataFrame([summary])}, quality=quality)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(adapted, "adapt_unit", faked)
    monkeypatch.setattr("clipbias.tasks.given.task_data", lambda recipe: None)


WORDS = ("--models", *MODELS, "--task", "vqa", "--engine", "local", "--no-report")


def test_tables_of_all_units_and_a_manifest(fake, tmp_path, capsys):
    assert run(*WORDS, "--out", tmp_path) == 0
    folder = RunFolder(tmp_path)
    table = folder.read("adapted")
    assert len(table) == 7
    assert (table[table["mode"] == "frozen"]["blind"] == 10.0).all()
    assert len(folder.manifest["units"]) == 7
    assert folder.manifest["config"]["adapt"]["models"] == MODELS
    assert set(folder.read("metrics")["metric"]) == {"vqa_accuracy", "flip_rate"}
    said = capsys.readouterr().out
    assert "vqa (answers), perceived gender" in said
    assert "0.250 [0.200, 0.300]" in said


def test_a_second_run_does_nothing_and_says_so(fake, tmp_path, capsys):
    run(*WORDS, "--out", tmp_path)
    before = (tmp_path / "extrinsic.parquet").read_bytes()
    capsys.readouterr()
    assert run(*WORDS, "--out", tmp_path) == 0
    assert "7 units, 7 of them done before (nothing was trained)" in capsys.readouterr().err
    assert before == (tmp_path / "extrinsic.parquet").read_bytes()
    assert run(*WORDS, "--out", tmp_path, "--mode", "full") == 0  # baselines are kept, with their quality
    full = RunFolder(tmp_path).read("adapted").query("mode == 'full'")
    assert (full["blind"] == 10.0).all()


def test_it_joins_what_measure_has_written(fake, tmp_path):
    folder = RunFolder(tmp_path)
    from clipbias.results.run import new_manifest

    folder.write_manifest(new_manifest(config={"recipe": {"a": 1}}, units={"zoo:resnet-50": {"key": "k"}}))
    run(*WORDS, "--out", tmp_path)
    manifest = folder.manifest
    assert manifest["config"]["recipe"] == {"a": 1}
    assert manifest["units"]["zoo:resnet-50"] == {"key": "k"}
    assert len(manifest["units"]) == 8


def test_a_failed_unit_is_told_and_the_others_go_on(fake, tmp_path, monkeypatch, capsys):
    def breaks(unit, **more):
        if unit.model == MODELS[2] and unit.mode == "blind":
            raise RuntimeError("broken")
        return faked(unit, **more)

    monkeypatch.setattr(adapted, "adapt_unit", breaks)
    assert run(*WORDS, "--out", tmp_path) == 1
    said = capsys.readouterr().err
    assert "unexpected error: RuntimeError: broken" in said
    assert "its image-blind baseline failed" in said
    assert set(RunFolder(tmp_path).read("adapted")["model"]) == {MODELS[0], MODELS[1]}


def test_a_model_that_is_not_there_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clipbias.tasks.given.task_data", lambda recipe: None)
    assert run("--models", "zoo:resnet-51", "--engine", "local", "--out", tmp_path / "run") == 1
    assert "the zoo has no model 'resnet-51'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_with_130_and_keeps_what_is_done(fake, tmp_path, monkeypatch):
    seen = []

    def stop(unit, **more):
        seen.append(unit)
        if len(seen) == 4:  # the fourth: two baselines and one model are done
            raise KeyboardInterrupt
        return faked(unit, **more)

    monkeypatch.setattr(adapted, "adapt_unit", stop)
    assert run(*WORDS, "--out", tmp_path) == 130
    assert len(RunFolder(tmp_path).manifest["units"]) == 3


def test_a_full_disk_is_one_message_and_what_is_done_is_kept(fake, tmp_path, monkeypatch, capsys):
    run(*WORDS[:2], *WORDS[4:], "--out", tmp_path, "--no-controls")
    before = RunFolder(tmp_path).manifest["units"]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunFolder, "merge", full)
    capsys.readouterr()
    assert run(*WORDS, "--out", tmp_path) == 1
    said = capsys.readouterr().err
    assert "No space left on device. Free some space" in said
    assert "Traceback" not in said
    assert RunFolder(tmp_path).manifest["units"] == before


def test_an_outcome_of_another_process_is_stored_like_one_of_this(fake, tmp_path):
    [unit] = [u for u in units("--models", MODELS[0], "--task", "vqa", "--no-controls") if u.mode == "blind"]
    outcome = Outcome(0, unit, faked(unit))
    one = adapted.Run(tmp_path, {})
    one._store(outcome.unit, outcome.value, 1.0)
    assert one._known(unit) == 10.0


# -- for real -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_run_from_end_to_end(study, tmp_path, capsys):
    out = tmp_path / "run"
    words = ("--models", MODELS[0], "--out", out, "--engine", "local", "--no-controls", "--seeds", "0")
    assert run(*words) == 0
    folder = RunFolder(out)
    frame = folder.read("extrinsic")
    assert list(frame.columns) == list(rows.COLUMNS)
    assert {"blind", "frozen"} == set(frame["mode"])
    assert set(frame.loc[frame["status"] == "not competent", "mode"]) <= {"frozen"}
    assert (out / "report.html").is_file()
    assert {"adapted", "training", "views", "models", "metrics"} <= set(folder.tables())
    capsys.readouterr()
    assert run(*words) == 0
    assert "nothing was trained" in capsys.readouterr().err
    shutil.rmtree(out / "states")
    assert run(*words, "--dry-run") == 0
    assert "yes" in capsys.readouterr().out


@pytest.mark.slow
def test_full_mode_measures_the_adapted_tower_again(study, tmp_path):
    shutil.copy(content.shipped() / "tasks" / "measure.toml", study / "tasks" / "measure.toml")
    text = (
        (study / "tasks" / "measure.toml")
        .read_text()
        .replace("n_boot = 500", "n_boot = 10")
        .replace("n_perm = 500", "n_perm = 10")
    )
    (study / "tasks" / "measure.toml").write_text(text.replace('"text:a picture of a dog@200"', '"style"'))
    out = tmp_path / "run"
    words = (
        "--models",
        MODELS[0],
        "--out",
        out,
        "--engine",
        "local",
        "--no-controls",
        "--no-blind",
        "--no-report",
    )
    assert run(*words, "--task", "vqa", "--mode", "full") == 0
    again = RunFolder(out).read("intrinsic")
    assert set(again["stage"]) == {"post"}
    assert set(again["mode"]) == {"full"}
    assert set(again["status"]) - {"ok"} <= {"text does not fit", "no input", "empty group"} | set(
        again["status"]
    )
