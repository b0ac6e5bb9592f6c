"""Every command shows an example, and says in one message what is wrong and what to do."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

from clipbias import study
from clipbias.cli import VERBS, main
from clipbias.results.manifest import SCHEMA

INNER = [["study", v] for v in ("init", "run", "demo", "schema")] + [["cache", v] for v in ("ls", "prune")]
INNER += [["zoo", v] for v in ("list", "train")]
READERS = {"report": [], "analyze": [], "gate": ["--max", "max_skew=1"], "card": ["--model", "zoo:vit-95"],
           "compare": ["--models", "a", "b"]}  # fmt: skip


def told(capsys) -> str:
    """Return stderr, which must be one message without a traceback."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("words", [*([verb] for verb in VERBS), *INNER], ids=" ".join)
def test_every_command_has_help_with_an_example(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    examples = text.split("examples:\n", 1)[1].strip().splitlines()
    assert any(line.strip().startswith(f"clipbias {words[0]}") for line in examples)


@pytest.mark.parametrize(
    "words", [*([verb] for verb in VERBS if verb not in ("study", "cache", "zoo")), *INNER], ids=" ".join
)
def test_a_wrong_option_is_one_message_and_bad_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [*words, "runs/x"] * (words[0] in READERS)
            + words * (words[0] not in READERS)
            + ["--no-such-option"]
        )
    assert stop.value.code == 2
    assert "--no-such-option" in (text := told(capsys)) or "required" in text


@pytest.mark.parametrize("verb", READERS)
def test_an_empty_run_folder_says_how_to_make_a_run(verb, tmp_path, capsys):
    assert main([verb, str(tmp_path), *READERS[verb]]) in (1, 2)
    text = told(capsys)
    assert str(tmp_path) in text
    assert "is empty" in text or "holds no results" in text
    assert "clipbias.measure" in text


@pytest.mark.parametrize("verb", READERS)
def test_a_run_folder_of_another_version_is_named_with_what_to_do(verb, tmp_path, capsys):
    pd.DataFrame({"model": ["zoo:vit-95"]}).to_parquet(tmp_path / "intrinsic.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA - 1, "clipbias": "0.0.1"}))
    assert main([verb, str(tmp_path), *READERS[verb]]) in (1, 2)
    text = told(capsys)
    assert "written by clipbias 0.0.1" in text
    assert "new folder" in text


def test_a_study_into_a_run_folder_of_another_version_begins_nothing(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA - 1, "clipbias": "0.0.1"}))
    path = tmp_path / "study.toml"
    path.write_text(f"models = ['zoo:vit-50']\nout = '{run}'\nsteps = ['report']\n")
    assert study.main(["run", str(path), "--quiet"]) != 0
    assert "written by clipbias 0.0.1" in told(capsys)
    assert [p.name for p in run.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("words", "near"),
    [(["measure", "--metrics", "max_skw", "--no-report"], "max_skew"), (["measure", "--probe", "rols", "--metrics", "max_skew"], "roles"),
     (["study", "run", "@study"], "max_skew")],
)  # fmt: skip
def test_an_unknown_metric_or_set_is_told_with_the_nearest(words, near, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text("[measure]\nmetrics = ['max_skw']\n")
    assert main([w.replace("@study", "study.toml") for w in words]) == 2
    text = told(capsys)
    assert f"Did you mean '{near}'?" in text
    assert not Path("runs").exists()


def test_every_verb_is_looked_at():
    assert all(callable(importlib.import_module(module).main) for module, _ in VERBS.values())
    assert set(READERS) <= set(VERBS)
