"""The page as a browser shows it: a file goes in, its report comes out, and nothing of a stranger's gets further."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anndata as ad
import h5py
import pytest

from headless import Visit, visit
from scgpt_infer import demo
from scgpt_infer.server.front import jobs, native, page
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.keys import Keys
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.records import Ended, Made, Progress, Submitted
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.conftest import Running
from tests.scgpt_infer.server.fake_desk import FakeDesk
from tests.scgpt_infer.server.served import served

pytestmark = pytest.mark.browser

KEY = "a-long-secret"
EVIL = "<img src=x onerror=alert(1)>.csv"
REPORT = """<!doctype html><title>Report</title><p id=told>a report</p>
<script>document.getElementById("told").textContent = "a report that draws"</script>"""
NAMES = """[...document.querySelectorAll('button, input, select')].filter((one) => one.checkVisibility())
    .every((one) => one.textContent.trim() || one.ariaLabel || one.labels?.length)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Visit]:
    with visit() as opened:
        yield opened


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """So few cells that their map needs no UMAP."""
    path = tmp_path / "pbmc <3>.h5ad"
    ad.read_h5ad(demo.CELLS)[:3].copy().write_h5ad(path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    """A job that is done, with a report."""
    store = JobStore(tmp_path / "jobs")
    job = store.submit(store.begin(), Submitted(JobAsked("demo", EVIL, report=True), "lab", 1.0))
    job.results.mkdir()
    (job.results / "a.report.html").write_text(REPORT)
    store.tell(job, Progress(3, 3))
    store.end(job, Ended("succeeded", time.time(), made=(Made("a.report.html", len(REPORT)),), summary={"n_cells": 3}))
    return store


@pytest.fixture
def locked(store: JobStore, tmp_path: Path) -> Iterator[str]:
    """A server without a model that answers to those with a key."""
    keys = tmp_path / "keys"
    keys.write_text(f"lab:{KEY}\n")
    settings = Settings((ModelAsked("demo", "demo"),), jobs_dir=store.root, ui=True, keys_file=keys)
    door = Door(FakeDesk(), settings)
    with served([*native.routes(door), *jobs.routes(door), *page.routes(door)], Keys(keys)) as host:
        yield f"http://{host}"


def show(browser: Visit, url: str, *, width: int = 1100, dark: bool = False) -> None:
    browser.said.clear()
    browser.asked.clear()
    browser.open(f"{url}/", width=width, dark=dark)


def text(browser: Visit, selector: str) -> str:
    return str(browser.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def cards(browser: Visit) -> list[str]:
    """Names in the list of files."""
    return list(browser.value("[...document.querySelectorAll('#jobs h3')].map((one) => one.innerText)"))


def press(browser: Visit, words: str) -> None:
    """Press the button that says so."""
    found = f"[...document.querySelectorAll('button')].find((one) => one.innerText.startsWith({json.dumps(words)}))"
    browser.until(f"{found} !== undefined")
    browser.value(f"{found}.click()")


def test_a_file_goes_in_and_its_report_and_result_come_out(
    browser: Visit, running: Running, three: Path, tmp_path: Path
):
    browser("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    show(browser, running.url)
    browser.until("!document.getElementById('send').hidden")
    assert browser.value("document.getElementById('task').value") == "annotate"
    assert browser.value(NAMES)
    browser.choose("#files", three)
    browser.until("document.querySelector('#jobs progress:not([hidden])') !== null")
    assert text(browser, "#jobs h3") == three.name
    browser.until("document.querySelector('iframe') !== null")
    assert text(browser, "#jobs .state") == "done"
    assert text(browser, "#jobs .facts").startswith("3 cells, 9")
    assert text(browser, "#said") == f"{three.name} is done."
    _until_framed(browser, "document.getElementById('map')?.dataset.drawn === '3'")
    assert browser.framed("document.querySelector('.tiles').innerText").startswith("3\ncells")
    assert browser.value(NAMES)
    press(browser, "Download pbmc_3.annotated.h5ad")
    made = tmp_path / "pbmc_3.annotated.h5ad"
    _until_there(made)
    with h5py.File(made) as file:
        assert len(file["obs/scgpt_label/codes"]) == 3
    press(browser, "Remove")
    browser.until("document.getElementById('report').hidden")
    assert three.name not in cards(browser)
    assert three.name not in [job["name"] for job in running.get("/v1/jobs")["jobs"]]
    assert browser.said == []
    hosts = {urlsplit(url).netloc for url in browser.asked}
    assert hosts - {""} == {urlsplit(running.url).netloc}


def test_a_refused_file_says_why_and_what_it_holds_is_text(browser: Visit, running: Running):
    show(browser, running.url)
    browser.until("!document.getElementById('send').hidden")
    drop = f"""(() => {{
        const held = new DataTransfer();
        held.items.add(new File(["\\x89PNG"], {json.dumps(EVIL)}));
        dispatchEvent(new DragEvent("drop", {{ dataTransfer: held, cancelable: true }}));
    }})()"""
    browser.value(drop)
    browser.until("document.querySelector('[data-state=failed]') !== null")
    assert text(browser, "#jobs h3") == EVIL
    assert text(browser, "#jobs .facts").startswith(EVIL)
    assert text(browser, "#said").startswith(f"{EVIL}: {EVIL} ")
    assert browser.value("document.querySelectorAll('main img').length") == 0
    assert [line for line in browser.said if "422" not in line] == []  # the browser tells of answers that are errors
    press(browser, "Remove")
    assert EVIL not in cards(browser)
    assert EVIL not in [job["name"] for job in running.get("/v1/jobs")["jobs"]]


def test_a_key_opens_the_page_and_is_shown_to_the_server_alone(browser: Visit, locked: str):
    show(browser, locked)
    browser.until("!document.getElementById('unlock').hidden")
    assert browser.value("document.getElementById('send').hidden && document.activeElement.id === 'key'")
    give = "document.getElementById('key').value = '{}'; document.querySelector('#unlock button').click()"
    browser.value(give.format("wrong"))
    browser.until("document.getElementById('said').innerText === 'This key is not known here.'")
    browser.value(give.format(KEY))
    browser.until("document.querySelector('[data-state=succeeded]') !== null")
    assert text(browser, "#jobs h3") == EVIL
    assert text(browser, "#jobs .facts") == "3 cells"
    press(browser, "Show report")
    _until_framed(browser, "document.getElementById('told')?.innerText === 'a report that draws'")
    assert not [url for url in browser.asked if KEY in url]
    assert [line for line in browser.said if "401" not in line] == []
    browser.value("sessionStorage.clear()")


def test_an_answer_that_comes_late_does_not_bring_back_what_is_gone(browser: Visit, locked: str, store: JobStore):
    show(browser, locked)
    browser.until("!document.getElementById('unlock').hidden")
    browser.value(f"document.getElementById('key').value = '{KEY}'; document.querySelector('#unlock button').click()")
    browser.until("document.querySelector('[data-state=succeeded]') !== null")
    browser.value("""(() => {
        const ask = fetch;
        window.fetch = async (...asked) => {
            window.fetch = ask;
            const answer = await ask(...asked);
            await new Promise((go) => { window.letGo = go; });
            return answer;
        };
        dispatchEvent(new Event("focus"));
    })()""")
    browser.until("window.letGo !== undefined")
    store.remove(store.all()[0])
    browser.value("dispatchEvent(new Event('focus'))")
    browser.until("document.querySelector('#jobs .card') === null")
    browser.value("letGo()")
    browser.value("new Promise((go) => setTimeout(go, 100))")
    assert cards(browser) == []
    browser.value("sessionStorage.clear()")


def test_a_report_reaches_neither_the_page_nor_the_network(browser: Visit, locked: str):
    show(browser, locked)
    browser.value(f"sessionStorage.setItem('scgpt-infer key', '{KEY}')")
    show(browser, locked)
    press(browser, "Show report")
    _until_framed(browser, "document.getElementById('told') !== null")
    tried = "(() => {{ try {{ {}; return 'reached'; }} catch (error) {{ return error.name; }} }})()"
    assert browser.framed(tried.format("parent.document.title")) == "SecurityError"
    assert browser.framed(tried.format("sessionStorage.length")) == "SecurityError"
    assert browser.framed("fetch('/v1/jobs').then(() => 'reached', (error) => error.name)") == "TypeError"
    browser.value("sessionStorage.clear()")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(browser: Visit, locked: str, dark: bool):
    show(browser, locked)
    browser.value(f"sessionStorage.setItem('scgpt-infer key', '{KEY}')")
    show(browser, locked, width=360, dark=dark)
    browser.until("document.querySelector('[data-state=succeeded]') !== null")
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 23, 29)" if dark else "rgb(255, 255, 255)"
    )
    browser.value("sessionStorage.clear()")


def _until_framed(browser: Visit, expression: str) -> None:
    end = time.monotonic() + 60
    while not browser.framed(expression):
        assert time.monotonic() < end, f"{expression} was not true; said: {browser.said}"
        time.sleep(0.02)


def _until_there(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not saved"
        time.sleep(0.02)
