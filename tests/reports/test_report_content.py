"""The folder reports/ is alive: what is edited, added or removed there changes the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import report_tables

from clipbias import content
from clipbias.errors import DataError
from clipbias.reports import markup
from clipbias.reports.render import build
from clipbias.reports.sections import builder
from clipbias.reports.tables import read
from clipbias.reports.theme import Theme


@pytest.fixture(scope="module")
def small():
    given = report_tables.make(3, 2)
    # No charts of views and no plants: these tests are about texts.
    return read({k: given[k] for k in ("metrics", "validity", "prompts", "manifest", "left_out")})


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy of the shipped content that a test may change."""
    shutil.copytree(content.shipped() / "reports", tmp_path / "reports")
    monkeypatch.setattr(content, "shipped", lambda: tmp_path)
    monkeypatch.delenv("CLIPBIAS_STUDY", raising=False)
    return tmp_path / "reports"


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', page)


def test_removing_a_section_file_removes_the_section(folder, small):
    before = sections(build(small, title="t"))
    (folder / "sections" / "validity.toml").unlink()
    assert sections(build(small, title="t")) == [s for s in before if s != "validity"]


def test_editing_text_style_script_template_and_theme_changes_the_page(folder, small):
    edits = {
        "sections/methods.toml": ("Labels are perceived.", "Labels are what was seen."),
        "style.css": ("--measure: 42rem", "--measure: 43rem"),
        "page.js": ("// ---- downloads ----", "// ---- the downloads ----"),
        "page.html.j2": ("Skip to the report", "Go to the report"),
        "blocks.html.j2": ("<caption><span>", "<caption><span lang=en>"),
        "theme.toml": ("#5a636c", "#5a636d"),
    }
    base = build(small, title="t")
    for name, (old, new) in edits.items():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        changed = build(small, title="t")
        assert changed != base, name
        assert new in changed
        path.write_text(text, encoding="utf-8")
    assert build(small, title="t") == base


def test_order_title_and_show_are_the_files_to_say(folder, small):
    path = folder / "sections" / "again.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("order = 90", "order = 5").replace('"How to run it again"', '"Once more"'),
        encoding="utf-8",
    )
    page = build(small, title="t")
    assert sections(page)[0] == "again"
    assert "Once more</h2>" in page
    path.write_text(text + "\n", encoding="utf-8")
    path.write_text("show = false\n" + text, encoding="utf-8")
    assert "again" not in sections(build(small, title="t"))


def test_a_new_section_is_one_file_and_no_python(tmp_path, monkeypatch, small):
    (tmp_path / "reports" / "sections").mkdir(parents=True)
    (tmp_path / "reports" / "sections" / "gaps.toml").write_text(
        'order = 55\ntitle = "Gaps"\nneeds = ["gaps"]\ntext = "**Gaps** between models."\n'
        '[[tables]]\ntable = "gaps"\ncaption = "Every gap"\ncolumns = ["model", "gap"]\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert "gaps" not in sections(build(small, title="t"))
    frame = pd.DataFrame({"model": ["<b>m</b>"], "gap": [0.12345], "unused": [1]})
    page = build(read({**small.frames, "gaps": frame}), title="t")
    assert sections(page).index("gaps") == sections(page).index("validity") - 1
    assert "<strong>Gaps</strong> between models." in page
    assert "&lt;b&gt;m&lt;/b&gt;" in page
    assert "0.12<" in page
    assert "0.12345" in page


def test_a_studys_own_section_replaces_the_shipped_one(tmp_path, monkeypatch, small):
    (tmp_path / "reports" / "sections").mkdir(parents=True)
    (tmp_path / "reports" / "sections" / "methods.toml").write_text(
        'order = 80\ntitle = "Ours"\ntext = "Our caveats."\n', encoding="utf-8"
    )
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    page = build(small, title="t")
    assert "Our caveats." in page
    assert "Labels are perceived." not in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('order = 1\ntitel = "x"\n', "unknown entry 'titel'. Did you mean 'title'"),
        ("order = 1\n", "entry 'title' is missing"),
        ("order = \n", "not a readable TOML file"),
        (
            'order = 1\ntitle = "x"\nbuilder = "scoers"\n',
            "No section function is called 'scoers'. Did you mean 'scores'",
        ),
        (
            'order = 1\ntitle = "x"\nbuilder = "methods"\ntext = "{{ metrixs }}"\n',
            "'metrixs' is undefined. Did you mean 'metrics'",
        ),
        ('order = 1\ntitle = "x"\ntext = "{% if %}"\n', "does not render"),
        (
            'order = 1\ntitle = "x"\n[[tables]]\ntable = "validity"\ncolumns = ["boundd"]\n',
            "no column 'boundd'. Did you mean 'bound'",
        ),
    ],
)
def test_a_mistake_in_a_section_file_is_one_message(folder, small, text, message):
    (folder / "sections" / "zz.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        build(small, title="t")


def test_a_mistake_in_the_theme_is_one_message(folder):
    path = folder / "theme.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[series]", "[serie]"), encoding="utf-8")
    with pytest.raises(DataError, match="lacks the entry 'series'"):
        Theme.load()
    path.write_text("[", encoding="utf-8")
    with pytest.raises(DataError, match="not valid TOML"):
        Theme.load()


def test_values_never_pass_through_markdown_or_html():
    env = markup.environment()
    facts = {"name": "**x** <script>[a](b)</script> `c`"}
    html = markup.rendered("A **{{ name }}** and *it*.", facts, env=env, where="here")
    assert (
        html.strip()
        == "<p>A <strong>**x** &lt;script&gt;[a](b)&lt;/script&gt; `c`</strong> and <em>it</em>.</p>"
    )
    assert "<b>" not in markup.rendered("raw <b>html</b>", {}, env=env, where="here")


def test_control_tags_may_stand_around_paragraphs():
    text = "{% if yes %}\n\nOne.\n\n{% endif %}\n\nTwo."
    env = markup.environment()
    assert "<p>One.</p>" in markup.rendered(text, {"yes": True}, env=env, where="here")
    assert "One" not in markup.rendered(text, {"yes": False}, env=env, where="here")


def test_every_shipped_section_names_a_function_that_exists():
    files = markup.sections()
    assert len(files) >= 9
    for file in files:
        assert not file.builder or callable(builder(file.builder))
    assert [f.order for f in files] == sorted(f.order for f in files)


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_colours_stand_out_in_both_modes(mode):
    colours = getattr(Theme.load(), mode)
    for ground in ("paper", "card"):
        assert contrast(colours["ink"], colours[ground]) > 7
        assert contrast(colours["muted"], colours[ground]) > 4.5
        assert contrast(colours["accent"], colours[ground]) > 4.5


def test_chart_colours_can_be_told_apart_by_the_stylesheet():
    theme = Theme.load()
    assert set(theme.light) == set(theme.dark)
    assert len(set(theme.light.values())) == len(theme.light)
    assert set(theme.series) <= set(theme.light.values())
    assert len(theme.series) == len(theme.shapes) == len(set(theme.shapes))
