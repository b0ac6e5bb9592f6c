"""The suite's own tools: the network guard and the browser; see conftest.py."""

from __future__ import annotations

import socket

import pytest


def test_the_suite_uses_no_network():
    with socket.socket() as plug, pytest.raises(OSError, match="no network"):
        plug.connect(("192.0.2.1", 80))  # an address reserved for documentation


@pytest.mark.browser
def test_a_page_that_is_in_order_opens_without_an_error(open_page, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>t</title><script>document.title = 'ran'</script>")
    opened = open_page(page)
    assert opened.page.title() == "ran"
    assert opened.errors == opened.requests == []


@pytest.mark.browser
def test_a_page_that_is_not_is_found_out(open_page, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><script src='https://example.org/x.js'></script><script>nothing()</script>"
    )
    opened = open_page(page)
    assert opened.requests == ["https://example.org/x.js"]
    assert any("nothing is not defined" in error for error in opened.errors)
