"""`make bench`: parts are resumed, failures are told, and the page holds no path of a machine."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "benchmarks" / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_run", module)
    spec.loader.exec_module(module)
    for part in module.PARTS.values():
        assert (ROOT / "benchmarks" / part.script).exists()
    (tmp_path / "good.py").write_text(
        "import sys, pathlib\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        "out.write_text('what,ratio\\nloop | ours,107.31\\n')\n"
        "log = out.parent / 'calls'\n"
        "log.write_text((log.read_text() if log.exists() else '') + 'x')\n"
    )
    (tmp_path / "bad.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(
        module,
        "PARTS",
        {
            "fast": module.Part("A fast part", "good.py"),
            "zoo": module.Part("Of a run", "good.py", needs_run=True),
            "broken": module.Part("A broken part", "bad.py"),
        },
    )
    return module


def test_parts_are_kept_and_measured_again_when_asked(bench, tmp_path, capfd):
    results = tmp_path / "results"
    options = ["--results", str(results)]
    assert bench.main(["fast", *options]) == 0
    assert bench.main(["fast", *options]) == 0
    assert (results / "calls").read_text() == "x"
    assert bench.main(["fast", "--again", *options]) == 0
    assert (results / "calls").read_text() == "xx"
    page = (tmp_path / "RESULTS.md").read_text() if (tmp_path / "RESULTS.md").exists() else ""
    page = page or (results / "RESULTS.md").read_text()
    assert "| loop \\| ours | 107 |" in page
    assert "Not run: `python benchmarks/run.py broken`" in page
    assert f"Python {sys.version.split()[0]}" in page


def test_a_part_that_fails_is_told_and_leaves_nothing(bench, tmp_path, capfd):
    assert bench.main(["broken", "--results", str(tmp_path / "results")]) == 1
    assert "broken: did not finish" in capfd.readouterr().err
    assert not list((tmp_path / "results").glob("broken*"))
    with pytest.raises(SystemExit) as error:
        bench.main(["brokn"])
    assert error.value.code == 2


def test_a_run_folder_is_asked_for_and_not_written_down(bench, tmp_path, capfd):
    results = tmp_path / "results"
    assert bench.main(["zoo", "--results", str(results)]) == 0
    assert "needs --run" in capfd.readouterr().err
    assert bench.main(["zoo", "--run", str(tmp_path / "secret"), "--results", str(results)]) == 0
    assert "secret" not in (results / "zoo.json").read_text()
    assert "secret" not in bench.page(results)
