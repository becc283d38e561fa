"""The page in a real browser: no errors, nothing fetched, nothing wider than the screen, text that can be read."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from planned import experiment
from synthetic import Truth, study

from encdec_jax.report.html import render
from encdec_jax.report.learning import History
from encdec_jax.study.findings import analyze

playwright = pytest.importorskip("playwright.sync_api", reason="the extra [dev] is not installed: no playwright")

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (1440, 390)
LONG = "a_name_without_any_place_to_break_it_" * 4

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")

# Contrast by WCAG 2.2 (1.4.3) of every text that is seen, with the first background behind it that is not transparent.
CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const style = getComputedStyle(node);
    if (!walker.currentNode.data.trim() || node.closest("script, title, [hidden]")) continue;
    if (style.visibility === "hidden") continue;
    const ink = channels(node.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(node))];
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push({text: walker.currentNode.data.trim().slice(0, 40), ratio, least: large ? 3 : 4.5});
  }
  return found;
}"""
# What a reader would have to scroll the page sideways for, and texts of pictures that their frames cut off.
WIDE = """() => {
  const outside = [...document.querySelectorAll("body *")].filter(
    (node) => !node.closest(".wide, pre, svg, [hidden]") && node.getBoundingClientRect().right > innerWidth + 1);
  return [document.documentElement.scrollWidth - innerWidth, ...outside.map((node) => node.outerHTML.slice(0, 80))];
}"""
CUT = """() => [...document.querySelectorAll("svg text")].filter((text) => {
  const [box, frame] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
  const over = [frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom];
  return Math.max(...over) > 1;
}).map((text) => text.textContent)"""


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A report with all sections, of four architectures, and a name that is longer than a line."""
    truths = {
        "causal_lm": Truth(),
        "enc_dec": Truth(scale=2.1),
        "enc_dec_shared": Truth(2.05),
        "layerwise": Truth(1.99),
    }
    table = study(truths, noise=0.01, window=0.01)
    curves = [
        History(run, arch, budget, np.geomspace(1e9, budget, 9), np.linspace(5, 2, 9))
        for run, arch, budget in table.select("run_id", "arch", "budget_flops").rows()
    ]
    page = render(experiment(table, confounders={LONG: LONG}), table, analyze(table, "causal_lm"), curves)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as driver:
        folder = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(str(folder), executable_path=CHROMIUM, args=FLAGS)
        yield context
        context.close()


@pytest.fixture
def opened(browser, path):
    """Opens the report at a width; at the end of the test, nothing may have gone wrong or been fetched."""
    wrong, pages = [], []

    def open_at(width: int):
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_at
    for page in pages:
        page.close()
    assert wrong == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen_or_cut_off(opened, width):
    page = opened(width)
    assert page.evaluate(WIDE) == [0]
    assert page.evaluate(CUT) == []


def test_a_table_wider_than_a_phone_shows_that_it_scrolls(opened):
    """Dark at the edge behind which there is more: first on the right, at the end on the left."""
    page = opened(390)
    box = page.locator("#all-runs .wide")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")

    def edges() -> tuple[float, float]:
        pixels = matplotlib.image.imread(io.BytesIO(box.screenshot()))[-60:, :, :3].mean(axis=2)
        return tuple(float(np.median(side)) for side in (pixels[:, :2], pixels[:, -2:]))

    left, right = edges()
    assert right < 0.9 < left
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    left, right = edges()
    assert left < 0.9 < right


@pytest.mark.parametrize("width", WIDTHS)
def test_text_can_be_read(opened, width):
    page = opened(width)
    page.locator(".toggles button").first.click()  # switched off, it must be readable too
    found = page.evaluate(CONTRAST)
    assert len(found) > 500
    assert [text for text in found if text["ratio"] < text["least"]] == []


def test_the_page_is_complete_without_its_script(browser, path):
    source = path.read_text()
    plain = path.with_name("plain.html")
    plain.write_text(source[: source.index("<script>")] + "</body></html>")
    page = browser.new_page()
    page.goto(plain.as_uri())
    assert page.evaluate(WIDE) == [0]
    assert page.locator("button:visible").count() == 0
    assert page.locator("table").count() > 8
    assert page.locator("svg title").count() > 100
    page.close()


def test_points_speak_to_pointer_and_keyboard(opened):
    page = opened(1440)
    point = page.locator("svg .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tip = page.locator(".tip")
    assert not tip.is_visible()
    page.mouse.move(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2 + 5)
    assert tip.inner_text() == point.get_attribute("aria-label")
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    point.focus()
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.is_visible()
    assert tip.inner_text() != first
    assert page.evaluate("document.activeElement.classList.contains('point')")


def test_an_architecture_can_be_switched_off(opened):
    page = opened(1440)
    drawn = page.locator("svg [data-label=enc_dec] .point").first
    button = page.get_by_role("button", name="enc_dec", exact=True)
    assert drawn.is_visible()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not drawn.is_visible()
    button.click()
    assert drawn.is_visible()


def test_tables_sort_by_number_and_by_text(opened):
    page = opened(1440)
    table = page.locator("#all-runs table")

    def column(name: str) -> list[str]:
        place = table.locator("th").all_inner_texts()
        place = next(i for i, text in enumerate(place) if text.startswith(name))
        return table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()

    before = column("tokens seen")
    table.get_by_role("button", name="tokens seen").press("Enter")
    assert column("tokens seen") == sorted(before, key=lambda text: int(text.replace(",", "")))
    assert column("tokens seen") != before
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("tokens seen")
    table.get_by_role("button", name="tokens seen").press("Enter")
    assert column("tokens seen") == sorted(before, key=lambda text: -int(text.replace(",", "")))
    table.get_by_role("button", name="run", exact=True).click()
    assert column("run") == sorted(column("run"))


def test_tables_copy_and_rows_download(opened, browser, path):
    browser.grant_permissions(["clipboard-read", "clipboard-write"])
    page = opened(1440)
    page.locator("#at-each-budget .tools button").click()
    page.get_by_text("Copied 9 rows.").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(lines) == 10
    assert lines[0].split("\t")[:2] == ["label", "budget (FLOPs)"]
    with page.expect_download() as download:
        page.locator("a.download").click()
    assert download.value.suggested_filename == "quickstart.csv"
    assert download.value.path().read_text().count("\n") == 49


def test_it_prints(opened):
    page = opened(1440)
    page.locator(".toggles button").first.click()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    assert page.evaluate(WIDE)[0] <= 0
    for hidden in ("nav", ".toggles", ".tools", ".download"):
        assert not page.locator(hidden).first.is_visible()
    seen = """() => [...document.querySelectorAll("svg [data-label]")].every(
        (part) => getComputedStyle(part).visibility === "visible")"""
    assert page.evaluate(seen)
    assert page.pdf(format="A4")[:5] == b"%PDF-"
