"""The examples of CONTRIBUTING.md do what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def block(after: str) -> str:
    """Return the first indented block of CONTRIBUTING.md that follows a phrase."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split(after, 1)[1]
    lines = iter(text.splitlines())
    kept = []
    for line in lines:
        if line.startswith("    ") or (kept and not line):
            kept.append(line[4:])
        elif kept:
            break
    return "\n".join(kept).strip() + "\n"


def test_the_probe_set_of_the_guide_loads(tmp_path, monkeypatch):
    from clipbias import probes

    folder = tmp_path / "probes/crafts"
    folder.mkdir(parents=True)
    (folder / "probe.toml").write_text(block("`probes/NAME/probe.toml`:"))
    (folder / "items.csv").write_text(block("`probes/NAME/items.csv`"))
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert dict(probes.load("crafts"))["pottery"] == ["a photo of a potter", "a potter at work"]
    assert "crafts" in set(probes.list_sets()["name"])


def test_the_protocol_of_the_guide_loads(tmp_path, monkeypatch):
    from clipbias.metrics.presets import differences, load_preset

    folder = tmp_path / "tasks/protocols"
    folder.mkdir(parents=True)
    (folder / "potters1999.toml").write_text(block("effect on a worked example:"))
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert [d.choice for d in differences(load_preset("potters1999"))] == ["k"]


# In a process of their own: what they register stays registered.
RUN_THE_METRIC = """
from clipbias.metrics import Ranking, evaluate
rows = evaluate("share_gap", Ranking([[4, 3, 2, 1]], ["potter"], ["f", "f", "m", "m"]), protocol=protocol)
print(rows[0]["value"])
"""
RUN_THE_READER = """
from clipbias import data
pots = data.load("pots", "pots.csv", None)
print(len(pots), *pots.attributes, *pots.contexts)
"""


def test_the_metric_of_the_guide_measures(tmp_path):
    program = (
        "from clipbias.metrics import Protocol\nprotocol = Protocol(k=2, n_boot=0, n_perm=0, min_group=1)\n"
    )
    program += block("answers all of them at once:") + RUN_THE_METRIC
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 1.0  # the first two are both "f": shares 1 and 0


def test_the_reader_of_the_guide_reads(tmp_path):
    (tmp_path / "pots.csv").write_text("image_id,path,gender,kiln\na,a.png,woman,wood\nb,b.png,man,gas\n")
    program = block("only the names of columns:") + RUN_THE_READER
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "gender", "kiln"]
