"""What a request may say, and what it is told where it does not."""

import json
import math

import numpy as np
import pytest

from scgpt_infer.server.calls.bodies import CellAsked, body_of
from scgpt_infer.server.calls.cells import cells_of
from scgpt_infer.server.calls.reading import MOST_MEMBERS, read
from scgpt_infer.server.refusals import BadRequest, NotFound, TooLarge, Unprocessable

CELL = {"genes": {"LYZ": 1}}


@pytest.mark.parametrize(
    ("task", "body", "said"),
    [
        ("impute", {"cells": [CELL]}, "genes"),
        ("impute", {"cells": [CELL], "genes": ["LYZ"], "hide": "all"}, r"\$\.hide"),
        ("impute", {"cells": [CELL], "genes": ["LYZ"], "hid": "each"}, "unknown field `hid`.*predict_from"),
        ("integrate", {"cells": [CELL, {"genes": {"LYZ": "1"}}]}, r"\$\.cells\[1\]\.genes"),
        ("integrate", {"cells": {"a": CELL}}, r"\$\.cells"),
        ("integrate", {"cells": [{**CELL, "obs": {"day": 3}}]}, r"\$\.cells\[0\]\.obs"),
        ("genes", {"min_cells": 1.5}, r"\$\.min_cells"),
        ("perturb", {"cells": [CELL], "perturbations": ["LYZ"], "truth_cells": "/etc/passwd"}, "unknown field"),
        ("grn", {"model": 3}, r"\$\.model"),
    ],
)
def test_a_body_that_is_wrong_is_told_where(task, body, said):
    with pytest.raises(Unprocessable, match=said):
        body_of(task, body)
    with pytest.raises(Unprocessable, match=said):
        read(task, json.dumps(body).encode(), 9, 9)


def test_there_are_no_other_tasks():
    with pytest.raises(NotFound, match="impute, perturb"):
        body_of("embed", {})


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"cells": [{"genes": {"LYZ": 1, "CD3D": 1, "LYZ": 1}}]}', "LYZ"),
        (r'{"cells": [{"genes": {"LYZ": 1, "\u004cYZ": 2}}]}', "LYZ"),
        ('{"cells": [{"genes": ["LYZ"], "values": [1], "genes": ["CD3D"]}]}', "genes"),
        ('{"cells": [{"genes": {"LYZ": 1}, "obs": {"day": "1", "day": "2"}}]}', "day"),
        ('{"cells": [], "model": "a", "model": "b"}', "model"),
    ],
)
def test_what_stands_twice_in_an_object_is_refused_and_a_gene_of_a_list_is_not(text, twice):
    with pytest.raises(Unprocessable, match=f"'{twice}' twice in an object; give it once"):
        read("integrate", text.encode(), 9, 9)
    assert read("integrate", b'{"cells": [{"genes": ["LYZ", "LYZ"], "values": [1, 2]}]}', 9, 9).cells


@pytest.mark.parametrize("text", [b"", b"{", b'{"only": ["\xff"]}', b'{"only": ["\\ud800"]}', b"[" * 100_000])
def test_what_is_no_json_is_told(text):
    with pytest.raises((BadRequest, Unprocessable), match=r"JSON|Expected"):
        read("genes", text, 9, 9)


@pytest.mark.parametrize(
    ("task", "cells", "said"),
    [
        ("integrate", [CELL] * 3, "more than 2 cells"),
        ("integrate", [{"genes": {"A": 1, "B": 1, "C": 1, "D": 1}}], r"cells\[0\] has more than 3 values"),
        ("multiomic", [{"modalities": {"RNA": {"A": 1, "B": 2}, "ATAC": {"C": 1, "D": 1}}}], "more than 3 values"),
    ],
)
def test_limits_hold(task, cells, said):
    with pytest.raises(TooLarge, match=said):
        read(task, json.dumps({"cells": cells}).encode(), 2, 3)


def test_a_body_of_too_many_members_is_not_read_at_all():
    with pytest.raises(TooLarge, match="more than 2,000,000 names and values"):
        read("genes", b"," * (MOST_MEMBERS + 1), 9, 9)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([], "cells is empty"),
        ([{"genes": {}}, {"genes": [], "values": []}], "No cell has a gene"),
        ([CELL, {"genes": ["A", "B"], "values": [1]}], r"cells\[1\] has 2 genes and 1 values"),
        ([{"genes": ["A"]}], "1 genes and 0 values"),
        ([{**CELL, "values": [1]}], "in genes and beside them"),
    ],
)
def test_cells_that_cannot_be_are_told_which(cells, said):
    with pytest.raises(Unprocessable, match=said):
        cells_of(body_of("integrate", {"cells": cells}).cells)


def test_cells_become_a_matrix():
    cells = [
        CellAsked(genes={"B": 2.0, "A": 1.0}, cell="x", obs={"day": "1"}),
        CellAsked(genes=["A", "A", "C"], values=[3, 4, 5], cell="x"),
        CellAsked(genes={"C": 1e300, "D": 0.0}),
    ]
    found = cells_of(cells, ["D", "A", "D"])
    assert found.var_names.tolist() == ["D", "A", "B", "A", "C"]  # a gene that stands twice is two columns
    expected = [[0, 1, 2, 0, 0], [0, 3, 0, 4, 5], [0, 0, 0, 0, math.inf]]
    np.testing.assert_array_equal(found.X.toarray(), np.array(expected, np.float32))
    assert found.obs_names.tolist() == ["x", "x", "2"]  # names need not differ
    assert found.obs["day"].tolist() == ["1", None, None]
