"""Genes of requests find the tokens that the columns of a file find, however they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scgpt_infer.server.genes import GeneTable
from scgpt_runtime.vocab import Vocabulary, match

VOCABULARY = Vocabulary(
    (
        "CD3D",
        "MS4A1",
        "LYZ",
        "ENSG00000000003",
        "<pad>",
        "<cls>",
        "PIG",
        "naïve",
        "ACTB",
        "ENSG00000000003.9",
        "ENSG5.1",
    ),
    ensembl={"ENSG00000167286": 0, "ENSG00000156738": 1, "ENSG00000000003": 2, "ENSMUSG00000000001": 6, "odd": 5},
    aliases={
        "T3D": 0,
        "CD20": 1,
        "B1": 1,
        "LYZ": 0,
        "ENSG00000156738": 8,
        "ENSG00000167286.8": 8,
        "ENSG00000000009": 6,
    },
)
NAMES = [
    *VOCABULARY.tokens,
    *VOCABULARY.ensembl,
    *VOCABULARY.aliases,
    "ENSG00000167286.12",
    "ENSG00000000003.1",
    "ENSMUSG00000000001.3",
    "ENSG00000167286.",
    "ENSG00000167286.x",
    "ENSG0000016728.12",
    "ENSG000001672861.12",
    "ENSG00000182378.15_PAR_Y",
    "ENSG00000167286.12345678",
    "ENSG00000167286.1234567890123456789",
    "ENSG00000167286.12345678:",
    "ENSG00000167286.123456789/",
    "ENSG0000016728:.1",
    "ENSG0000000000/.9",
    "ENSG00000167286.٣",
    "ENSG00000000009.1",
    "ENSABCDEG00000000001.1",
    "ENSABCDEFG00000000001.1",
    "ENSABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "ENST00000167286.1",
    "ensg00000167286.1",
    "",
    "cd3d",
    "CD3D ",
]


def prefixed(names) -> bytes:
    return b"".join(len(name.encode()).to_bytes(4, "little") + name.encode() for name in names)


@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=20), max_size=30))
def test_a_name_is_found_as_the_columns_of_a_file_are(names):
    table = GeneTable.of(VOCABULARY)
    expected = match([name.replace("\ud800", "") for name in names], VOCABULARY).columns
    np.testing.assert_array_equal(table.tokens_of(names), expected)
    np.testing.assert_array_equal(table.tokens_of_prefixed(prefixed(names), len(names)), expected)


@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=8), max_size=5))
def test_an_alias_counts_where_its_cell_lacks_the_gene_itself(cells):
    table = GeneTable.of(VOCABULARY, "alias")
    indptr = np.cumsum([0, *map(len, cells)])
    tokens = table.tokens_of([name for names in cells for name in names])
    found = table.settled(indptr, tokens)
    expected = [match(names, VOCABULARY, "alias").columns for names in cells]
    np.testing.assert_array_equal(found, np.concatenate([*expected, np.empty(0, np.int64)]))


def test_every_name_of_a_real_vocabulary_is_found():
    from tests.scgpt_infer.server.fake_desk import demo_here

    vocabulary = demo_here().vocabulary
    names = [*vocabulary.tokens, *vocabulary.ensembl, *(f"{name}.7" for name in vocabulary.ensembl)]
    expected = match(names, vocabulary).columns
    np.testing.assert_array_equal(GeneTable.of(vocabulary).tokens_of(names), expected)


def test_bytes_that_are_not_so_many_names_are_refused():
    table = GeneTable.of(VOCABULARY)
    for data, found in (
        (prefixed(["CD3D"]), "has 1 names"),
        (prefixed(["CD3D"] * 3), "has more than 2 names"),
        (prefixed(["CD3D", "LYZ"])[:-1], "ends inside of a name"),
        (b"\xff\xff\xff\xff", "ends inside of a name"),
        (b"\x01\x00", "ends inside of a name"),
    ):
        with pytest.raises(ValueError, match=found):
            table.tokens_of_prefixed(data, 2)


def test_names_of_any_length_are_told_apart():
    """Short names stand in the table itself, longer ones do not; zeros in a name are no end of it."""
    rng = np.random.default_rng(5)
    names = {"".join(rng.choice(list("AB\0é"), rng.integers(1, 24))) for _ in range(4000)}
    known, unknown = sorted(names)[::2], sorted(names)[1::2]
    table = GeneTable.of(Vocabulary(tuple(known)))
    assert table.tokens_of(known).tolist() == list(range(len(known)))
    assert table.tokens_of(unknown).tolist() == [-1] * len(unknown)
    assert table.tokens_of_prefixed(prefixed(known), len(known)).tolist() == list(range(len(known)))


def test_an_id_with_its_version_is_looked_for_before_the_id_alone():
    table = GeneTable.of(Vocabulary(("ENSG00000000003.9", "A", "B"), {"ENSG00000000003": 1, "ENSG00000000005": 2}))
    names = ["ENSG00000000003.9", "ENSG00000000003.8", "ENSG00000000003", "ENSG00000000005.9"]
    assert table.tokens_of(names).tolist() == [0, 1, 1, 2]
