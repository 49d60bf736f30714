import subprocess
import sys
from pathlib import Path

import anndata as ad
import pytest

from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError


def test_a_path_may_be_text_and_its_suffix_in_capitals(cells: ad.AnnData, tmp_path: Path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "cells.h5ad").rename(tmp_path / "CELLS.H5AD")
    with open_cells(str(tmp_path / "CELLS.H5AD")) as source:
        assert source.n_cells == cells.n_obs


@pytest.mark.parametrize("name", ["cells.xlsx", "cells", "cells.h5ad.gz"])
def test_an_unknown_suffix_lists_the_known_ones(name: str, tmp_path: Path):
    with pytest.raises(CellsError, match=r"known formats of cells are .*\.h5ad, "):
        open_cells(tmp_path / name)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(CellsError, match=r"no file .*none\.h5ad"):
        open_cells(tmp_path / "none.h5ad")


def test_another_object_is_named():
    with pytest.raises(CellsError, match=r"builtins\.dict; expected an AnnData object or the path of a file"):
        open_cells({"X": 1})


def test_importing_the_readers_opens_no_format():
    code = "import sys, scgpt_infer.readers; sys.exit(bool({'anndata', 'h5py', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
