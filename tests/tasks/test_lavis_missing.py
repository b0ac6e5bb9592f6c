"""Without LAVIS: everything imports, and asking for it says how to install it. These tests run with LAVIS or without."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The path finder with one module hidden, in a process of its own: LAVIS may be imported here already.
HIDE = """
import importlib.machinery, sys
finder = importlib.machinery.PathFinder
find = finder.find_spec
def show():
    finder.find_spec = find
def hide(name, path=None, target=None):
    return None if name.split(".")[0] == {module!r} else find(name, path, target)
finder.find_spec = hide
"""


def python(program: str, *, hidden: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(module=hidden) + program],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


LOAD = """
from clipbias.errors import ClipbiasError
from clipbias.tasks.lavis import bridge
for _ in range(2):
    try:
        bridge.load()
    except ClipbiasError as error:
        print(error)
print("again" if bridge.installed() else "absent")
"""


def test_a_missing_lavis_names_the_two_commands():
    said = python(LOAD, hidden="lavis")
    assert said.count("LAVIS is not installed. Install it with two commands") == 2
    assert 'pip install "clipbias[lavis]"' in said
    assert "pip install --no-deps lavis-gml==1.0.2.post5" in said
    assert said.rstrip().endswith("absent")


def test_a_head_that_needs_it_says_the_same():
    program = """
from clipbias.errors import ClipbiasError
from clipbias.tasks.heads import HeadSetting, build_head
from clipbias.tasks.vocabulary import Vocabulary
try:
    build_head("lavis-vqa", HeadSetting("vqa", 4, 4, Vocabulary.build(["yes no"]), ("yes", "no")))
except ClipbiasError as error:
    print(error)
"""
    assert "LAVIS is not installed" in python(program, hidden="lavis")


@pytest.mark.lavis
@pytest.mark.slow
def test_a_missing_part_of_lavis_is_named_and_can_be_mended():
    from lavis_toy import need_lavis

    need_lavis()
    # webdataset is imported after half of LAVIS's classes have registered themselves.
    said = python(LOAD.replace("bridge.load()", "bridge.load(); print('loaded')").replace(
        "print(error)", "print(error); show()"
    ), hidden="webdataset")  # fmt: skip
    assert said.count("cannot be imported here (No module named 'webdataset')") == 1
    assert "loaded" in said


@pytest.mark.lavis
@pytest.mark.slow
def test_decord_and_spacy_are_not_needed():
    from lavis_toy import need_lavis

    need_lavis()
    program = "from clipbias.tasks.lavis import bridge; bridge.load(); print('decord' in sys.modules)"
    assert python(program, hidden="decord").strip() == "False"


def test_importing_the_package_imports_neither_lavis_nor_torch():
    program = "import sys, clipbias.tasks.lavis; print([m for m in ('lavis', 'torch', 'transformers') if m in sys.modules])"
    assert python(program, hidden="nothing").strip() == "[]"


def test_the_message_the_pins_and_the_set_up_agree():
    from clipbias.tasks.lavis import INSTALL

    pin = INSTALL[1].split()[-1]
    assert pin in (ROOT / "constraints.txt").read_text().splitlines()
    assert f"-c constraints.txt --no-deps {pin.partition('==')[0]}" in (ROOT / "Makefile").read_text()
    assert '-e ".[dev,lavis]"' in (ROOT / "Makefile").read_text()
    assert "lavis" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
