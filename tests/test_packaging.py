"""What is shipped, the pinned versions, and the Makefile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONTENT = ("probes", "tasks", "analysis", "reports")


# ---- the wheel and the sdist ----


def shipped_files() -> set[str]:
    """Return the files of the package and the content folders: those git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "clipbias", *CONTENT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        files = {name for name in listed.stdout.split("\0") if name}
    else:  # an unpacked sdist
        files = {
            path.relative_to(ROOT).as_posix()
            for folder in ("clipbias", *CONTENT)
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    return {name for name in files if (ROOT / name).is_file()}


def in_wheel(name: str) -> str:
    """Return where a file of the checkout lies in the wheel."""
    return name if name.startswith("clipbias/") else f"clipbias/_content/{name}"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist, and the wheel from the sdist: what an installer that finds no wheel does."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="session")
def wheel_names(built: dict[str, Path]) -> set[str]:
    with zipfile.ZipFile(built["wheel"]) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="session")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder of its own and return that folder."""
    target = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, str(built["wheel"])], check=True, capture_output=True)
    return target


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder whose modules carry the names of our content folders and stop the program on import."""
    for name in (*CONTENT, "data", "metrics", "models", "results", "views", "zoo"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user file {name}.py was imported')\n")
    return tmp_path


def python(target: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``cwd`` with the installed wheel ahead of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "CLIPBIAS_STUDY"}
    environment |= {"PYTHONPATH": str(target), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_wheel_holds_exactly_the_package_and_the_content(wheel_names):
    expected = {in_wheel(name) for name in shipped_files()}
    held = {name for name in wheel_names if ".dist-info/" not in name}
    assert held == expected


@pytest.mark.slow
def test_wheel_has_one_top_level_name(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clipbias"}
    assert len(tops) == 2


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_licences(built, wheel_names):
    texts = {path.name for path in (ROOT / "LICENSES").glob("*.txt")} | {"LICENSE", "NOTICE"}
    assert texts <= {name.rsplit("/", 1)[-1] for name in wheel_names if ".dist-info/licenses/" in name}
    with tarfile.open(built["sdist"]) as archive:
        assert texts <= {name.rsplit("/", 1)[-1] for name in archive.getnames()}


@pytest.mark.slow
def test_sdist_holds_the_package_the_content_and_the_tests(built):
    with tarfile.open(built["sdist"]) as archive:
        held = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    assert shipped_files() <= held
    assert {"Makefile", "constraints.txt", "pyproject.toml", "tests/test_packaging.py"} <= held
    assert not [name for name in held if name.startswith((".ci/", "runs/", ".venv/"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("-m", "clipbias.measure", "--help"), ("-m", "clipbias", "measure", "--help"), ("-m", "clipbias", "report", "--help"),
     ("-m", "clipbias", "models", "--csv")],
    ids=" ".join,
)  # fmt: skip
def test_commands_run_beside_user_files_of_the_same_names(installed, elsewhere, words):
    done = python(installed, elsewhere, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_installed_wheel_reads_its_own_content(installed, elsewhere):
    program = """
import json, clipbias
from clipbias import content
print(json.dumps([clipbias.__file__, *map(str, (content.find("probes", "emoji/people.csv"), *content.entries("probes")))]))
"""
    # -P leaves the working folder out of the path, which `-c` would put first; the commands above keep it in.
    done = python(installed, elsewhere, "-P", "-c", program)
    assert done.returncode == 0, done.stderr
    module, people, *sets = map(Path, json.loads(done.stdout))
    assert module == installed / "clipbias/__init__.py"
    assert people == installed / "clipbias/_content/probes/emoji/people.csv"
    assert people.read_bytes() == (ROOT / "probes/emoji/people.csv").read_bytes()
    assert {path.name for path in sets} >= {
        path.name for path in (ROOT / "probes").iterdir() if not path.name.startswith((".", "_"))
    }


@pytest.mark.parametrize("folder", CONTENT)
def test_no_content_folder_is_empty(folder):
    assert [name for name in shipped_files() if name.startswith(f"{folder}/")]


# ---- constraints.txt ----


def test_constraints_are_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    for line in pins:
        name, _, version = line.partition("==")
        assert name.replace("-", "").isalnum(), line
        assert version, line
        assert not set(version) & set(" /:@;"), line
    assert pins == sorted(set(pins), key=lambda line: line.partition("==")[0])


def test_constraints_pin_every_dependency():
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[canonicalize_name(name)] = version
    wanted = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    for requirement in map(Requirement, wanted):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


# ---- the Makefile ----


@pytest.mark.parametrize("target", ["measure", "test", "fast", "lint", "bench", "zoo", "art", "clean"])
def test_make_knows_the_target(target):
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_make_says_what_to_do_without_a_python(tmp_path):
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["make", "measure", "PYTHON=no-such-python"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert "no-such-python" in done.stderr
    assert not (tmp_path / ".venv").exists()
