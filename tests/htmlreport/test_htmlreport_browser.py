"""The report in a browser: headless Chromium, without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from erf.measures.squares import log_area, mass_area
from erf.results.files import load_result
from htmlreport import main

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(results_folder) -> Path:
    assert main([str(results_folder)]) == 0
    return results_folder / "report.html"


@pytest.fixture
def page(browser, report) -> Iterator:
    """The report, opened offline; fails if there was any error, or any request besides that for the file."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900}, color_scheme="light")
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url.partition(":")[0]))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert problems == []
    assert set(requests) <= {"file", "data"}


def test_the_slider_moves_squares_and_numbers(page, results_folder):
    slider = page.get_by_label("Share t that a square holds")
    slider.fill("90")
    assert page.locator("#share-text").inner_text() == "90%"
    row = page.get_by_role("row", name="wide")
    contribution = load_result(results_folder / "erf" / "wide.npz").contribution
    for measure, areas in {"mass": mass_area, "log": log_area}.items():
        (area,) = areas(contribution, [0.9])
        texts = row.first.locator(f'td[data-measure="{measure}"]').all_inner_texts()
        assert texts == [f"{area.side_px} px", f"{area.ratio:.2%}"]
    (area,) = mass_area(contribution, [0.9])
    square = page.locator(".map svg[data-map='2'] rect.mass.line")
    assert square.get_attribute("width") == str(area.side_px)
    assert float(square.get_attribute("x")) == 32.5 - area.side_px / 2
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "91%"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_bars_stand_out_from_the_paper(page, scheme):
    """Contrast is at least 3 to 1, as WCAG 2.2 requires for graphics; the browser paints a pixel of each colour."""
    page.emulate_media(color_scheme=scheme)
    painted = page.evaluate(
        """() => {
            const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
            const paint = (colour) => {
                brush.fillStyle = colour;
                brush.fillRect(0, 0, 1, 1);
                return Array.from(brush.getImageData(0, 0, 1, 1).data.slice(0, 3));
            };
            const data = "[id*='-mass-'] > path, [id$='-average'] > path:not(.reach), [id$='-points'] use";
            const colours = Array.from(document.querySelectorAll(`.plot :is(${data})`)).map((line) => {
                const {fill, stroke} = getComputedStyle(line);
                return line.tagName === "use" ? fill : stroke;
            });
            return {paper: paint(getComputedStyle(document.body).backgroundColor), lines: colours.map(paint)};
        }"""
    )
    assert len(painted["lines"]) >= 3
    paper = luminance(painted["paper"])
    for line in painted["lines"]:
        dark, light = sorted((luminance(line), paper))
        assert (light + 0.05) / (dark + 0.05) >= 3, line


def test_no_text_of_a_plot_is_cut_off(page):
    """This includes the end of an axis, with the four digits of a map of 1024 pixels."""
    cut, texts = page.evaluate(
        """() => {
            const plots = Array.from(document.querySelectorAll("svg.plot"));
            const texts = plots.flatMap((plot) => Array.from(plot.querySelectorAll("text"), (text) => [plot, text]));
            const outside = ([plot, text]) => {
                if (plot.getAttribute("aria-label").startsWith("Share") && /^\\d+$/.test(text.textContent)) {
                    text.textContent = "1024";
                }
                const [inner, outer] = [text.getBoundingClientRect(), plot.getBoundingClientRect()];
                return inner.left < outer.left || inner.right > outer.right || inner.bottom > outer.bottom;
            };
            return [texts.filter(outside).map(([, text]) => text.textContent), texts.length];
        }"""
    )
    assert texts > 20
    assert cut == []


def luminance(rgb):
    """Relative luminance of 8-bit sRGB (WCAG 2.2)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_tables_sort_by_keyboard(page):
    table = page.locator("#squares")
    heading = table.get_by_role("columnheader", name="side, score")
    assert heading.get_attribute("aria-sort") == "none"

    def names() -> list[str]:
        return [text.split()[0].rstrip(",") for text in table.locator("tbody th").all_inner_texts()]

    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names() == ["narrow", "untrained", "wide"]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert names() == ["wide", "untrained", "narrow"]
    assert page.locator("#status").inner_text() == "sorted by side, score, descending"


def test_the_plot_is_read_by_pointer_and_by_keyboard(page):
    plot = page.locator("#cue-conflict svg.plot")
    plot.focus()
    plot.press("ArrowRight")
    tip = page.locator("#tip")
    assert tip.is_visible()
    first = tip.inner_text()
    assert "shape bias" in first
    plot.press("ArrowRight")
    assert tip.inner_text() != first
    plot.press("Escape")
    assert tip.is_hidden()
    mark = plot.locator("[id$='-observer-0-points'] use.mark").first
    mark.hover()
    assert tip.inner_text() == mark.get_attribute("data-tip")
    page.get_by_label("net:").uncheck()
    for part in ("points", "average", "bar", "name"):
        assert plot.locator(f"[id$='-observer-0-{part}']").is_hidden()
    assert plot.locator("[id$='-observer-people-points']").is_visible()


def test_a_thin_line_is_reached_by_the_pointer(page):
    average = page.locator("#cue-conflict-observer-0-average")
    average.scroll_into_view_if_needed()
    line = average.locator("path").last.bounding_box()
    page.mouse.move(line["x"] + line["width"] / 2 + 3, line["y"] + 5)
    assert "all categories: shape bias" in page.locator("#tip").inner_text()


def test_the_curves_are_read_and_the_level_follows_the_slider(page, results_folder):
    stripe = page.locator("#receptive-fields-side-33")
    stripe.hover()
    said = page.locator("#tip").inner_text().splitlines()
    share = load_result(results_folder / "erf" / "wide.npz").measured.mass_curve.estimate[16]
    assert said[0] == "square of 33 px"
    assert f"wide, weights wide: {share:.1%}" in said
    line, plot = page.locator("[id$='-share-line']"), page.locator("#receptive-fields-side-33")
    page.get_by_label("Share t that a square holds").fill("90")
    box, whole = line.bounding_box(), plot.bounding_box()
    assert box["y"] == pytest.approx(whole["y"] + 0.1 * whole["height"], abs=3)


def test_colours_follow_the_system_and_the_button(page):
    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.emulate_media(color_scheme="dark")
    dark = paper()
    assert dark != light
    button = page.locator("#theme")
    assert button.inner_text() == "Light colours"
    button.click()
    assert paper() == light
    assert button.inner_text() == "Dark colours"


def test_it_fits_narrow_screens_and_the_screenshot_is_not_empty(page, tmp_path):
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    hint = page.locator(".hint:visible").first
    assert hint.inner_text() == "More columns: scroll to the right →"
    page.evaluate("document.querySelectorAll('.scroll').forEach((frame) => frame.scrollTo(10000, 0))")
    page.wait_for_function("document.querySelectorAll('.scroll.more').length === 0")
    picture = tmp_path / "narrow.png"
    page.screenshot(path=picture)
    with Image.open(picture) as image:
        assert len(image.convert("L").getcolors()) > 50


def test_in_print_everything_is_open_on_light_paper(page, tmp_path):
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#theme").is_hidden()
    opened = page.evaluate(
        "() => { dispatchEvent(new Event('beforeprint')); "
        "return document.querySelectorAll('details.source:not([open])').length }"
    )
    assert opened == 0
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in content or b"/MediaBox [0 0 595" in content
