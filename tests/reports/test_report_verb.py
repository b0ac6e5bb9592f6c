"""``python -m clipbias.report``: help, exit codes, messages, and that nothing half-written stays behind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import report_tables

from clipbias import report
from clipbias.results.run import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("verb") / "run")
    given = report_tables.make(2, 1)
    for name in ("intrinsic", "metrics", "validity"):
        folder.write(name, given[name])
    folder.write_manifest(given["manifest"])
    return folder


def test_a_run_becomes_a_page(run, capsys):
    assert report.main([str(run.path)]) == 0
    page = run.path / "report.html"
    assert str(page) in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not [p for p in run.path.iterdir() if p.name.startswith(".report")]


def test_out_names_the_run_and_html_the_page(run, tmp_path, capsys):
    page = tmp_path / "sub" / "audit.html"
    assert report.main(["--out", str(run.path), "--html", str(page), "--title", "Audit <1>", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert "<h1>Audit &lt;1&gt;</h1>" in page.read_text(encoding="utf-8")


def test_dry_run_lists_sections_and_writes_nothing(run, capsys):
    (run.path / "report.html").unlink(missing_ok=True)
    assert report.main([str(run.path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "Models and metrics" in out
    assert "left out: no models" in out
    assert not (run.path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run folder"),
        (["{run}", "--models", "zoo:vit-51"], "Did you mean 'zoo:vit-50'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(run, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert report.main([a.format(run=run.path) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_says_how_to_fill_it(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert "clipbias.measure" in capsys.readouterr().err


def test_two_folders_are_bad_usage(capsys):
    with pytest.raises(SystemExit) as end:
        report.main(["a", "--out", "b"])
    assert end.value.code == 2
    assert "name two folders" in capsys.readouterr().err


def test_a_study_folder_changes_the_page_and_leaves_no_trace(run, tmp_path, monkeypatch):
    monkeypatch.delenv("CLIPBIAS_STUDY", raising=False)
    (tmp_path / "reports" / "sections").mkdir(parents=True)
    (tmp_path / "reports" / "sections" / "note.toml").write_text(
        'order = 1\ntitle = "A note of ours"\n', encoding="utf-8"
    )
    page = tmp_path / "x.html"
    assert report.main([str(run.path), "--html", str(page), "--study", str(tmp_path), "--quiet"]) == 0
    assert "A note of ours" in page.read_text(encoding="utf-8")
    import os

    assert "CLIPBIAS_STUDY" not in os.environ


def test_help_has_an_example_and_loads_nothing_heavy():
    code = (
        "import sys; from clipbias import report\n"
        "try: report.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'pandas', 'numpy', 'altair', 'jinja2', 'vl_convert'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "clipbias report runs/default" in done.stdout


def test_a_report_needs_no_torch():
    code = (
        "import sys, clipbias.reports; assert 'torch' not in sys.modules and 'open_clip' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
