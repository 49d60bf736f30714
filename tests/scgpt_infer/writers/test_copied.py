"""An output that copies its source does so from what the work began with, or not at all."""

import os
import shutil
import warnings

import anndata as ad
import numpy as np
import pytest

from scgpt_infer import keeping
from scgpt_infer.api import embed_file
from scgpt_infer.ledger.folder import parts_folder
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.copied import Copied, state_of
from scgpt_runtime.errors import OutputError


def reversed_cells(path):
    """Put another file of the same cells, the last first, in the place of a file or store."""
    other = path.with_name(f"other{path.suffix}")
    if path.is_dir():
        store(ad.read_zarr(path)[::-1].copy(), other)
        shutil.rmtree(path)
    else:
        ad.read_h5ad(path)[::-1].copy().write_h5ad(other)
    os.replace(other, path)


def store(cells, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what anndata writes today
        cells.write_zarr(path)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_source_that_is_replaced_when_all_is_read_is_not_copied(toy_h5ad, toy_model, tmp_path, suffix, monkeypatch):
    output, replay, kept = tmp_path / f"out{suffix}", keeping.replay, tmp_path / "kept.h5ad"
    shutil.copy2(toy_h5ad, kept)

    def late(*given):
        reversed_cells(toy_h5ad)
        return replay(*given)

    monkeypatch.setattr(keeping, "replay", late)
    with pytest.raises(OutputError, match="was changed, replaced or removed since the work began") as ended:
        embed_file(toy_h5ad, output, toy_model)
    assert "the same command goes on" in ended.value.__notes__[0]
    assert not output.exists()
    assert list(parts_folder(output).glob("part-*"))
    monkeypatch.undo()
    shutil.copy2(kept, toy_h5ad)
    embed_file(toy_h5ad, output, toy_model)
    read = ad.read_h5ad if suffix == ".h5ad" else ad.read_zarr
    assert list(read(output).obs_names) == list(ad.read_h5ad(kept).obs_names)


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_source_that_is_replaced_while_it_is_copied_is_refused(tmp_path, suffix, monkeypatch):
    source = tmp_path / "in.zarr"
    store(ad.AnnData(np.ones((3, 2), np.float32)), source)
    output = tmp_path / f"out{suffix}"
    target = Target(output, 3, 2, "X", lambda start, stop: [], source=source, state=state_of(source))
    check, asked = Copied.check, []

    def replaced_after_the_first(copied):
        check(copied)
        if not asked:
            reversed_cells(source)
        asked.append(copied)

    monkeypatch.setattr(Copied, "check", replaced_after_the_first)
    with pytest.raises(OutputError, match="was changed, replaced"), writer_of(output).open(target):
        pass
    assert not output.exists()
