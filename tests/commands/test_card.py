"""`clipbias card`: what it says, that it says it in valid Markdown and YAML, and that data stay data."""

from __future__ import annotations

import made_runs
import pandas as pd
import pytest
from made_runs import row
from markdown_it import MarkdownIt

from clipbias.commands import card as verb
from clipbias.commands.card import card
from clipbias.commands.card_words import escape

A = "zoo:a"
NASTY = 'x | y\n# <script>alert("1")</script> [link](http://example.org) `c` *b* _i_'


@pytest.fixture
def run(tmp_path):
    rows = [
        row(A, "max_skew", 0.25, 0.05, group="man", n=1200), row(A, "c_asc", None, group="woman", status="empty group", reason=NASTY),
        row(A, "max_skew", 0.6, 0.05, view="context=kitchen", n=300), row(A, "max_skew", 0.26, 0.05, view="context=park"),
        row("zoo:b", "max_skew", 0.9876), row(A, "max_skew", 0.4321, probe="nurse"),
    ]  # fmt: skip
    post = {
        "stage": "post",
        "task": "vqa",
        "head": "answers",
        "mode": "frozen",
        "seed": "0",
        "image_set": "world",
    }
    config = {
        "models": [A],
        "recipe": {"protocol": {"name": "strict", "k": 0.1, "n_boot": 500, "level": 0.95, "seed": 0}},
    }
    folder = made_runs.write(tmp_path / "run", rows, [row(A, "flip_rate", 0.2, **post)], config=config)
    folder.write(
        "left_out", pd.DataFrame({"model": [A], "image_set": ["people"], "item": ["1"], "reason": [NASTY]})
    )
    return folder


def test_values_come_with_interval_and_n_and_what_they_do_not_mean(run):
    text = card(run, A)
    assert text.startswith("## Bias, Risks, and Limitations\n")
    assert (
        r"| Max skew (`max_skew`) | man | 0.250 | \[0.200, 0.300\] | 1,200 | 0.000 | lower is fairer |"
        in text
    )
    assert "perceived gender" in text
    assert "500 bootstrap draws" in text
    assert "What these numbers do not mean" in text
    assert "vqa, answers, frozen, seed 0" in text
    assert "Not computed: `c_asc`. empty group: x" in text
    for other in ("0.4321", "0.432", "0.988"):  # of one probe, of another model
        assert other not in text


def test_local_findings_are_those_whose_intervals_do_not_touch(run):
    local = card(run, A).split("### Local findings")[1].split("###")[0]
    assert "context=kitchen" in local
    assert "context=park" not in local


def test_text_from_data_stays_text(run):
    text = card(run, A)
    page = MarkdownIt("js-default").enable("table").render(text)
    assert "<script" not in page
    assert "http://example.org</a>" not in page
    assert "<a href" in page  # our own link
    assert page.count("<a href") == 1
    tables = page.count("<table>")
    assert tables == text.count("| --- | --- | ---: |")
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 8


@pytest.mark.parametrize("text", [NASTY, "a_b*c", "1 < 2 & 3", "~~x~~", "![i](u)", "C:\\dir"])
def test_escaped_text_reads_as_it_was(text):
    shown = MarkdownIt("commonmark").renderInline(escape(text))
    import html

    assert html.unescape(shown) == " ".join(text.split())


def test_the_metadata_are_what_the_hub_reads(run):
    from huggingface_hub import ModelCard

    found = ModelCard(card(run, A, metadata=True))
    results = found.data.eval_results
    assert {(r.metric_type, r.metric_value, r.dataset_name) for r in results} == {
        ("max_skew", 0.25, "people"),
        ("flip_rate", 0.2, "world"),
    }
    assert {r.task_type for r in results} == {"zero-shot-image-classification", "visual-question-answering"}
    assert found.data.model_name == A
    assert "## Bias, Risks, and Limitations" in found.text


def test_a_name_that_is_no_yaml_word_is_quoted(tmp_path):
    from huggingface_hub import ModelCard

    name = 'file:a "b": [c]#d.pt?model=ViT-B-32'
    run = made_runs.write(tmp_path / "run", [row(name, "max_skew", 0.25)])
    found = ModelCard(card(run, name, metadata=True))
    assert found.data.model_name == name


def test_the_command_prints_or_writes_and_does_not_overwrite(run, tmp_path, capsys):
    assert verb.main([str(run.path), "--model", A]) == 0
    assert capsys.readouterr().out == card(run, A)
    out = tmp_path / "README.md"
    words = [str(run.path), "--model", A, "--front-matter", "--out", str(out)]
    assert verb.main(words) == 0
    assert out.read_text(encoding="utf-8").startswith("---\n")
    assert verb.main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert verb.main([*words, "--force"]) == 0


def test_an_unknown_model_names_the_nearest(run, capsys):
    assert verb.main([str(run.path), "--model", "zoo:aa"]) == 2
    assert "Did you mean 'zoo:a'" in capsys.readouterr().err
