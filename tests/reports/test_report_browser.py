"""The page in a real browser: charts come alive, filters filter, downloads arrive, nothing overflows."""

from __future__ import annotations

import csv
import io
import itertools
import os
import shutil
from pathlib import Path

import chain_tables
import pytest

from clipbias.reports import render

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ARTIFACTS = Path(__file__).parents[1] / "artifacts"
ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAUSE = 150  # ms between two downloads: Chromium drops an eleventh within a second
EVIL = "zoo:</script><script>document.title='owned'</script>"


def unavailable(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        unavailable("no Chromium: install it (apt-get install chromium) to run the browser tests")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("no playwright: install the `dev` extra to run the browser tests")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    tables = chain_tables.make(6, 4)
    names = {"zoo:vit-50": EVIL}
    evil = {
        k: v.assign(model=v["model"].replace(names)) if k != "manifest" and "model" in v else v
        for k, v in tables.items()
    }
    return render(evil, tmp_path_factory.mktemp("browser") / "report.html")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A page with every kind of chart and table, of few models: for what has to look at all of them."""
    return render(chain_tables.make(3, 2), tmp_path_factory.mktemp("browser") / "small.html")


@pytest.fixture
def open_page(browser, report):
    pages = []

    def opened(path=report, **options):
        page = browser.new_page(reduced_motion="reduce", **options)  # no smooth scrolling under a click
        page.set_default_timeout(180_000)  # a machine that runs other tests too is slow to draw
        page.problems = []
        page.requests = []
        page.on("console", lambda m: page.problems.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda e: page.problems.append(str(e)))
        page.on("request", lambda r: page.requests.append(r.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()


def wake(page, figures: str = "figure.chart") -> None:
    """Open what is folded and scroll to the charts, until every one that is not hidden is live."""
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    page.evaluate(
        """async (figures) => { for (const f of document.querySelectorAll(figures)) {
            f.scrollIntoView({behavior: 'instant'}); await new Promise(r => setTimeout(r, 30)); } }""",
        figures,
    )
    page.wait_for_function(
        "figures => [...document.querySelectorAll(figures)].every(f => f.hidden || f.dataset.live)",
        arg=figures,
    )


def marks(page, figure: str) -> int:
    return page.locator(f"{figure} .plot .mark-symbol path").count()


def test_every_chart_is_drawn_and_nothing_is_fetched_or_complained_of(open_page, report):
    page = open_page(viewport={"width": 1440, "height": 1000})
    title = page.title()
    wake(page)
    assert page.problems == []
    assert {u for u in page.requests if not u.startswith("data:")} == {report.as_uri()}
    assert page.title() == title == "Bias report"
    assert page.locator("figure.chart").count() >= 12
    ids = page.evaluate("[...document.querySelectorAll('figure.chart')].map(f => f.id)")
    drawn = "f => f.querySelectorAll('.plot .mark-symbol path, .plot .mark-rect path').length"
    assert [i for i in ids if page.locator(f"#{i}").evaluate(drawn) == 0] == []
    assert {
        "adapted-0",
        "inherited-0",
        "transfer-0",
        "change-0",
        "map-0-0",
        "pareto-0",
        "dose-response-0",
        "overwriting-0",
    } <= set(ids)


@pytest.mark.parametrize("width", [360, 820, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_overflows_and_screenshots_are_kept(open_page, width, scheme):
    page = open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"report-{width}-{scheme}-top.png"))
    wake(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """w => [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg, .skip, .sheet')
            && e.getClientRects().length && e.getBoundingClientRect().right > w + 1).map(e => e.tagName + '.' + e.className)""",
        width,
    )
    assert beyond == []
    overlapping = page.evaluate(
        """() => { const f = [...document.querySelectorAll('figure.chart')].map(e => e.getBoundingClientRect());
            let n = 0; f.forEach((a, i) => f.slice(i + 1).forEach(b => { if (a.left < b.right - 1 && b.left < a.right - 1
              && a.top < b.bottom - 1 && b.top < a.bottom - 1) n += 1 })); return n }"""
    )
    assert overlapping == 0
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    page.screenshot(path=str(ARTIFACTS / f"report-{width}-{scheme}.png"), full_page=True)


def test_filters_change_tables_and_charts_and_can_be_undone(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    rows = page.locator("#scores-table tbody tr:not(.body-head):visible")
    before, heads = rows.count(), page.locator("#scores-table thead th:visible").count()
    page.select_option("#filter-model", "zoo:resnet-65")
    assert rows.count() == before // 6
    assert set(rows.locator("th").evaluate_all("es => es.map(e => e.firstChild.textContent)")) == {
        "zoo:resnet-65"
    }
    assert page.locator("#local figure.chart:visible").count() == 1
    assert "match" in page.locator(".state").inner_text()

    page.select_option("#filter-metric", "ndkl")
    assert page.locator("#scores-table thead th:visible").count() == 2
    assert page.locator("#planted figure.chart:visible .name").all_inner_texts() == ["NDKL"]
    assert page.locator("#local h3 [data-current=metric]").inner_text() == "NDKL"

    page.select_option("#filter-attribute", "tone")
    assert {
        t.split(" \u00b7 ")[0] for t in page.locator("#scores-table .body-head:visible").all_inner_texts()
    } == {"Perceived skin tone"}

    page.get_by_role("button", name="Show all").click()
    assert rows.count() == before
    assert page.locator("#scores-table thead th:visible").count() == heads
    assert page.problems == []


def test_a_live_chart_is_redrawn_with_the_filtered_rows(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    wake(page, "#local-0")
    figure = "#local-0"
    whole, text = marks(page, figure), page.locator(figure).inner_text()
    assert whole == 4
    page.select_option("#filter-view", "context=office")
    page.wait_for_function("document.querySelectorAll('#local-0 .plot .mark-symbol path').length === 1")
    assert "of 1 view outside" in page.locator(f"{figure} .note").inner_text()
    page.select_option("#filter-view", "")
    page.wait_for_function("document.querySelectorAll('#local-0 .plot .mark-symbol path').length === 4")
    assert sorted(page.locator(figure).inner_text().split("\n")) == sorted(text.split("\n"))
    assert page.problems == []


def test_one_model_is_highlighted_in_the_scatter_and_the_others_stay(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    wake(page, "#planted-0")
    count = marks(page, "#planted-0")
    page.select_option("#filter-model", "zoo:resnet-65")
    page.wait_for_function(
        "document.querySelectorAll('#planted-0 .plot .mark-symbol path[opacity=\"0.15\"]').length > 0"
    )
    assert marks(page, "#planted-0") == count
    assert page.locator("#planted-0 .plot .mark-symbol path[opacity='1']").count() == 1


def test_a_click_on_a_mark_highlights_its_model_in_every_chart_and_table_and_can_be_undone(open_page, small):
    page = open_page(small, viewport={"width": 1440, "height": 1000})
    wake(page)
    mark = page.locator("#adapted-0 .plot .mark-symbol path").first
    mark.scroll_into_view_if_needed()
    mark.click(force=True)
    lit = page.locator("#filter-highlight").input_value()
    assert lit.startswith("zoo:")
    looks = """lit => { const page = JSON.parse(document.getElementById('page-data').textContent);
      const whole = c => Array.isArray(c) ? c : 'every' in c ? Array(c.n).fill(c.every) : c.codes.map(i => c.levels[i]);
      const rows = s => { const names = Object.keys(page.data[s]), columns = names.map(k => whole(page.data[s][k]));
        return columns[0].map((_, i) => Object.fromEntries(names.map((k, j) => [k, columns[j][i]]))) };
      return [...document.querySelectorAll('figure.chart')].map(f => {
      const where = Object.entries(JSON.parse(f.dataset.where));
      const own = rows(f.dataset.source).filter(r => where.every(([k, v]) => r[k] === v)).map(r => r.model);
      const drawn = [...f.querySelectorAll('.plot .mark-symbol path, .plot .mark-rect path')].map(e => Number(e.getAttribute('opacity') ?? 1));
      return { id: f.id, models: own.filter(Boolean), back: f.classList.contains('back'), faint: drawn.filter(o => o < .5).length, marks: drawn.length } }) }"""
    page.wait_for_function(
        "document.querySelectorAll('#map-0-0 .plot .mark-rect path[opacity=\"0.25\"]').length > 0"
    )
    mixed = alone = 0
    for figure in page.evaluate(looks, lit):
        others = set(figure["models"]) - {lit}
        if not others:  # of no model, or of this one alone
            assert not figure["back"], figure
            assert figure["faint"] == 0, figure
        elif lit in figure["models"]:
            mixed += 1
            assert 0 < figure["faint"] < figure["marks"], figure
        else:  # of other models only: the whole chart stands back
            alone += 1
            assert figure["back"] or figure["faint"] == figure["marks"], figure
    assert mixed > 8
    assert alone >= 2
    assert set(
        page.locator("#scores-table tr.lit th").evaluate_all("es => es.map(e => e.firstChild.textContent)")
    ) == {lit}
    mark.click(force=True)  # a second click undoes it
    page.wait_for_function("document.querySelectorAll('.plot path[opacity=\"0.15\"]').length === 0")
    assert page.locator("#filter-highlight").input_value() == ""
    assert page.locator("tr.lit, .chart.back").count() == 0
    assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(open_page, small, scheme):
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        unavailable("no axe-playwright-python: install the `dev` extra to run the accessibility test")
    page = open_page(small, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    wake(page)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response
    assert len(found["passes"]) > 20  # it did look
    assert [
        (v["impact"], v["id"], len(v["nodes"]), v["nodes"][0]["html"][:200], v["nodes"][0].get("failureSummary", "")[:300])
        for v in found["violations"]
        if v["impact"] in {"moderate", "serious", "critical"}
    ] == []  # fmt: skip


def test_axe_would_find_one(browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page()
    page.set_content(
        "<html lang=en><title>t</title><main><h1>t</h1><img src='data:,'><p style='color:#ddd'>pale</p></main>"
    )
    assert {"image-alt", "color-contrast"} <= {v["id"] for v in axe.run(page).response["violations"]}
    page.close()


def test_every_table_can_be_downloaded(open_page, small):
    page = open_page(small, viewport={"width": 1440, "height": 1000})
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    boxes = page.locator(".table-box").evaluate_all("es => es.map(e => e.id)")
    assert page.locator(".table-box button[data-csv]").count() == len(boxes) > 8
    for box in boxes:
        shown = page.locator(f"#{box} tbody tr:not(.body-head)").count()
        with page.expect_download() as got:
            page.locator(f"#{box} [data-csv]").click()
        assert got.value.suggested_filename.endswith(".csv"), box
        text = Path(got.value.path()).read_text(encoding="utf-8-sig")
        lines = list(csv.reader(io.StringIO(text)))
        assert len({len(line) for line in lines}) == 1, box
        page.wait_for_timeout(PAUSE)
        assert len(lines) - 1 >= shown or box == "scores-table", (
            box
        )  # that one shows a row per model, not per value
    assert page.problems == []


def test_every_chart_can_be_downloaded(open_page, small):
    page = open_page(small, viewport={"width": 1440, "height": 1000})
    wake(page)
    figures = page.locator("figure.chart").evaluate_all("es => es.map(e => e.id)")
    assert len(figures) > 12
    for figure, (kind, start) in itertools.product(figures, {"svg": b"<svg", "png": b"\x89PNG"}.items()):
        with page.expect_download() as got:
            page.locator(f"#{figure} [data-save={kind}]").click()
        assert got.value.suggested_filename.endswith(f"{figure}.{kind}")
        content = Path(got.value.path()).read_bytes()
        assert content.startswith(start), figure
        assert len(content) > 2000, figure
        page.wait_for_timeout(PAUSE)
    assert page.problems == []


def test_downloads_arrive_whole(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    with page.expect_download() as got:
        page.locator("#scores-table [data-csv]").click()
    text = Path(got.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert got.value.suggested_filename == "headline.csv"
    assert EVIL in {r["model"] for r in rows}
    assert max(len(r["value"].partition(".")[2]) for r in rows) > 10
    kinds = {"svg": b"<svg", "png": b"\x89PNG"}
    for kind, start in kinds.items():
        with page.expect_download() as got:
            page.locator(f"#planted-0 [data-save={kind}]").click()
        content = Path(got.value.path()).read_bytes()
        assert content.startswith(start)
        assert len(content) > 3000
    assert page.problems == []


def test_offensive_words_appear_only_with_the_switch(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    word = page.locator("#examples .offensive .word").first
    assert not word.is_visible()
    page.get_by_label("Show offensive probe words").check()
    assert word.is_visible()


def test_every_control_is_reached_by_keyboard(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000})
    controls = "select, main button, .filters button, input, .scroll, main summary"
    wanted = page.evaluate(
        f"[...document.querySelectorAll({controls!r})].filter(e => e.checkVisibility()).length"
    )
    page.evaluate(
        f"window.reached = new Set(); document.addEventListener('focusin', e => {{ if (e.target.matches({controls!r})) reached.add(e.target) }})"
    )
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3 * wanted + 120):
        page.keyboard.press("Tab")
    assert page.evaluate("reached.size") == wanted


def test_the_page_reads_without_javascript(browser, report):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("figure.chart .plot svg").first.is_visible()
    assert page.locator("#scores-table tbody tr").first.is_visible()
    assert page.locator(".filters").is_hidden()
    assert page.locator("#scores-table [data-csv]").is_hidden()
    page.get_by_label("Show offensive probe words").check()
    assert page.locator("#examples .offensive .word").first.is_visible()
    context.close()


def test_dark_mode_text_in_charts_stands_out(open_page):
    page = open_page(viewport={"width": 1440, "height": 1000}, color_scheme="dark")
    ratio = """(selector) => { const lum = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255;
        return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 }); return .2126 * r + .7152 * g + .0722 * b };
      const text = lum(getComputedStyle(document.querySelector(selector)).fill);
      const back = lum(getComputedStyle(document.documentElement).backgroundColor);
      return (Math.max(text, back) + .05) / (Math.min(text, back) + .05) }"""
    assert page.evaluate(ratio, "#planted-0 svg text") > 4.5
    wake(page, "#planted-0")
    assert page.evaluate(ratio, "#planted-0 svg text") > 4.5
    background = page.evaluate(
        "getComputedStyle(document.querySelector('#planted-0 .plot svg')).backgroundColor"
    )
    assert background == "rgba(0, 0, 0, 0)"


def test_print_shows_whole_tables_and_no_controls(open_page):
    page = open_page(viewport={"width": 800, "height": 1100}, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".side").is_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#scores-table .scroll')).maxHeight") == "none"
    )
    ARTIFACTS.mkdir(exist_ok=True)
    page.pdf(path=str(ARTIFACTS / "report.pdf"), format="A4", print_background=True)
    assert (ARTIFACTS / "report.pdf").stat().st_size > 20_000
