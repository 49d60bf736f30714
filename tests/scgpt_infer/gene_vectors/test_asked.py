import pytest

from scgpt_infer.gene_vectors.asked import GeneOptions
from scgpt_infer.wanted import read_names, wanted_genes
from scgpt_runtime.errors import GenesError, OptionError
from scgpt_runtime.vocab import Vocabulary

VOCABULARY = Vocabulary(("A", "B", "C", "<pad>", "<cls>"), ensembl={"ENSG00000000001": 2}, aliases={"OLD": 1})


def test_all_genes_are_those_that_stand_for_one():
    found = wanted_genes((), VOCABULARY)
    assert (found.ids.tolist(), found.unknown, found.all) == ([0, 1, 2], (), True)


def test_genes_come_in_the_order_asked_each_once_and_by_any_name():
    found = wanted_genes(("C", "A", "ENSG00000000001.4", "X", "A", "X"), VOCABULARY)
    assert (found.ids.tolist(), found.unknown, found.all) == ([2, 0], ("X",), False)
    assert wanted_genes(("OLD", "A"), VOCABULARY).unknown == ("OLD",)
    assert wanted_genes(("OLD", "A"), VOCABULARY, "alias").ids.tolist() == [1, 0]
    both = wanted_genes(("B", "OLD"), VOCABULARY, "alias")
    assert (both.ids.tolist(), both.unknown) == ([1], ())


def test_where_none_is_known_the_message_shows_some_that_are():
    with pytest.raises(GenesError, match=r"asked for: X, <cls>\. It has A, B, C\."):
        wanted_genes(("X", "<cls>"), VOCABULARY)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"min_cells": 0}, "min_cells is 0"),
        ({"per_cell": True, "by": "kind"}, "--per-cell"),
        ({"per_cell": True, "min_cells": 2}, "--per-cell"),
        ({"by": "gene"}, "a column of its own"),
    ],
)
def test_what_does_not_go_together_is_refused(told, words):
    with pytest.raises(OptionError, match=words):
        GeneOptions(**told)


def test_a_list_of_names_is_one_a_line(tmp_path):
    (tmp_path / "genes.txt").write_text("CD3D\n\n LYZ \n")
    assert read_names(tmp_path / "genes.txt") == ("CD3D", "LYZ")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(OptionError, match="names no gene"):
        read_names(tmp_path / "empty.txt")
    with pytest.raises(OptionError, match="cannot be read"):
        read_names(tmp_path / "missing.txt")
