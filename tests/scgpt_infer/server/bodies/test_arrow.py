"""Cells as Arrow: read alike whatever the layout, and refused where a stream is damaged, odd or would inflate."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scgpt_infer.server.bodies.arrow import read
from scgpt_infer.server.genes import GeneTable
from scgpt_infer.server.refusals import BadRequest, Refusal, TooLarge, Unprocessable
from scgpt_runtime.vocab import Vocabulary

VOCABULARY = Vocabulary(("CD3D", "LYZ", "<pad>", "naïve"), ensembl={"ENSG00000167286": 0})
GENES = GeneTable.of(VOCABULARY)
CELLS = [["CD3D", "unknown"], [], ["LYZ", "CD3D", "naïve"], ["ENSG00000167286.3"]]
VALUES = [[1.0, 2.0], [], [0.5, 0.25, np.inf], [4.0]]
TOKENS = [0, -1, 1, 0, 3, 0]


def stream(columns, options=None, rows_of_a_batch=None) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, rows_of_a_batch)
    return sink.getvalue()


def column(values, kind):
    return pa.array(values, kind)


def cells_of(body, max_cells=8, max_genes=100):
    return read(body, max_cells, max_genes).cells(GENES)


def dictionary(cells, words, index=np.int32):
    offsets = np.cumsum([0, *map(len, cells)]).astype(np.int32)
    places = np.array([words.index(name) for cell in cells for name in cell], index)
    return pa.ListArray.from_arrays(offsets, pa.DictionaryArray.from_arrays(places, words))


GENE_COLUMNS = [
    column(CELLS, pa.list_(pa.string())),
    column(CELLS, pa.large_list(pa.string())),
    column(CELLS, pa.list_(pa.large_string())),
    column([[], *CELLS], pa.list_(pa.string())).slice(1),
    dictionary(CELLS, ["CD3D", "ENSG00000167286.3", "LYZ", "naïve", "unknown"]),
    dictionary(
        CELLS, [*(f"far-{i}" for i in range(90)), "CD3D", "unknown", "LYZ", "naïve", "ENSG00000167286.3"], np.int8
    ),
]
VALUE_COLUMNS = [
    column(VALUES, pa.list_(pa.float32())),
    column(VALUES, pa.large_list(pa.float64())),
    column([[9.0], *VALUES], pa.list_(pa.float32())).slice(1),
]


@pytest.mark.parametrize("rows", [None, 1, 3])
@pytest.mark.parametrize("genes", GENE_COLUMNS)
@pytest.mark.parametrize("values", VALUE_COLUMNS)
def test_every_layout_gives_the_same_cells(genes, values, rows):
    found = cells_of(stream({"genes": genes, "values": values, "cell": ["a", None, "ü", "d"]}, None, rows))
    assert found.indptr.tolist() == [0, 2, 2, 5, 6]
    assert found.tokens.tolist() == TOKENS
    assert found.values.tolist() == [1, 2, 0.5, 0.25, np.inf, 4]
    assert found.names == ("a", "1", "ü", "d")
    assert found.tokens.dtype == np.int32
    assert found.values.dtype == np.float32


def test_whole_numbers_are_values_too():
    body = stream({"genes": [["CD3D", "LYZ"]], "values": column([[3, 2**40]], pa.list_(pa.int64()))})
    assert cells_of(body).values.tolist() == [3, 2**40]


PLAIN = {"genes": column(CELLS, pa.list_(pa.string())), "values": column(VALUES, pa.list_(pa.float32()))}
TEXTS, NUMBERS = pa.list_(pa.string()), pa.list_(pa.float32())
ENCODED = pa.ListArray.from_arrays([0, 2, 2, 2, 2], pa.RunEndEncodedArray.from_arrays([2], ["CD3D"]))
WRONG = [
    ({"genes": PLAIN["genes"]}, Unprocessable, "has columns genes"),
    ({**PLAIN, "more": [1, 2, 3, 4]}, Unprocessable, "has columns genes, values, more"),
    ({**PLAIN, "genes": ["a", "b", "c", "d"]}, Unprocessable, "column genes is string"),
    ({**PLAIN, "genes": column([[["a"]]] * 4, pa.list_(TEXTS))}, Unprocessable, "column genes is list<item: list"),
    ({**PLAIN, "genes": column([[["a"]]] * 4, pa.list_(pa.list_(pa.string(), 1)))}, Unprocessable, "column genes is"),
    ({**PLAIN, "genes": ENCODED}, Unprocessable, "column genes is list<item: run_end_encoded"),
    ({**PLAIN, "values": column([["1"]] * 4, TEXTS)}, Unprocessable, r"column values is list<item: string>"),
    ({**PLAIN, "cell": [1, 2, 3, 4]}, Unprocessable, "column cell is int64"),
    ({"genes": column([], TEXTS), "values": column([], NUMBERS)}, Unprocessable, "no rows"),
    ({**PLAIN, "genes": column([[], [], None, []], TEXTS)}, Unprocessable, "genes of row 2 is null"),
    ({**PLAIN, "genes": column([["a", None], [], ["b"] * 3, ["c"]], TEXTS)}, Unprocessable, "null in a list"),
    ({**PLAIN, "values": column([[1], [], [1, 2, 3], [4]], NUMBERS)}, Unprocessable, "Row 0 has 2 genes and 1 values"),
    ({"genes": column([[]] * 9, TEXTS), "values": column([[]] * 9, NUMBERS)}, TooLarge, "more than 8 cells"),
    ({"genes": [["a"] * 101], "values": column([[1] * 101], NUMBERS)}, TooLarge, "Row 0 has more than 100 values"),
]


@pytest.mark.parametrize(("columns", "refusal", "message"), WRONG)
def test_what_is_wrong_is_told_with_its_place(columns, refusal, message):
    with pytest.raises(refusal, match=message):
        cells_of(stream(columns))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_buffers_that_inflate_are_refused(codec):
    large = {"genes": dictionary([["CD3D"] * 1000], ["CD3D"]), "values": column([[1.0] * 1000], NUMBERS)}
    with pytest.raises(Unprocessable, match="compressed buffers"):
        read(stream(large, pa.ipc.IpcWriteOptions(compression=codec)), 8, 10_000)


def test_dictionaries_that_are_added_to_are_refused():
    """Each batch would have a copy of its own of all words."""
    batches = [dictionary([["CD3D"]], ["CD3D", "LYZ", "more", "and more"][:n]) for n in (3, 4)]
    tables = [pa.table({"genes": genes, "values": column([[1.0]], NUMBERS)}) for genes in batches]
    for deltas in (True, False):
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        with pa.ipc.new_stream(sink, tables[0].schema, options=options) as writer:
            for table in tables:
                writer.write_table(table)
        if deltas:
            with pytest.raises(Unprocessable, match="a dictionary that is added to"):
                cells_of(sink.getvalue())
    assert cells_of(sink.getvalue()).tokens.tolist() == [0, 0]


def test_batches_that_share_their_words_are_checked_alike():
    """The words themselves are read once; places among them are checked in each batch."""
    words = [f"gene-{i}" for i in range(300)] + ["CD3D"]
    columns = {
        "genes": dictionary([["CD3D"], ["gene-7", "CD3D"]] * 2, words),
        "values": column([[1], [2, 3]] * 2, NUMBERS),
    }
    body = stream(columns, None, 1)
    assert cells_of(body).tokens.tolist() == [0, -1, 0, 0, -1, 0]
    last = body.rindex(np.array([7, 300], np.int32).tobytes())
    for place in (-1, 301):
        wrong = np.array([7, place], np.int32).tobytes()
        with pytest.raises(BadRequest, match="cannot be read"):
            cells_of(body[:last] + wrong + body[last + 8 :])
    last = body.rindex(np.array([0, 2], np.int32).tobytes(), 0, last)
    with pytest.raises(BadRequest, match="cannot be read"):
        cells_of(body[:last] + np.array([0, 9], np.int32).tobytes() + body[last + 8 :])
    more = {"genes": dictionary([["LYZ"]], ["LYZ"]), "values": column([[1]], NUMBERS)}
    table = pa.concat_tables([pa.table(columns), pa.table(more), pa.table(columns).slice(0, 2)])
    assert cells_of(stream(table, None, 1)).tokens.tolist() == [0, -1, 0, 0, -1, 0, 1, 0, -1, 0]


def test_a_file_or_text_is_no_stream():
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, pa.table(PLAIN).schema) as writer:
        writer.write_table(pa.table(PLAIN))
    for body in (b"", b"ARROW1", sink.getvalue(), b'{"cells": []}'):
        with pytest.raises(BadRequest, match="cannot be read as an Arrow IPC stream"):
            cells_of(body)


WHOLE_STREAM, END = stream(PLAIN, None, 2), b"\xff\xff\xff\xff\0\0\0\0"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (WHOLE_STREAM + WHOLE_STREAM, "something lies behind its end"),
        (WHOLE_STREAM + b"junk", "something lies behind its end"),
        (WHOLE_STREAM.removesuffix(END), "no mark of its end"),
    ],
)
def test_no_row_is_dropped_in_silence(body, message):
    with pytest.raises(BadRequest, match=message):
        cells_of(body)


def test_a_stream_of_the_former_format_ends_with_its_own_mark():
    body = stream(PLAIN, pa.ipc.IpcWriteOptions(use_legacy_format=True))
    assert cells_of(body).tokens.tolist() == TOKENS


WHOLE = stream({**PLAIN, "cell": ["a", "b", "c", "d"]})
WITH_WORDS = stream({**PLAIN, "genes": GENE_COLUMNS[4]})


@given(
    st.sampled_from([WHOLE, WITH_WORDS]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.integers(0, 10**6),
)
def test_damage_is_refused_or_harmless(body, changes, cut):
    damaged = bytearray(body)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    try:
        found = cells_of(bytes(damaged[: cut % (2 * len(damaged)) + 1]))
    except Refusal:
        return
    assert found.indptr[-1] == len(found.tokens) == len(found.values)
    assert found.tokens.max(initial=-1) < len(VOCABULARY)
