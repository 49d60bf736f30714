"""A job in a folder that can be interrupted and run again."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.work import WorkOptions

N_CELLS = 4 * 1024 + 10
STOP_AT = 3 * 1024


class Job:
    """A job in a folder, which can be interrupted after two or three of its five ranges."""

    def __init__(self, folder: Path, cells: Path, model: Path) -> None:
        self.folder, self.cells, self.model = folder, cells, model
        self.output, self.parts = folder / "x.npy", folder / "x.npy.parts"
        self.begun_with = 0

    def run(self, progress=None, work=None, **options) -> bytes:
        def told(done, total):
            if self.begun_with < 0:
                self.begun_with = done
            if progress is not None:
                progress(done)

        self.begun_with = -1
        settings = EmbedOptions(**({"provider": "cpu"} | options))
        embed_file(self.cells, self.output, self.model, settings, told, work=work or WorkOptions())
        return self.output.read_bytes() if self.output.exists() else b""

    def interrupt(self, **options) -> None:
        def stop(done):
            if done >= STOP_AT and len(self.kept()) >= 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as ended:
            self.run(stop, **options)
        assert "the same command goes on" in ended.value.__notes__[0]
        assert 2 <= len(self.kept()) < 5

    def kept(self) -> list[Path]:
        return sorted(self.parts.glob("part-*.npz"))

    @property
    def ledger(self) -> Path:
        return self.parts / "ledger.jsonl"


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    dense = np.random.default_rng(0).poisson(0.5, (N_CELLS, 70)).astype(np.float32)
    cells = ad.AnnData(sparse.csr_matrix(dense))
    cells.obs_names, cells.var_names = [f"c{i:04}" for i in range(N_CELLS)], [f"G{i}" for i in range(70)]
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture
def job(tmp_path, cells, toy_model) -> Job:
    return Job(tmp_path, cells, toy_model)


@pytest.fixture
def wanted(tmp_path_factory, cells, toy_model) -> bytes:
    return Job(tmp_path_factory.mktemp("undisturbed"), cells, toy_model).run()
