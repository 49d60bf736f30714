"""The page as a browser shows it: the map draws, answers pointer, keys and address, and asks for nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headless import Visit, visit
from scgpt_infer.report.finding import ReportOptions, find
from scgpt_infer.report.page import page
from scgpt_infer.report.reading import EmbeddedFile

pytestmark = pytest.mark.browser

MANY = 100_000
MAP = "document.getElementById('map')"
TOLD = "document.getElementById('told')"
EVIL = "<script>alert(1)</script>"
COLOURS = """(() => {
    const names = [...Array(20).keys()].map((place) => `c${place}`).concat("unknown", "none", "faint");
    const style = getComputedStyle(document.documentElement);
    const { width, height } = document.getElementById("map");
    const data = document.getElementById("map").getContext("2d").getImageData(0, 0, width, height).data;
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) seen.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
    return names.filter((name) => seen.has(parseInt(style.getPropertyValue(`--${name}`).trim().slice(1), 16)));
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Visit]:
    with visit() as opened:
        yield opened


@pytest.fixture
def show(write, tmp_path, browser):
    """Write a report and open it; the cells lie in a ring, but the first in its middle."""

    def show(fragment="", *, n_cells=60, colour=(), width=1280, dark=False, **what) -> Visit:
        angles = np.linspace(0, 2 * np.pi, n_cells, endpoint=False)
        places = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        places[0] = 0
        with EmbeddedFile(write(n_cells=n_cells, obsm={"X_umap": places}, **what)) as file:
            told = page(find(file, ReportOptions(umap_key="X_umap", colour=colour)))
        path: Path = tmp_path / "report.html"
        path.write_text(told)
        browser.said.clear()
        browser.asked.clear()
        browser.open(path, fragment, width=width, dark=dark)
        browser.until(f"{MAP}.dataset.drawn")
        assert browser.said == []
        return browser

    return show


def middle(browser) -> tuple[float, float]:
    x, y, wide, high = browser.value(
        f"(() => {{ {MAP}.scrollIntoView({{block: 'center'}}); const box = {MAP}.getBoundingClientRect();"
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    return x + wide / 2, y + high / 2


def drawn(browser) -> int:
    """Cells in the last picture, once what was asked for is drawn."""
    frame = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
    browser.value(f"{frame}.then(() => {frame})")
    return int(browser.value(f"{MAP}.dataset.drawn"))


def colours(browser) -> set[str]:
    """Names of the style sheet's colours that the picture has."""
    return set(browser.value(COLOURS))


def test_a_hundred_thousand_cells_are_drawn_without_a_word_and_without_a_request(show):
    browser = show(n_cells=MANY, obs={"sample": ["a", "b"] * (MANY // 2)})
    assert drawn(browser) == MANY
    assert [url for url in browser.asked if not url.startswith(("file:", "about:"))] == []
    assert int(browser.value(f"{MAP}.dataset.ms")) < 2000
    browser.press("+")
    assert browser.said == []


def test_the_address_and_the_list_choose_the_colour(show):
    browser = show("#colour=confidence", obs={"sample": ["a", "b"] * 30})
    assert browser.value(f"{MAP}.dataset.colour") == "confidence"
    assert browser.value("document.querySelector('#legend .scale') !== null")
    by_confidence = browser.value(f"{MAP}.toDataURL()")
    browser.value("choice.value = 'sample'; choice.dispatchEvent(new Event('change'))")
    drawn(browser)
    assert browser.value(f"{MAP}.dataset.colour") == "sample"
    assert browser.value("location.hash") == "#colour=sample"
    assert browser.value("[...document.querySelectorAll('#legend .word')].map((one) => one.innerText)") == ["a", "b"]
    assert browser.value(f"{MAP}.toDataURL()") != by_confidence
    assert colours(browser) == {"c0", "c1"}


def test_pointing_at_a_cell_tells_its_name_and_values(show):
    browser = show(obs={"sample": "s-1"})
    browser.mouse("mouseMoved", middle(browser))
    told = browser.value(f"{TOLD}.innerText").split("\n")
    assert told[:2] == ["cell-0", "label: T cell"]
    assert told[2].startswith("confidence: 0.")
    assert told[3] == "sample: s-1"
    browser.mouse("mouseMoved", (middle(browser)[0] + 80, middle(browser)[1]))
    assert browser.value(f"{TOLD}.hidden")


def test_a_name_in_the_legend_shows_its_cells_alone(show):
    browser = show()
    assert colours(browser) == {"c0", "c1", "unknown"}
    browser.value("document.querySelector('#legend button').click()")  # B cell: as many as T cells, and before them
    assert drawn(browser) == 60
    assert colours(browser) == {"c0", "faint"}
    browser.mouse("mouseMoved", middle(browser))
    assert browser.value(f"{TOLD}.hidden")  # the cell in the middle is a T cell
    browser.value("document.querySelector('#legend .all').click()")
    drawn(browser)
    assert colours(browser) == {"c0", "c1", "unknown"}


def test_keys_and_buttons_move_the_map(show):
    browser = show()
    browser.value(f"{MAP}.focus()")
    for _ in range(3):
        browser.press("+")
    assert drawn(browser) == 1  # the one in the middle
    browser.press("0")
    assert drawn(browser) == 60
    browser.value("document.getElementById('closer').click()")
    browser.press("ArrowLeft")
    assert 1 < drawn(browser) < 60
    browser.value("document.getElementById('home').click()")
    assert drawn(browser) == 60


def test_the_wheel_zooms_only_what_was_clicked(show):
    browser = show()
    place = middle(browser)
    browser.mouse("mouseWheel", place, deltaX=0, deltaY=-200)
    assert drawn(browser) == 60
    place = middle(browser)
    browser.click(place)
    for _ in range(2):
        browser.mouse("mouseWheel", place, deltaX=0, deltaY=-200)
    assert drawn(browser) < 60


def test_dragging_takes_cells_out_of_sight(show):
    browser = show()
    x, y = middle(browser)
    browser.mouse("mousePressed", (x, y), button="left", clickCount=1)
    browser.mouse("mouseMoved", (x + 150, y), button="left")
    browser.mouse("mouseMoved", (x + 350, y), button="left")
    browser.mouse("mouseReleased", (x + 350, y), button="left", clickCount=1)
    assert 0 < drawn(browser) < 60


def test_a_phone_taps_and_pinches(show):
    browser = show(width=390)
    x, y = middle(browser)
    browser.touch("touchStart", (x, y))
    browser.touch("touchEnd")
    browser.until(f"!{TOLD}.hidden")
    assert browser.value(f"{TOLD}.innerText").startswith("cell-0\n")
    browser.touch("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 9):
        browser.touch("touchMove", (x - 20 - 10 * step, y), (x + 20 + 10 * step, y))
    browser.touch("touchEnd")
    assert drawn(browser) < 60


def test_light_and_dark_change_under_an_open_page(show):
    browser = show()
    light = browser.value(f"{MAP}.toDataURL()")
    browser.theme(dark=True)
    drawn(browser)
    assert browser.value(f"{MAP}.toDataURL()") != light


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_wider_than_the_window(show, width):
    long = "a-label-that-nobody-breaks" * 8
    browser = show(
        width=width,
        labels=[long, "words that are long " * 10, "unknown"],
        names=[f"{long}{row}" for row in range(60)],
        obs={"sample": [f"{long}{row % 5}" for row in range(60)]},
        colour=("sample",),
    )
    browser.value("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert browser.value("document.documentElement.scrollWidth") <= width
    wide = browser.value(
        "[...document.querySelectorAll('body *')].filter((one) => !one.closest('.wide') && !one.hidden"
        f" && one.getBoundingClientRect().right > {width}).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_names_from_the_file_are_text_everywhere(show):
    names = [f"{EVIL}{row}" for row in range(60)]
    browser = show(labels=[EVIL, "</script>", "\u2028&amp;"], names=names, obs={"sample": EVIL})
    browser.mouse("mouseMoved", middle(browser))
    assert browser.value(f"{TOLD}.innerText").startswith(f"{EVIL}0\nlabel: {EVIL}\n")
    assert browser.value("document.querySelectorAll('script').length") == 2
    words = browser.value("[...document.querySelectorAll('#legend .word')].map((one) => one.textContent)")
    assert sorted(words) == sorted([EVIL, "</script>", "\u2028&amp;"])
    assert browser.said == []


def test_a_file_without_labels_or_samples_is_drawn_in_one_colour(show):
    browser = show(labels=None)
    assert drawn(browser) == 60
    assert colours(browser) == {"c0"}
