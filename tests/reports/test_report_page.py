"""The page itself: what it holds, what it must not hold, and that it never fails for a missing table."""

from __future__ import annotations

import json
import re

import chain_tables
import numpy as np
import pandas as pd
import pytest
import report_tables
from html_tree import Tree, unpacked

from clipbias.errors import DataError
from clipbias.reports import charts, render
from clipbias.reports.render import build
from clipbias.reports.tables import read

EVIL = "</script><script>document.title='owned'</script>"
QUOTE = '"><img src=x onerror="document.title=\'owned\'">'


@pytest.fixture(scope="module")
def tree(page):
    return Tree(page)


def data(tree: Tree) -> dict:
    return json.loads(next(e for e in tree.elements if e.attrs.get("id") == "page-data").text)["data"]


def test_page_is_well_formed_with_every_section(tree):
    assert tree.unbalanced == []
    ids = [e.attrs["id"] for e in tree.all("section")]
    assert ids == [
        "verdict",
        "measured",
        "scores",
        "planted",
        "local",
        "deviations",
        "examples",
        "adapted",
        "inherited",
        "interventions",
        "transfer",
        "convergence",
        "validity",
        "metric_validity",
        "reliability",
        "tests",
        "methods",
        "again",
    ]


def test_slopes_of_two_modes_are_told_apart_with_the_interval_of_the_difference(page):
    text = re.sub(r"<[^>]+>", "", page)
    assert "captioning, frozen 0.90 [0.80, 1.00]; captioning, full 0.30 [0.20, 0.40]" in text
    assert "of the same models: captioning, full \u22120.60 [\u22120.70, \u22120.50]; VQA, full" in text


def test_headings_tables_and_language_serve_a_screen_reader(tree):
    assert tree.all("html")[0].attrs["lang"] == "en"
    assert len(tree.all("h1")) == 1
    levels = [int(e.tag[1]) for e in tree.elements if re.fullmatch(r"h[1-6]", e.tag) and "main" in e.parents]
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    for table in tree.all("table"):
        assert table.children[0].tag == "caption"
        assert table.children[0].text.strip()
    for th in tree.all("th"):
        assert th.attrs.get("scope") in {"col", "row", "rowgroup"}
    for plot in (e for e in tree.all("div") if e.attrs.get("class") == "plot"):
        assert plot.attrs["role"] == "img"
        assert re.search(r"\d", plot.attrs["aria-label"]), "alt text says the finding, with a number"
    for box in (e for e in tree.elements if (e.attrs.get("class") or "").startswith("scroll")):
        assert box.attrs["tabindex"] == "0"
        assert box.attrs["aria-label"]
    ids = [e.attrs["id"] for e in tree.elements if "id" in e.attrs]
    assert len(ids) == len(set(ids))
    for label in tree.all("label"):
        assert label.attrs["for"] in ids
    for link in (a for a in tree.all("a") if a.attrs["href"].startswith("#")):
        assert link.attrs["href"][1:] in ids


def test_nothing_is_loaded_from_anywhere(tree, page):
    for element in tree.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            value = element.attrs.get(name, "")
            assert value.startswith(("#", "data:image/png;base64,")) or not value, (
                element.tag,
                name,
                value[:60],
            )
    style = "".join(e.text for e in tree.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    policy = next(m for m in tree.all("meta") if "http-equiv" in m.attrs).attrs["content"]
    assert policy.startswith("default-src 'none'")


def test_bundle_is_there_once_and_alone(page):
    assert page.count(charts.bundle()) == 1
    assert page.count("<script") == 4  # class switch, data, bundle, loader


def test_static_charts_stand_before_any_script_runs(tree):
    charts_ = tree.all("figure", class_="chart")
    assert len(charts_) >= 12
    for figure in charts_:
        plot = next(c for c in figure.children if c.attrs.get("class") == "plot")
        assert plot.children[0].tag == "svg"
    marks = [
        e for e in tree.elements if e.tag == "path" and "svg" in e.parents and len(e.attrs.get("d", "")) > 8
    ]
    assert len(marks) > 12 * 4


def test_text_from_data_is_never_markup(tables):
    names = {m: m for m in tables["models"]["model"]}
    first, second = list(names)[:2]
    names |= {first: f"zoo:{EVIL}", second: f"zoo:{QUOTE}"}
    evil = {
        k: v.assign(model=v["model"].replace(names)) if "model" in v else v
        for k, v in tables.items()
        if k != "manifest"
    }
    evil["views"] = evil["views"].assign(definition=EVIL, kind=QUOTE)
    evil["metrics"] = evil["metrics"].assign(title=lambda f: f["title"] + EVIL, sign=QUOTE)
    evil["prompts"] = evil["prompts"].assign(prompt=EVIL, licence=QUOTE)
    evil["examples"] = evil["examples"].assign(caption=EVIL, probe=QUOTE, group=EVIL)
    evil["left_out"] = evil["left_out"].assign(reason=EVIL)
    evil["validity"] = evil["validity"].assign(verdict=EVIL, reason=QUOTE)
    page = build(read({**evil, "manifest": {"command": EVIL, "versions": {QUOTE: EVIL}}}), title=EVIL)
    tree = Tree(page)
    assert tree.unbalanced == []
    assert len(tree.all("script")) == 4
    assert not tree.all("img")
    assert EVIL not in page
    assert QUOTE not in page
    assert not [e for e in tree.elements if any(k.startswith("on") for k in e.attrs)]
    assert f"zoo:{EVIL}" in unpacked(data(tree)["headline"]["model"])


def test_a_picture_that_is_no_png_is_not_shown(tables):
    bad = tables["examples"].assign(png='"/><script>alert(1)</script>')
    tree = Tree(build(read({**tables, "examples": bad}), title="t"))
    assert not [e for e in tree.elements if e.tag == "image"]


def test_data_holds_full_precision_and_the_page_shows_few_digits(tree, tables):
    packed = data(tree)["headline"]
    i = list(zip(unpacked(packed["metric"]), unpacked(packed["model"]), strict=True)).index(
        ("max_skew", "zoo:vit-65")
    )
    rows = tables["intrinsic"].query(
        "metric == 'max_skew' and model == 'zoo:vit-65' and view == 'global' and probe == ''"
    )
    assert unpacked(packed["value"])[i] in set(rows["value"])
    cells = [e.text for e in tree.all("td") if "score" in e.attrs.get("class", "")]
    shown = [re.search(r"\d+\.(\d+)", c) for c in cells]
    assert max(len(m[1]) for m in shown if m) <= 4


def test_missing_value_is_shown_as_words_with_its_reason(tree):
    cells = [e for e in tree.all("td") if "status" in e.attrs.get("class", "").split()]
    assert {"empty group", "not competent"} <= {c.text for c in cells}
    assert any(c.text.startswith("not measured") for c in cells)
    assert any("No picture of tone 5" in e.text for e in tree.all("li"))
    assert not [e.text for e in tree.all("td") if re.search(r"\bnan\b", e.text, re.IGNORECASE)]


def test_offensive_words_are_covered_and_only_those(tree):
    covered = [e for e in tree.all("span") if e.attrs.get("class") == "word"]
    assert {e.text for e in covered} == {"slurword", "a photo of a slurword"}
    for e in tree.elements:
        if "slurword" in e.attrs.get("aria-label", "") and e.tag == "svg":
            pytest.fail("an alt text says the covered word")
    assert tree.all("input", id="show-offensive")


def test_first_screen_answers_in_sentences_with_numbers(tree, tables):
    answers = [e.text for e in tree.all("dd") if e.parents.count("dl") == 1]
    assert len(answers) == 8
    assert "6 models on 4,200 pictures" in answers[0]
    assert all(re.search(r"\d", a) for a in answers)
    assert "local values" in answers[2]
    assert "captioning and VQA (frozen and full towers)" in answers[3]
    assert "Related: Max skew before and Flip rate after, perceived gender, frozen tower" in answers[4]
    assert "changes by 0.112" in answers[5]
    assert "Spearman" in answers[6]
    frame = tables["validity"]
    assert f"{(frame['spearman'] >= frame['bound']).sum()} of {len(frame)} instruments" in answers[7]


def test_the_same_tables_give_the_same_page(tables, page):
    assert build(read(tables), title="Bias report") == page


@pytest.mark.parametrize(
    "name",
    [
        "intrinsic",
        "models",
        "metrics",
        "views",
        "validity",
        "null_bands",
        "examples",
        "prompts",
        "left_out",
        "manifest",
    ],
)
def test_any_table_may_be_missing_or_empty(tables, name):
    small = {k: v for k, v in report_tables.make(3, 2).items() if k != name}
    missing = Tree(build(read(small), title="t"))
    if name != "manifest":
        empty = Tree(build(read({**small, name: tables[name].head(0)}), title="t"))
        assert [e.attrs["id"] for e in empty.all("section")] == [
            e.attrs["id"] for e in missing.all("section")
        ]
    gone = {
        "intrinsic": "scores",
        "models": "planted",
        "views": "local",
        "validity": "validity",
        "manifest": "again",
    }
    shown = {e.attrs["id"] for e in missing.all("section")}
    assert missing.unbalanced == []
    assert "verdict" in shown
    if name in gone:
        assert gone[name] not in shown


def test_a_table_of_rows_alone_is_enough(tables):
    rows = tables["intrinsic"].query("view == 'global'")
    tree = Tree(build(read({"intrinsic": rows}), title="t"))
    assert {"verdict", "scores"} <= {e.attrs["id"] for e in tree.all("section")}


def test_a_run_in_which_nothing_could_be_computed_still_reports(tables):
    rows = tables["intrinsic"].assign(
        value=np.nan,
        ci_low=np.nan,
        ci_high=np.nan,
        p=np.nan,
        status="constant scores",
        reason="All scores equal.",
    )
    tree = Tree(build(read({**tables, "intrinsic": rows}), title="t"))
    assert "constant scores" in {e.text for e in tree.all("td")}
    assert any("No value could be computed" in e.text for e in tree.all("dd"))


def test_models_can_be_chosen_and_an_unknown_one_is_named(tables, tmp_path):
    text = render(tables, tmp_path / "r.html", models=["zoo:vit-65"]).read_text(encoding="utf-8")
    assert "zoo:vit-65" in text
    assert "zoo:vit-50" not in text
    with pytest.raises(DataError, match="no model 'zoo:vit-66'.*Did you mean 'zoo:vit-65'"):
        render(tables, tmp_path / "x.html", models=["zoo:vit-66"])
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_a_run_folder_is_read_and_a_wrong_one_is_named(tables, tmp_path):
    from clipbias.results.run import RunFolder

    run = RunFolder(tmp_path / "run")
    for name, frame in tables.items():
        if name != "manifest":
            run.write(name, frame)
    run.write_manifest(tables["manifest"])
    text = render(tmp_path / "run", tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "python -m clipbias.measure --out runs/default" in text
    with pytest.raises(DataError, match="no such folder"):
        render(tmp_path / "nowhere", tmp_path / "x.html")
    with pytest.raises(DataError, match="give a pandas DataFrame"):
        render({"intrinsic": [1]}, tmp_path / "x.html")


@pytest.mark.slow
def test_a_large_run_stays_below_five_megabytes(tmp_path):
    path = render(chain_tables.make(12, 10), tmp_path / "large.html")
    assert path.stat().st_size < 5e6


def test_a_chart_with_active_content_is_refused():
    with pytest.raises(ValueError, match="active content"):
        charts.clean_svg('<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', prefix="x")
    with pytest.raises(ValueError, match="active content"):
        charts.clean_svg('<svg xmlns="http://www.w3.org/2000/svg"><g onclick="1"/></svg>', prefix="x")


def test_ids_inside_a_chart_are_its_own():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><clipPath id="clip7"/><g clip-path="url(#clip7)"/><text>id="clip7"</text></svg>'
    out = charts.clean_svg(svg, prefix="c1")
    assert 'id="c1-0"' in out
    assert "url(#c1-0)" in out
    assert '<text>id="clip7"</text>' in out


def test_numbers_of_an_unknown_column_kind_are_told():
    assert read({"models": pd.DataFrame({"model": ["a"], "architecture": ["vit"]})})["models"][
        "family"
    ].tolist() == ["vit"]


def test_an_infinite_value_is_shown_and_breaks_no_chart(tables):
    rows = tables["intrinsic"].assign(value=lambda f: f["value"].mask(f["metric"] == "ndkl", -np.inf))
    page = build(read({"intrinsic": rows, "models": tables["models"]}), title="t")
    assert "\u2212\u221e" in page
    assert "Infinity" not in next(e for e in Tree(page).elements if e.attrs.get("id") == "page-data").text


def test_what_every_model_leaves_out_is_counted_once():
    left = pd.DataFrame(
        {
            "model": ["a", "b", "b"],
            "image_set": "s",
            "item": ["x.png", "x.png", "y.png"],
            "reason": "unreadable file",
        }
    )
    rows = [
        {
            "model": "a",
            "image_set": "s",
            "view": "global",
            "attribute": "gender",
            "metric": "ndkl",
            "value": 0.1,
            "n": 5,
        }
    ]
    tree = Tree(build(read({"intrinsic": pd.DataFrame(rows), "left_out": left}), title="t"))
    assert any("2 pictures or units were left out" in e.text for e in tree.all("dd"))
