"""Every metric has a page with a formula, pitfalls and an example; the examples of all pages give what they say."""

from __future__ import annotations

from collections import Counter

import metric_pages
import pytest
import run_examples

FRAGMENTS = {f.path.stem: f for f in metric_pages.fragments()}
COVERED = Counter(name for f in FRAGMENTS.values() for name in f.names)


@pytest.mark.parametrize("name", metric_pages.declared())
def test_every_metric_has_one_page(name):
    told = f"{name} has no page: copy docs/metrics/_template.md to docs/metrics/{name}.md and fill it in."
    assert COVERED[name] >= 1, told
    assert COVERED[name] == 1, f"{name} is covered by more than one page of docs/metrics."


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_page_has_what_a_reader_needs(name):
    assert FRAGMENTS[name].missing == []
    assert FRAGMENTS[name].text.split("## ")[0].strip(), "a page begins with what the number asks"


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_page_belongs_to_something(name):
    page = metric_pages.page(FRAGMENTS[name])
    assert page.startswith(f"# {name}\n")
    assert set(FRAGMENTS[name].names[1:]) <= set(metric_pages.declared())


@pytest.mark.parametrize("path", run_examples.pages(), ids=lambda p: str(p.relative_to(run_examples.DOCS)))
def test_examples_give_what_the_page_says(path):
    assert run_examples.failures(path) == ""


def test_an_example_that_is_wrong_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```pycon\n>>> 1 + 1\n3\n\n```\n")
    assert "Expected:\n    3\nGot:\n    2" in run_examples.failures(page)


def test_what_a_fragment_lacks_is_said(tmp_path):
    path = tmp_path / "x.md"
    path.write_text("<!-- covers: y -->\nAsks.\n\n## Formula\n\nNone.\n\n## Example\n\n    x\n")
    found = metric_pages.read_fragment(path)
    assert found.names == ("x", "y")
    assert [text.split(" ")[1] for text in found.missing] == ["section", "formula", "```pycon"]


def test_sources_become_links():
    assert metric_pages.source("arXiv:1905.01989") == "[arXiv:1905.01989](https://arxiv.org/abs/1905.01989)"
    assert (
        metric_pages.source("doi:10.1/x, and https://a.org/b")
        == "[doi:10.1/x](https://doi.org/10.1/x), and <https://a.org/b>"
    )
