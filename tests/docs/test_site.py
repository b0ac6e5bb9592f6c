"""The site builds strictly and without network; links lead somewhere; the outputs of the tour are what the commands print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import metric_pages
import pandas as pd
import pytest
import tour
from mathml import with_mathml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
# Made while the site is built, see docs/tools/hooks.py.
MADE = ("metrics/index.md", "cards/", "reference/", "changelog.md")


def test_links_lead_to_files_or_to_pages_that_are_made():
    broken = []
    for page in PAGES:
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            made = target.is_relative_to(ROOT / "docs") and str(target.relative_to(ROOT / "docs")).startswith(
                MADE
            )
            if not made and not target.exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_links_to_cards_lead_to_cards():
    found = {
        m for page in PAGES for m in re.findall(r"cards/([a-z0-9-]+)\.md", page.read_text(encoding="utf-8"))
    }
    sets = {p.parent.name for p in (ROOT / "probes").glob("*/card.md")}
    assert found <= sets | {"zoo", "recipes"}


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    for name in metric_pages.fragments():
        page = (site / "metrics" / f"{name.path.stem}.html").read_text(encoding="utf-8")
        assert "<math" in page
        assert "arithmatex" not in page
    for address in (
        "tour",
        "cards/zoo",
        "cards/roles",
        "cards/recipes",
        "reference/metrics",
        "reference/commands",
    ):
        assert (site / f"{address}.html").is_file()
    assert 'id="clipbias.metrics.ranking.max_skew"' in (site / "reference/metrics.html").read_text(
        encoding="utf-8"
    )
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', (site / "index.html").read_text(encoding="utf-8"))
    assert not [address for address in loaded if address.endswith((".js", ".css", ".woff2"))]


def test_formulas_become_mathml():
    page = with_mathml('<p><span class="arithmatex">\\(a &lt; b\\)</span></p>')
    assert "<mo>&#x0003C;</mo>" in page
    assert 'aria-label="a &lt; b"' in page
    for wrong in ("\\frac", "\\nosuchcommand x"):
        with pytest.raises(ValueError, match="cannot be read"):
            with_mathml(f'<div class="arithmatex">\\[{wrong}\\]</div>')


def test_every_formula_can_be_drawn():
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in re.finditer(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", text, re.DOTALL):
            tex = (match.group(1) or match.group(2)).strip().replace("&", "&amp;").replace("<", "&lt;")
            assert "<math" in with_mathml(f'<span class="arithmatex">\\({tex}\\)</span>'), page


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", text)]


def test_the_tour_has_outputs():
    found = tour.blocks()
    assert len(found) >= 5
    assert all(output.strip() for _, output in found)


@pytest.mark.slow
def test_the_outputs_of_the_tour_are_what_the_commands_print(tmp_path):
    for command, there in tour.blocks():
        now = tour.output(command, tmp_path)
        words = [re.sub(r"-?\d+(\.\d+)?|[─ ]+", "", text) for text in (now, there)]
        assert words[0] == words[1], f"{command}: run `python docs/tools/tour.py`"
        # Other machines differ in the last digits of an embedding, and a rank can change with them.
        assert numbers(now) == pytest.approx(numbers(there), abs=0.05, rel=0.05)


def test_the_line_of_proof_says_what_the_table_holds(tmp_path, monkeypatch):
    table = tmp_path / "metric_validity.csv"
    pd.DataFrame(
        [{"metric": "max_skew", "what": "zoo", "spearman": 0.9, "ci_low": 0.6, "ci_high": 0.98, "n_models": 12,
          "false_positive_rate": 0.05, "reason": ""}]
    ).to_csv(table, index=False)  # fmt: skip
    monkeypatch.setattr(metric_pages, "VALIDITY", table)
    metric_pages._validity.cache_clear()
    said = metric_pages.validity_line("max_skew")
    assert "12 models 0.900 [0.600, 0.980]" in said
    assert "5.0 % of neutral draws" in said
    assert metric_pages.validity_line("weat") == "Not yet tested on the zoo."
    metric_pages._validity.cache_clear()


def test_tables_of_a_run_go_between_their_markers():
    import tables

    text = "a\n<!-- table: validity -->\nold\n<!-- end -->\nb\n"
    table = tables.markdown(pd.DataFrame({"m": ["x|y"], "v": [1]}))
    assert tables.marked(text, "validity", table) == (
        "a\n<!-- table: validity -->\n| m | v |\n| --- | --- |\n| x\\|y | 1 |\n<!-- end -->\nb\n"
    )
    with pytest.raises(SystemExit, match="no markers"):
        tables.marked(text, "transfer", table)
    for name in ("validity", "transfer", "metrics"):
        assert f"<!-- table: {name} -->" in (ROOT / "README.md").read_text(encoding="utf-8")
