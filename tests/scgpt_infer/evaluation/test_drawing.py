"""The picture of a confusion matrix: a PNG of its own size, for any names, and nothing of matplotlib's is changed."""

import sys

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from scgpt_infer.evaluation import Confusion, confusion_png
from scgpt_runtime.errors import MissingDependencyError


def drawn(confusion: Confusion, folder, title: str = "") -> np.ndarray:
    (folder / "x.png").write_bytes(confusion_png(confusion, title))
    return matplotlib.image.imread(folder / "x.png")


def diagonal(n: int) -> Confusion:
    names = tuple(f"type {i}" for i in range(n))
    return Confusion(names, (*names, "unknown"), tuple(tuple(map(int, row)) for row in 9 * np.eye(n, n + 1)))


def test_it_grows_with_the_labels_so_that_counts_stay_readable(tmp_path):
    small, large = drawn(diagonal(5), tmp_path), drawn(diagonal(30), tmp_path)
    assert large.shape[0] > 30 * 40  # pixels a field
    assert large.shape[1] > 31 * 40
    assert small.shape[0] < large.shape[0] / 2


def test_the_darkest_fields_are_those_of_the_largest_shares(tmp_path):
    one = Confusion(("a", "b"), ("a", "b"), ((0, 5), (1000, 0)))
    other = Confusion(("a", "b"), ("a", "b"), ((5, 0), (0, 1000)))
    left, right = drawn(one, tmp_path), drawn(other, tmp_path)
    height, width = left.shape[0] // 4, left.shape[1] // 4
    corner = np.s_[height // 2 : height, width : width + width // 4]  # inside of the first field
    assert left[corner].mean() > right[corner].mean() + 0.1


def test_names_that_are_no_plain_words_are_drawn(tmp_path):
    names = ("CD4+ $\\frac{", "two\nlines", "細胞", "x" * 500, "")
    counts = tuple((1, 2, 3, 4, 12_345_678) for _ in names)
    image = drawn(Confusion(names, names, counts), tmp_path, "title with $ and 細胞")
    assert max(image.shape) < 2000


def test_the_same_counts_give_the_same_bytes():
    assert confusion_png(diagonal(4), "title") == confusion_png(diagonal(4), "title")


def test_matplotlib_is_left_as_it_was():
    before, pyplot = dict(mpl.rcParams), "matplotlib.pyplot" in sys.modules
    confusion_png(diagonal(3))
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_without_matplotlib_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[annotate\]"'):
        confusion_png(diagonal(2))
