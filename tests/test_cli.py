"""The console script: the table of verbs, the shared options, and how a command ends."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import clipbias
from clipbias.cli import VERBS, main
from clipbias.commands import tables
from clipbias.commands.common import command_parser, run_command, shared_options
from clipbias.errors import DataError, ModelError, StatusError

HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "open_clip",
    "timm",
    "altair",
    "pydantic",
    "rich",
}
SHOW_HELP = """
import json, sys
from clipbias.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps(sorted(m for m in sys.modules if "." not in m)), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_is_quick_and_imports_nothing_heavy(words):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", SHOW_HELP, *words], capture_output=True, text=True, check=False
        )
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: clipbias")
        assert set(json.loads(done.stderr)).isdisjoint(HEAVY)
        if seconds[-1] < 0.3:
            break
    print(f"clipbias {' '.join(words)}: {min(seconds):.2f} s")
    assert min(seconds) < 2  # the promise is 0.3 s; a busy machine gets room


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_table_has_a_main(verb):
    module, line = VERBS[verb]
    assert line
    assert importlib.util.find_spec(module), module
    assert callable(importlib.import_module(module).main)


@pytest.mark.parametrize("verb", ["measure", "report"])
def test_verb_and_module_are_the_same_command(command, verb):
    by_verb, by_module = command(verb, "--help"), command("--help", module=f"clipbias.{verb}")
    assert by_verb.returncode == by_module.returncode == 0
    assert by_verb.stdout == by_module.stdout


@pytest.mark.parametrize("verb", ["measure", "report"])
def test_shared_options_are_offered(command, verb):
    told = command(verb, "--help").stdout
    for option in ("--out", "--models", "--study", "--engine", "--seed", "--dry-run", "--quiet"):
        assert option in told


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.split() == ["clipbias", clipbias.__version__]


def test_no_verb_shows_the_verbs_and_is_bad_usage(capsys):
    assert main([]) == 2
    told = capsys.readouterr().out
    assert all(verb in told for verb in VERBS)


@pytest.mark.parametrize(
    "words", [["mesure"], ["--models"], ["measure", "--no-such-option"], ["cache"]], ids=" ".join
)
def test_bad_usage_ends_with_2_and_no_traceback(command, words):
    done = command(*words)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_verb_gets_the_words_after_it(monkeypatch):
    seen = {}

    class Verb:
        @staticmethod
        def main(argv):
            seen["argv"] = argv
            return 1

    monkeypatch.setitem(sys.modules, "a_verb_of_the_test", Verb)
    monkeypatch.setitem(VERBS, "verb", ("a_verb_of_the_test", "for the test"))
    assert main(["verb", "--help", "--models", "zoo:a"]) == 1
    assert seen["argv"] == ["--help", "--models", "zoo:a"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("faces.csv has no column 'age'."), 2), (ModelError("no weights."), 1), (StatusError("empty group", "no woman."), 2)],
)  # fmt: skip
def test_an_error_of_ours_is_one_message_and_its_exit_code(capsys, error, code):
    def fail():
        raise error

    assert run_command(fail) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"clipbias: error: {error}\n"


def test_interrupt_ends_with_130_quietly(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert run_command(interrupt) == 130
    assert capsys.readouterr() == ("", "")


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_exit_code_is_what_the_command_returned(returned, code):
    assert run_command(lambda: returned) == code


_TABLE = "print_table(pd.DataFrame({'line': range(20_000)}))"  # more than a pipe holds: written before the last flush


@pytest.mark.parametrize("shown", ["print('line')", "print('line\\n' * 100_000)", _TABLE])
def test_a_closed_pipe_ends_without_a_traceback(shown):
    program = f"""
import sys
import pandas as pd
from clipbias.commands.common import run_command
from clipbias.commands.tables import print_table
sys.stdin.read()
sys.exit(run_command(lambda: {shown}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    process.stdin.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert stderr == b""


@pytest.fixture
def shared():
    parser = command_parser("verb", "A verb.", examples=["clipbias verb"])
    shared_options(parser)
    return parser


def test_shared_options_have_the_documented_defaults(shared):
    assert vars(shared.parse_args([])) == {
        "models": None, "study": None, "out": Path("runs/default"), "engine": "local", "seed": 0,
        "dry_run": False, "quiet": False,
    }  # fmt: skip


def test_shared_options_are_read(shared):
    words = "--models zoo:a zoo:b --models random:RN50?seed=1 --study s.toml --out o --engine ray --seed 7 --dry-run --quiet"
    assert vars(shared.parse_args(words.split())) == {
        "models": ["zoo:a", "zoo:b", "random:RN50?seed=1"], "study": Path("s.toml"), "out": Path("o"),
        "engine": "ray", "seed": 7, "dry_run": True, "quiet": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "words", [["--seed", "one"], ["--see", "1"], ["--models"], ["--engine"]], ids=" ".join
)
def test_shared_options_refuse_what_they_do_not_know(shared, words):
    with pytest.raises(SystemExit) as stop:
        shared.parse_args(words)
    assert stop.value.code == 2


def test_options_are_grouped_and_examples_shown(shared):
    text = shared.format_help()
    assert "usage: clipbias verb " in text
    assert all(
        title in text
        for title in ("what to run:", "where it goes:", "how it runs:", "examples:\n  clipbias verb")
    )
    assert isinstance(shared, argparse.ArgumentParser)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "yes"), (False, "no"), (None, ""), (float("nan"), ""), (1234567, "1,234,567"), (0.123456, "0.1235"),
     (151277313.0, "151,277,313"), ("zoo:a", "zoo:a")],
)  # fmt: skip
def test_cells_are_readable(value, shown):
    assert tables.cell(value) == shown


def test_a_table_in_a_file_is_whole(capsys):
    table = pd.DataFrame({"model": ["zoo:" + "x" * 90, "[b]"], "parameters": [1000, 2]})
    tables.print_table(table, title="2 models")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "2 models"
    assert any("zoo:" + "x" * 90 in line and line.rstrip().endswith("1,000") for line in lines)
    assert any("[b]" in line for line in lines)  # not taken for markup


# ---- clipbias models, clipbias cache ----


@pytest.fixture
def listed(monkeypatch):
    """Stand in for the real list, which loads torch and open_clip; the slow test below asks that one."""
    import clipbias.models

    table = pd.DataFrame({
        "spec": ["zoo:a", "ViT-B-32/x"], "family": ["zoo", "OpenAI"], "parameters": [480_000, 151_277_313],
        "imagenet": [None, None], "local": [True, False],
    })  # fmt: skip
    monkeypatch.setattr(clipbias.models, "list_models", lambda: table, raising=False)


@pytest.mark.usefixtures("listed")
def test_models_prints_a_table_without_empty_columns(capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "2 models, weights of 1 on this machine" in told
    assert "151,277,313" in told
    assert "imagenet" not in told


@pytest.mark.usefixtures("listed")
def test_models_local_as_csv_and_json(capsys):
    assert main(["models", "--local", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "spec,family,parameters,imagenet,local",
        "zoo:a,zoo,480000,,True",
    ]
    assert main(["models", "--json"]) == 0
    assert [row["spec"] for row in json.loads(capsys.readouterr().out)] == ["zoo:a", "ViT-B-32/x"]


@pytest.mark.slow
def test_models_lists_open_clip_tags_and_says_which_are_here(command):
    done = command("models", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["spec"]: row for row in json.loads(done.stdout)}
    assert rows["ViT-B-32/openai"]["parameters"] > 1e8
    assert {row["local"] for row in rows.values()} <= {True, False}
    assert all(row["local"] for spec, row in rows.items() if spec.startswith("zoo:"))


@pytest.fixture
def stored(tmp_path):
    """Return a cache folder that holds three image embeddings of model a and two of model b."""
    from clipbias.embedding import EmbeddingCache

    cache = EmbeddingCache(tmp_path / "cache")
    for model, n in (("zoo:a", 3), ("zoo:b", 2)):
        items = [hashlib.sha256(f"{model} {i}".encode()).hexdigest() for i in range(n)]
        cache.put(
            hashlib.sha256(model.encode()).hexdigest(),
            items,
            np.ones((n, 4)),
            {"model": model, "tower": "image"},
        )
    return cache.folder


def test_cache_ls_names_the_models(stored, capsys):
    assert main(["cache", "ls", "--folder", str(stored)]) == 0
    told = capsys.readouterr().out
    assert "zoo:a" in told
    assert "zoo:b" in told
    assert str(stored) in told


def test_cache_ls_of_an_empty_cache(tmp_path, capsys):
    assert main(["cache", "ls", "--folder", str(tmp_path)]) == 0
    assert "0.0 MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "left"),
    [([], {"zoo:a", "zoo:b"}), (["--model", "zoo:a"], {"zoo:b"}), (["--older-than", "1"], {"zoo:a", "zoo:b"}),
     (["--older-than", "0"], set()), (["--all"], set())],
)  # fmt: skip
def test_cache_prune_removes_what_it_is_told(stored, capsys, words, left):
    from clipbias.embedding import EmbeddingCache

    assert main(["cache", "prune", "--folder", str(stored), *words]) == 0
    assert set(EmbeddingCache(stored).ls()["model"]) == left
    assert f"removed {2 - len(left)} files" in capsys.readouterr().out


def test_cache_prune_of_an_unknown_model_names_the_nearest(stored, capsys):
    assert main(["cache", "prune", "--folder", str(stored), "--model", "zoo:aa"]) == 2
    assert "Did you mean 'zoo:a'?" in capsys.readouterr().err


def test_cache_prune_all_takes_no_age(stored):
    with pytest.raises(SystemExit) as stop:
        main(["cache", "prune", "--folder", str(stored), "--all", "--older-than", "1"])
    assert stop.value.code == 2


def test_environment_of_the_tests_has_no_study():
    assert "CLIPBIAS_STUDY" not in os.environ
