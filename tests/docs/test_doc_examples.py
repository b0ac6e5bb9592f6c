"""The scripts of docs/examples run on the embedded data and print what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PRINTED = {
    "audit_checkpoint": ["zoo:vit-95", "max_skew", "c_asc", "zero_shot_disparity", "null_mean"],
    "import_probe_set": ["max_skew", "over-represented"],
    "add_metric": ["an unfair one", "null_mean"],
    "add_image_set": ["gender", "tone", "ndkl"],
    "analyse_scores": ["nurse", "random forest"],
}


def test_every_example_is_tested():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs_from_any_folder(tmp_path, name):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"CLIPBIAS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(EXAMPLES.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in PRINTED[name]:
        assert word in done.stdout
