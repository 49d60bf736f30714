import gzip

import pytest

from scgpt_infer.readers.orientation import SYMBOLS, gene_share, orient
from scgpt_runtime.errors import CellsError

BARCODES = ["AAACATACAACCAC-1", "AAACATTGAGCTAC-1", "AAACATTGATCAGC-1"]
HUMAN = ["CD3D", "LYZ", "MS4A1", "AL627309.1"]
GENES = {
    "symbols": HUMAN,
    "mouse": ["Cd3d", "Lyz2", "Ms4a1", "Gm1992"],
    "Ensembl": ["ENSG00000167286", "ENSG00000090382.7"],
    "mouse Ensembl": ["ENSMUSG00000032094", "ENSMUSG00000069516"],
    "few known": [f"lnc-{i}" for i in range(8)] + ["CD3D"],
}


@pytest.mark.parametrize("genes", GENES.values(), ids=GENES)
def test_the_genes_are_found_on_either_side(genes: list[str]):
    assert orient(genes, BARCODES, None, "t.csv")[0] == "rows"
    assert orient(BARCODES, genes, None, "t.csv")[0] == "columns"


@pytest.mark.parametrize(
    "names",
    [
        BARCODES,
        ["cell_1", "cell_2"],
        ["1", "2"],
        ["A1", "B12"],
        ["T cell", "CD4+ T"],
        ["P1_AAAC"],
        ["chr1:100-200"],
        [""],
    ],
)
def test_cells_are_no_genes(names: list[str]):
    assert gene_share(names) == 0


def test_neither_and_both_show_what_is_there_and_how_to_say_it():
    with pytest.raises(
        CellsError, match=r"t\.csv .*neither .*\('AAAC.*, \.\.\.\) nor .*\('x'\) look like.*--cells-in rows"
    ):
        orient([*BARCODES, "AAACATTGATCAGT-1"], ["x"], None, "t.csv")
    with pytest.raises(CellsError, match=r"both .*\('CD3D', 'LYZ', 'MS4A1', \.\.\.\) and .*look like.*cells_in="):
        orient(HUMAN, HUMAN, None, "t.csv")


def test_what_was_told_holds():
    assert orient(HUMAN, BARCODES, "columns", "t.csv")[0] == "columns"


def test_a_million_names_are_sampled():
    assert gene_share(["x"] * 500_000 + ["CD3D"] * 500_000) == pytest.approx(0.5, abs=0.01)


def test_the_symbols_that_ship_are_those_of_coding_genes():
    symbols = gzip.decompress(SYMBOLS.read_bytes()).decode("ascii").split("\n")
    assert len(symbols) > 19_000
    assert {"CD3D", "LYZ", "C1orf112"} <= set(symbols)
    assert "MALAT1" not in symbols
