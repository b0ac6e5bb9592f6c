"""A real study killed again and again ends with the tables of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from clipbias import content
from clipbias.results.run import RunFolder

MEASURE = """
views = ["global"]
random_subsets = 0
[protocol]
name = "small"
k = 0.1
n_boot = 20
n_perm = 20
[[measurements]]
image_set = "world-people"
probe = "roles"
truth = "role"
attributes = ["gender"]
metrics = ["max_skew"]
only = { style = "noto", context = "park" }
"""
SMALL = {"n_train": 20, "n_val": 5, "steps": 4, "states": 10, "n_boot": 10, "n_perm": 0, "evaluations": 2,
         "rule": '"times"', "margin": 0.001, "views": '["global"]'}  # fmt: skip

# Every file of a run is written whole under another name and then renamed, so between two renames nothing that counts
# happens: the N-th rename, before or after it, stands for all points in time near it.
DYING = """
import os, signal, sys
left, after = int(sys.argv[1]), sys.argv[2] == "after"
real = os.replace

def replace(*paths, **more):
    global left
    left -= 1
    if left == 0 and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*paths, **more)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
from clipbias.cli import main
sys.exit(main(sys.argv[3:]))
"""


def tiny(folder: Path) -> Path:
    """Write a study of two models and one task that takes some seconds."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "measure.toml").write_text(MEASURE)
    lines = content.find("tasks", "vqa.toml").read_text().splitlines()
    lines = [f"{key} = {SMALL[key]}" if (key := line.partition(" ")[0]) in SMALL else line for line in lines]
    place = lines.index(next(line for line in lines if line.startswith("[training]")))
    lines.insert(place + 1, "checkpoint_seconds = 0")
    (folder / "tasks" / "vqa.toml").write_text("\n".join(lines))
    path = folder / "study.toml"
    path.write_text(
        f"models = ['zoo:vit-50', 'zoo:vit-95']\nout = '{folder}/run'\nengine = 'local'\n"
        "[adapt]\ntask = 'vqa'\ncontrols = false\n[analyze]\nquestions = ['transfer']\n"
    )
    return path


def run(path: Path, folder: Path, *, die_at: int = 0, after: bool = True) -> int:
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(die_at), "after" if after else "before", "study", "run", str(path), "--quiet"],
        env=os.environ | {"CLIPBIAS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables without the columns that say how long something took."""
    found = RunFolder(folder / "run")
    return {
        name: found.read(name).drop(columns=["seconds", "training_seconds"], errors="ignore")
        for name in found.tables()
    }


@pytest.mark.slow
def test_killed_at_any_point_it_goes_on_and_ends_with_the_same_tables(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(tiny(whole), whole) == 0
    path = tiny(killed)
    rng, deaths = random.Random(5), 0
    # Later and later, so that every part of the study is hit; the last number is beyond all renames of a whole run.
    for at in (rng.randint(1, 6), rng.randint(7, 14), rng.randint(8, 20), rng.randint(10, 30), 10_000):
        died = run(path, killed, die_at=at, after=bool(rng.getrandbits(1))) != 0
        deaths += died
        if not died:
            break
    assert not died
    assert deaths >= 3
    mine, theirs = tables(killed), tables(whole)
    assert {"intrinsic", "extrinsic", "adapted", "verdicts", "transfer"} <= set(theirs)
    assert set(mine) == set(theirs)
    for name, table in theirs.items():
        pd.testing.assert_frame_equal(mine[name], table, check_exact=True, obj=name)
