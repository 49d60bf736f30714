"""Cells as JSON: read as Python reads them, whatever their form, and refused with the place of what is wrong."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scgpt_infer.server.bodies.json import read
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.refusals import BadRequest, TooLarge, Unprocessable
from scgpt_runtime.vocab import Vocabulary

VOCABULARY = Vocabulary(("CD3D", "LYZ", "<pad>", 'quo"te', "naïve"), ensembl={"ENSG00000167286": 0})
GENES = GeneTable.of(VOCABULARY)
NAMES = (*VOCABULARY.tokens, "ENSG00000167286.4", "unknown")


def cells_of(body, task="embed", max_cells=8, max_genes=1000):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(text, task, max_cells, max_genes).cells(GENES)


names = st.sampled_from(NAMES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30) | st.floats(0, 12)
columns = st.lists(st.tuples(names, numbers), max_size=12)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(st.lists(columns, min_size=1, max_size=4), layouts)
def test_cells_are_what_python_reads(cells, layout):
    lists = [{"genes": [name for name, _ in cell], "values": [value for _, value in cell]} for cell in cells]
    objects = [{"cell": f"c{row}", "genes": dict(cell)} for row, cell in enumerate(cells)]
    for told, expected in ((lists, cells), (objects, [list(dict(cell).items()) for cell in cells])):
        found = cells_of(json.dumps({"cells": told}, **layout).encode())
        flat = [column for cell in expected for column in cell]
        assert found.indptr.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
        np.testing.assert_array_equal(found.tokens, GENES.tokens_of([name for name, _ in flat]))
        with np.errstate(over="ignore"):
            values = np.array([float(value) for _, value in flat], np.float64).astype(np.float32)
        assert found.values.tobytes() == values.tobytes()
    assert cells_of({"cells": objects}).names == tuple(f"c{row}" for row in range(len(cells)))


@pytest.mark.parametrize(
    "number", ["1e-45", "1e400", "-0", "-0.0", "1e39", "3.4028236e38", "1" * 5000, "0." + "3" * 40]
)
def test_numbers_at_the_ends_of_float32_are_the_nearest_ones(number):
    found = cells_of(b'{"cells": [{"genes": {"CD3D": %s}}]}' % number.encode())
    with np.errstate(over="ignore"):
        assert found.values.tobytes() == np.array([float(number)]).astype(np.float32).tobytes()


def test_a_name_that_stands_twice_is_two_columns():
    plain = b'{"cells": [{"genes": {"CD3D": 1, "CD3D": 2}}, {"genes": {"CD\\u0033D": 1, "CD3D": 2}}]}'
    found = cells_of(plain)
    assert found.tokens.tolist() == [0, 0, 0, 0]
    assert found.values.tolist() == [1, 2, 1, 2]


def test_cells_without_a_name_among_named_ones_are_numbered():
    assert cells_of({"cells": [{"genes": {}}, {"cell": "b", "genes": {}}]}).names == ("0", "b")
    assert cells_of({"cells": [{"genes": {}}, {"genes": {}}]}).names == ()


WRONG = [
    (b"", BadRequest, "cannot be read as JSON"),
    (b"{", BadRequest, "cannot be read as JSON"),
    (b'{"cells": [{"genes": {"CD3D": NaN}}]}', BadRequest, "invalid character"),
    (b'{"cells": [{"genes": {"\xff": 1}}]}', BadRequest, "0xff"),
    (b'{"cells": [{"genes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", BadRequest, "recursion"),
    (b'{"cells": [{"genes": {"CD3D": 1}}], "cells": [{"genes": {}}]}', Unprocessable, "'cells' twice"),
    (b'{"cells": [{"genes": {}}], "c\\u0065lls": [{"genes": {}}]}', Unprocessable, "'cells' twice"),
    (b'{"cells": [{"genes": {}}, {"genes": {"CD3D": 1}, "genes": {}}]}', Unprocessable, "'genes' twice"),
    (b'{"cells": [{"values": [1], "genes": ["CD3D"], "values": [2]}]}', Unprocessable, "'values' twice"),
    (b'{"model": "a", "cells": [{"genes": {}}], "model": "b"}', Unprocessable, "'model' twice"),
    ([], Unprocessable, "Expected `object`, got `array`"),
    ({}, Unprocessable, "missing required field `cells`"),
    ({"cells": []}, Unprocessable, "cells is empty"),
    ({"cells": [{"genes": {}}, {"values": []}]}, Unprocessable, r"`genes` - at `\$.cells\[1\]`"),
    ({"cells": [{"genes": {}, "extra": 1}]}, Unprocessable, "unknown field `extra`"),
    ({"cells": [{"genes": {}}], "top": 3}, Unprocessable, "unknown field `top`"),
    ({"cells": [{"genes": {}, "cell": 1}]}, Unprocessable, "Expected `str`, got `int`"),
    ({"cells": [{"genes": 1}]}, Unprocessable, r"cells\[0\].genes is 1"),
    ({"cells": [{"genes": {}}, {"genes": {"CD3D": "2"}}]}, Unprocessable, r"cells\[1\] has \"2\" for the gene 'CD3D'"),
    ({"cells": [{"genes": {"CD3D": None}}]}, Unprocessable, "has null for the gene"),
    ({"cells": [{"genes": {"CD3D": True}}]}, Unprocessable, "has true for the gene"),
    ({"cells": [{"genes": {"CD3D": {}}}]}, Unprocessable, "has an object for the gene"),
    ({"cells": [{"genes": ["CD3D"]}]}, Unprocessable, "list of genes and no values"),
    ({"cells": [{"genes": ["CD3D"], "values": []}]}, Unprocessable, "has 1 genes and 0 values"),
    ({"cells": [{"genes": ["CD3D"], "values": {"a": 1}}]}, Unprocessable, "values is an object"),
    ({"cells": [{"genes": ["CD3D"], "values": 1}]}, Unprocessable, "values is 1"),
    ({"cells": [{"genes": [1], "values": [1]}]}, Unprocessable, "genes has 1"),
    ({"cells": [{"genes": {"CD3D": 1}, "values": [1]}]}, Unprocessable, "values again"),
    ({"cells": [{"genes": {}}] * 9}, TooLarge, "more than 8 cells"),
    (b'{"cells": [' + b'{"genes":{}},' * 1000, TooLarge, "more than 8 cells"),
    ({"cells": [{"genes": {}}, {"genes": ["a"] * 1001, "values": [1] * 1001}]}, TooLarge, r"cells\[1\] has more than"),
    ({"cells": [{"genes": ["\n"] * 1001, "values": [1] * 1001}]}, TooLarge, r"cells\[0\] has more than"),
    ({"cells": [{"genes": [[]] * 5000, "values": []}]}, TooLarge, r"cells\[0\] has more than"),
]


@pytest.mark.parametrize(("body", "refusal", "message"), WRONG)
def test_what_is_wrong_is_told_with_its_place(body, refusal, message):
    with pytest.raises(refusal, match=message):
        cells_of(body)


def test_annotate_has_options_and_embed_has_none():
    body = b'{"cells": [{"genes": {}}], "model": "demo", "top": 2, "unknown_below": 0.5, "with_vectors": true}'
    told = {"model": "demo", "top": 2, "unknown_below": 0.5, "with_vectors": True}
    assert read(body, "annotate", 8, 8).said == told


@given(
    st.lists(st.tuples(st.text("aZ9.é𝔊 :{}[],'", max_size=40), st.floats(0, 99)), max_size=30),
    st.lists(st.sampled_from(["", " ", "\t", "\r\n", "    "]), min_size=4, max_size=4),
)
def test_names_end_where_they_end(cell, spaces):
    """Names of any length lie at any distance from the words that are read at a time."""
    before, colon, comma, after = spaces
    members = [f"{json.dumps(name, ensure_ascii=False)}{before}:{colon}{value!r}" for name, value in cell]
    body = f'{{"cells":[{{"genes":{{{before}{f"{after},{comma}".join(members)}{after}}}}}]}}'
    genes = GeneTable.of(Vocabulary(tuple({name: 0 for name, _ in cell})))
    found = read(body.encode(), "embed", 999, 30).cells(genes)
    np.testing.assert_array_equal(found.tokens, genes.tokens_of([name for name, _ in cell]))
    assert (found.tokens >= 0).all()
    np.testing.assert_array_equal(found.values, np.array([value for _, value in cell], np.float32))


def test_a_cell_of_as_many_values_as_are_allowed_is_read():
    for genes in (["a"] * 1000, ["a,b,[c"] * 1000, ["\n"] * 1000):
        assert cells_of({"cells": [{"genes": genes, "values": [1] * 1000}]}).indptr.tolist() == [0, 1000]
