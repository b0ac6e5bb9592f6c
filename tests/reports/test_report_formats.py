"""Markdown, the folder for papers, and charts as altair objects: the same content, and texts from data stay texts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import altair as alt
import chain_tables
import pandas as pd
import pytest

from clipbias import report
from clipbias.errors import DataError
from clipbias.reports import chart, markdown, paper
from clipbias.reports.assemble import assemble
from clipbias.reports.tables import read
from clipbias.results.run import RunFolder

EVIL = "<script>x</script>|*a*_b_[c](d)\n# e $f$ & 10%"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("formats") / "run")
    given = chain_tables.make(3, 2)
    manifest = given.pop("manifest")
    first = given["models"]["model"].iloc[0]
    for name, frame in given.items():
        folder.write(name, frame.replace({first: EVIL}))
    folder.write_manifest(manifest)
    return folder


@pytest.fixture(scope="module")
def content(run):
    return assemble(read(run))


def test_all_formats_are_written_by_the_verb(run, capsys):
    assert report.main([str(run.path), "--format", "html,md", "paper"]) == 0
    assert (run.path / "report.html").stat().st_size > 1e6
    assert (run.path / "report.md").read_text(encoding="utf-8").startswith("# Bias report")
    assert list((run.path / "paper" / "tables").glob("*.tex"))
    assert "report.md" in capsys.readouterr().out
    assert report.main([str(run.path), "--format", "pdf"]) == 2
    assert "there is no format 'pdf'" in capsys.readouterr().err


def test_markdown_has_every_section_table_and_chart_and_escapes_data(content, tmp_path):
    figures: dict[str, str] = {}
    text = markdown.text_of(content, title=EVIL, figures=figures, folder="f")
    assert [s.title for s in content.sections] == re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert set(re.findall(r"\(f/([\w.-]+\.svg)\)", text)) == set(figures)
    assert len(figures) > 20
    fences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)  # code is shown as it is
    assert "<script>" not in fences
    assert r"\*a\*\_b\_\[c\]" in text
    rows = [line for line in fences.splitlines() if line.startswith("|")]
    heads = [r for r in rows if re.fullmatch(r"[| :-]+", r)]
    assert len(heads) >= 12
    # A row has as many cells as its table, whatever stands in them.
    width = 0
    for before, line in zip(rows, rows[1:], strict=False):
        if line in heads:
            width = line.count("|")
            assert len(re.findall(r"(?<!\\)\|", before)) == width
        elif width and before in heads:
            assert len(re.findall(r"(?<!\\)\|", line)) == width
    assert "slurword" not in text


def test_the_paper_folder_has_csv_svg_and_latex_that_agree(content, tmp_path):
    folder = paper.save(content, tmp_path / "paper")
    frame = pd.read_csv(folder / "data" / "adapted_bias.csv")
    assert len(frame) == len(content.context.shared.frames["adapted_bias"])
    svgs = list((folder / "figures").glob("*.svg"))
    assert len(svgs) > 20
    for svg in svgs:
        ElementTree.parse(svg)
    index = (folder / "index.md").read_text(encoding="utf-8")
    for tex in (folder / "tables").glob("*.tex"):
        text = tex.read_text(encoding="utf-8")
        assert f"tables/{tex.name}" in index
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
        lines = [x for x in text.splitlines() if x.endswith(r"\\") and "multicolumn" not in x]
        assert lines
        for line in lines:
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, (tex.name, line)
        body = "\n".join(x for x in text.splitlines() if not x.startswith("%"))
        assert not re.search(r"(?<!\\)[%#_]", body), tex.name
        assert "<" not in body
        assert "slurword" not in body


def test_a_chart_is_an_altair_object_with_its_data(run):
    names = chart(run)
    assert "transfer-0" in names
    made = chart(run, "adapted-0")
    assert isinstance(made, (alt.Chart, alt.LayerChart))
    rows = made.to_dict()["datasets"]["rows"]
    assert {r["task"] for r in rows} == {"captioning"}
    with pytest.raises(DataError, match="no chart 'adapted-O'. Did you mean 'adapted-"):
        chart(run, "adapted-O")
