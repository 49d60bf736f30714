import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scgpt_infer import demo
from scgpt_infer.readers import lines, open_cells
from scgpt_infer.readers.room import ReadingRoom
from scgpt_infer.readers.spool import Tape
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError
from text_files import put
from text_files import table as text_of

# How people and programs write tables: suffix, and what `text_of` is told.
WAYS = {
    "pandas": (".csv", {}),
    "R, no corner": (".csv", {"corner": None, "quote": '"'}),
    "R, corner": (".csv", {"corner": "", "quote": '"'}),
    "quoted numbers": (".csv", {"quote": '"', "number": '"{:g}"'}),
    "tabs": (".tsv", {"delimiter": "\t", "corner": "gene"}),
    "tabs named .csv": (".csv", {"delimiter": "\t"}),
    "R write.table": (".txt", {"delimiter": " ", "corner": None, "quote": '"'}),
    "semicolons": (".csv", {"delimiter": ";"}),
    "Windows": (".csv", {"end": "\r\n"}),
    "decimals": (".txt", {"delimiter": "\t", "number": "{:.6f}"}),
    "exponents": (".csv", {"number": "{:.3e}"}),
    "spaces": (".csv", {"delimiter": " , ".strip(), "number": " {:g} "}),
    "compressed": (".csv.gz", {}),
    "compressed tabs": (".tsv.gz", {"delimiter": "\t"}),
}


@pytest.fixture
def as_h5ad(cells: ad.AnnData, tmp_path: Path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with open_cells(tmp_path / "cells.h5ad") as source:
        yield source


def assert_same(source, expected, same) -> None:
    assert (source.n_cells, source.n_genes) == (expected.n_cells, expected.n_genes)
    assert (source.counts, source.values) == (expected.counts, expected.values)
    for ours, theirs in zip(
        source.blocks(grid(source.n_cells, 48)), expected.blocks(grid(expected.n_cells, 48)), strict=True
    ):
        assert same(ours, theirs)
    assert same(source.sample(60), expected.sample(60))
    assert source.cell_names(0, source.n_cells) == expected.cell_names(0, expected.n_cells)
    assert source.gene_names["index"] == expected.gene_names["index"]


@pytest.mark.parametrize("by", ["cells", "genes"])
@pytest.mark.parametrize("way", WAYS)
def test_the_cells_are_those_of_the_h5ad(way: str, by: str, cells: ad.AnnData, as_h5ad, tmp_path: Path, same):
    suffix, how = WAYS[way]
    path = put(tmp_path / f"cells{suffix}", text_of(cells, by=by, **how))
    with open_cells(path) as source:
        assert_same(source, as_h5ad, same)
        assert f"cells are in {'rows' if by == 'cells' else 'columns'}" in source.why


@pytest.mark.parametrize("by", ["cells", "genes"])
def test_a_tiny_memory_gives_the_same(by: str, cells: ad.AnnData, as_h5ad, tmp_path: Path, monkeypatch, same):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(lines, "BLOCK_BYTES", 70)
    few = ReadingRoom(tape_bytes=1, bucket_bytes=800)
    with open_cells(put(tmp_path / "cells.csv.gz", text_of(cells, by=by)), room=few) as source:
        assert_same(source, as_h5ad, same)
        assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n\r\n  \n",
        lambda text: b"\n" + text.replace(b"\ncell-7,", b"\n\n\ncell-7,"),
    ],
    ids=["byte order mark", "no last end", "blank lines at the end", "blank lines"],
)
def test_harmless_oddities_change_nothing(change, cells: ad.AnnData, as_h5ad, tmp_path: Path, same):
    with open_cells(put(tmp_path / "cells.csv", change(text_of(cells).encode()))) as source:
        assert_same(source, as_h5ad, same)


def test_a_compressed_file_is_known_by_its_content(cells: ad.AnnData, as_h5ad, tmp_path: Path, same):
    put(tmp_path / "cells.csv.gz", text_of(cells)).rename(tmp_path / "cells.csv")
    with open_cells(tmp_path / "cells.csv") as source:
        assert_same(source, as_h5ad, same)


@pytest.mark.parametrize("by", ["cells", "genes"])
def test_real_gene_symbols_tell_the_cells(by: str, tmp_path: Path, same):
    cells = ad.read_h5ad(demo.CELLS)[:60]
    with open_cells(put(tmp_path / "cells.csv", text_of(cells, by=by, number="{:.9g}"))) as source:
        assert source.cell_names(0, 60) == list(cells.obs_names)
        with open_cells(cells) as expected:
            assert_same(source, expected, same)


def test_what_it_was_told_is_not_doubted(cells: ad.AnnData, tmp_path: Path, dense):
    path = put(tmp_path / "cells.csv", text_of(cells))
    with open_cells(path, cells_in="columns") as source:
        assert source.cell_names(0, 1) == ["ENSG00000000000"]
        assert np.array_equal(dense(source), cells.X.toarray().T)
        assert "as it was told" in source.why


def test_names_may_hold_anything_in_quotes(tmp_path: Path):
    text = '"","ENSG00000000001","ENSG00000000002"\n"CD4, ""naive""",1,0\n" B\u00e9la ",0,2\n'
    with open_cells(put(tmp_path / "cells.csv", text)) as source:
        assert source.cell_names(0, 2) == ['CD4, "naive"', "B\u00e9la"]


def test_one_gene_of_two_columns_stays_two(tmp_path: Path, dense):
    with open_cells(put(tmp_path / "cells.csv", "cell,CD3D,CD3D\na,1,2\nb,0,3\n")) as source:
        assert source.gene_names["index"] == ["CD3D", "CD3D"]
        assert dense(source).tolist() == [[1, 2], [0, 3]]


def test_missing_values_reach_the_tokenizer_as_nan(tmp_path: Path):
    with open_cells(put(tmp_path / "cells.csv", "cell,CD3D,CD4,LYZ\na,1,NA,2\nb,0,3,inf\n")) as source:
        block = next(source.blocks(grid(source.n_cells, 2)))
        assert np.isnan(block.data[1])
        assert np.isinf(block.data[-1])


def test_it_has_one_matrix_no_table_of_cells_and_no_embedding(cells: ad.AnnData, tmp_path: Path):
    path = put(tmp_path / "cells.csv", text_of(cells))
    with open_cells(path, layer="X") as source:
        assert (source.counts, source.cell_columns, source.stored("X_scGPT")) == ("X", (), None)
        assert source.cell_column("index")[:2].tolist() == ["cell-0", "cell-1"]
        with pytest.raises(CellsError, match="no column 'cell_type'; it has none"):
            source.cell_column("cell_type")
        with pytest.raises(CellsError, match=r"no gene column 'gene_ids'; it has index"):
            source.gene_column("gene_ids")
    with pytest.raises(CellsError, match=r"cells\.csv holds one matrix, and the layer 'counts' was asked for"):
        open_cells(path, layer="counts")
    with pytest.raises(CellsError, match=r"cells\.csv has no modalities"):
        open_cells(path, modality="rna")


def test_other_formats_tell_their_cells_themselves(cells: ad.AnnData, tmp_path: Path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    for given in (cells, tmp_path / "cells.h5ad"):
        with pytest.raises(CellsError, match="cells_in is for tables of text"):
            open_cells(given, cells_in="rows")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted as Linux shows them")
@pytest.mark.parametrize("error", [KeyboardInterrupt, CellsError])
@pytest.mark.parametrize("after", [0, 3])
def test_temporary_files_are_gone_however_the_reading_ends(error, after: int, cells, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 500)
    path, append, calls = put(tmp_path / "cells.csv", text_of(cells)), Tape.append, []

    def interrupted(tape: Tape, values: np.ndarray) -> None:
        calls.append(1)
        if len(calls) > after:
            raise error
        append(tape, values)

    monkeypatch.setattr(Tape, "append", interrupted)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error):
        open_cells(path, room=ReadingRoom(tape_bytes=1))
    assert len(os.listdir("/proc/self/fd")) == before
