"""Parts become the output of their own cells alone."""

import numpy as np
import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.ledger.parts import Kept
from scgpt_infer.ledger.same_cells import of_cells
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.sink import Part
from scgpt_runtime.errors import OutputError

CPU = EmbedOptions(provider="cpu", precision="fp32", threads=1)


def kept(names, reasons):
    return Kept(Part(4, np.zeros((len(names), 2), np.float32), tuple(reasons)), tuple(names))


def test_parts_of_other_cells_are_refused_and_what_has_no_result_need_have_no_name():
    part = kept(["a", "x"], ["", "not done"])
    assert list(of_cells([part], lambda start, stop: ["a", "b"])) == [part]
    with pytest.raises(OutputError, match=r"Row 4 of the parts is the cell 'a', and row 4 of the cells is 'c'"):
        list(of_cells([part], lambda start, stop: ["c", "x"]))


def test_a_job_does_not_end_with_parts_of_other_cells(toy_h5ad, toy_model, tmp_path, monkeypatch):
    output = tmp_path / "x.npy"
    embed_file(toy_h5ad, output, toy_model, CPU, work=WorkOptions(shard=Shard(0, 1)))
    names = GroupCells.cell_names

    def others(cells, start, stop):
        return [f"other {name}" for name in names(cells, start, stop)]

    with monkeypatch.context() as patch:
        patch.setattr(GroupCells, "cell_names", others)
        with pytest.raises(OutputError, match="is the cell 'cell-0', and row 0 of"):
            embed_file(toy_h5ad, output, toy_model, CPU)
    assert not output.exists()
    embed_file(toy_h5ad, output, toy_model, CPU)
    assert output.exists()
