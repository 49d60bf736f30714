"""The page says what was found, stands alone, and takes nothing that it shows for HTML."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from scgpt_infer.report import page as module
from scgpt_infer.report.finding import ReportOptions, find
from scgpt_infer.report.page import page
from scgpt_infer.report.reading import EmbeddedFile

EVIL = "<script>alert(1)</script>"
PLACES = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
VOID = ("meta", "rect", "path", "br")


class Read(HTMLParser):
    """Checks that every tag is closed, and keeps what was seen."""

    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.said, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.said).split())


def read(told):
    found = Read()
    found.feed(told)
    assert found.open == []
    return found


@pytest.fixture
def told(write):
    """The page of a file."""

    def told(options=None, **what):
        with EmbeddedFile(write(**{"obsm": {"X_umap": PLACES}} | what)) as file:
            return page(find(file, ReportOptions(umap_key="X_umap", **options or {})))

    return told


def test_it_loads_nothing_and_forbids_it(told):
    text = told(obs={"sample": "s"})
    outside = text.replace("www.w3.org", "")
    for reference in ("http:", "https:", "url(", "@import", "<link", "<img", "src=", "href=", "fetch(", "import("):
        assert reference not in outside, reference
    (policy,) = [value for _, name, value in read(text).attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-eval" not in policy


def test_figures_are_told_in_words(told):
    text = read(told(obs={"sample": ["a", "b"] * 30}, without=(0, 1, 2))).text
    for words in (
        "57 cells that have a vector",
        "T cell 19 33.3 %",
        "Where the best label is less sure than 0.5, it is unknown.",
        "Composition by sample",
        "1,500 of 2,000 are known to the model (75.0 %), 500 are not",
        "layers/counts, whole numbers",
        "3 (5.0 %). Their rows are NaN",
        "toy, vectors 8 wide",
        "0123456789abcdef",
        "cpu, fp32",
        "classifier; unknown below 0.5",
        "weights_sha256 " + "ab" * 32,
    ):
        assert words in text, words


def test_a_file_that_is_only_embedded_says_how_labels_come(told):
    text = read(told(labels=None)).text
    assert "scgpt-infer annotate" in text
    assert "Composition" not in text
    assert "Model toy" in text


def test_a_file_that_does_not_tell_its_origin_says_so(told):
    text = read(told(record=None)).text
    assert "does not tell what made the embedding" in text
    assert "Vector id" not in text


def test_a_sample_of_the_cells_is_stated(told):
    assert "20 of 60 cells, spread evenly over the file" in read(told({"max_cells": 20})).text


def test_what_does_not_fit_the_record_is_said(told):
    record = {"n_cells": 100, "key": "X_other", "incomplete": "a GPU was lost"}
    text = read(told({"key": "X_scGPT"}, record=record)).text
    assert "the run that made the embedding had 100 cells, it has 60" in text
    assert "This tells of obsm['X_other']" in text
    assert "a GPU was lost" in text


def test_names_from_the_file_are_never_html(told):
    labels = [EVIL, "</script>", "a\"b'c&d"]
    key = EVIL.replace("/", "")  # anndata will have no slash in one
    record = {"model": EVIL, "dim": 8, key: EVIL, "n_cells": EVIL, "n_genes": EVIL, "n_matched": 1}
    text = told(
        {"by": ("sample",), "colour": (key,)},
        name=f"{key}.h5ad",
        labels=labels,
        names=[f"{EVIL}{row}" for row in range(60)],
        obs={"sample": [f"{EVIL}{row % 3}" for row in range(60)], key: np.arange(60)},
        record=record,
    )
    found = read(text)
    assert len(found.scripts) == 2  # the cells' JSON and the page's own
    assert "alert(1)" not in found.scripts[1]
    assert "<" not in found.scripts[0]
    assert f"{EVIL} 20 33.3 %" in found.text
    assert {name for _, name, value in found.attributes if "alert" in (value or "")} <= {"title", "aria-label"}


def test_the_script_that_may_run_is_the_one_in_the_page(told):
    text = told()
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_more_samples_than_a_page_can_show_are_summed(told, monkeypatch):
    monkeypatch.setattr(module, "MOST_GROUPS", 2)
    text = read(told(obs={"sample": ["big"] * 30 + ["small"] * 20 + ["tiny"] * 6 + ["least"] * 4})).text
    assert "big 30 small 20 2 smaller ones 10" in text


def test_shares_fill_their_bar(told):
    text = told(obs={"sample": ["a", "b"] * 30}, without=(0, 2))
    for stack in re.findall(r'<span class="stack".*?</span>', text):
        assert sum(map(float, re.findall(r"width:([\d.]+)%", stack))) == pytest.approx(100, abs=0.01)
