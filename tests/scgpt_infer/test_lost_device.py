"""A device that fails in the middle of a job: the rows that were done are kept, wherever they go."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import scgpt_infer as si
from scgpt_infer import cli
from scgpt_infer.readers import open_cells
from scgpt_infer.run import FULL, LOST
from scgpt_runtime.engine import RANGE_ROWS, Engine
from scgpt_runtime.errors import DeviceError, DeviceLostError, DeviceMemoryError

TOTAL = 1100
SAID = "GPU 0 (a GPU) stopped working: CUDA failure 700."


@pytest.fixture
def expected(toy_adata, toy_model) -> np.ndarray:
    return si.embed(toy_adata, model=toy_model).obsm["X_scGPT"]


@pytest.fixture
def lost_after(monkeypatch):
    """Have the device go after so many blocks."""
    real = Engine.run

    def lose(n_blocks: int, error: type[DeviceError] = DeviceLostError) -> None:
        def run(self, *arguments, **named):
            results = real(self, *arguments, **named)
            for _ in range(n_blocks):
                yield next(results)
            results.close()
            raise error(SAID)

        monkeypatch.setattr(Engine, "run", run)

    return lose


def read(path):
    """Vectors, reasons (None where the format holds none), and the facts of a file."""
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        facts = json.loads(path.with_name(f"{path.name}.json").read_text())
        return table.iloc[:, 1:-1].to_numpy(np.float32), table["error"].fillna("").tolist(), facts
    if path.suffix == ".npy":
        return np.load(path), None, json.loads(path.with_name(f"{path.name}.json").read_text())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        vectors = np.array([row or [np.nan] * 4 for row in table["embedding"].to_pylist()], np.float32)
        facts = json.loads(pq.read_metadata(path).metadata[b"scgpt_infer"])
        return vectors, [reason or "" for reason in table["error"].to_pylist()], facts
    adata = ad.read_h5ad(path)
    return adata.obsm["X_scGPT"], None, dict(adata.uns["scgpt_infer"])


def check(vectors, expected):
    np.testing.assert_allclose(vectors[:RANGE_ROWS], expected[:RANGE_ROWS], rtol=1e-6)
    assert np.isnan(vectors[RANGE_ROWS:]).all()
    assert len(vectors) == TOTAL


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".parquet", ".h5ad"])
def test_a_file_keeps_what_was_done_and_says_what_was_not(toy_h5ad, toy_model, expected, lost_after, tmp_path, suffix):
    lost_after(1)
    output = tmp_path / f"out{suffix}"
    with pytest.raises(DeviceLostError) as raised:
        si.embed_file(toy_h5ad, output, toy_model)
    told = str(raised.value)
    assert told.startswith(SAID)
    assert f"{output} holds what was done: rows 0 to 1,023 of 1,100; the other 76 are NaN." in told
    vectors, reasons, facts = read(output)
    check(vectors, expected)
    if reasons is not None:
        assert reasons[RANGE_ROWS:] == [LOST] * 76
        assert LOST not in reasons[:RANGE_ROWS]
    assert facts["n_cells"] == TOTAL
    assert facts["n_without_embedding"] == 1 + 76
    assert facts["incomplete"] == f"{LOST}: rows 0 to 1,023 of 1,100; the other 76 are NaN"


def test_memory_that_runs_out_for_one_cell_keeps_what_was_done(toy_h5ad, toy_model, expected, lost_after, tmp_path):
    lost_after(1, DeviceMemoryError)
    with pytest.raises(DeviceMemoryError, match="holds what was done") as raised:
        si.embed_file(toy_h5ad, tmp_path / "out.csv", toy_model)
    assert raised.value.exit_code == 3
    vectors, reasons, facts = read(tmp_path / "out.csv")
    check(vectors, expected)
    assert reasons[RANGE_ROWS:] == [FULL] * 76
    assert facts["incomplete"].startswith(FULL)


def test_another_failure_of_the_device_is_not_told_as_a_lost_one(toy_h5ad, toy_model, lost_after, tmp_path):
    lost_after(1, DeviceError)
    with pytest.raises(DeviceError, match="holds what was done"):
        si.embed_file(toy_h5ad, tmp_path / "out.csv", toy_model)
    _, reasons, _ = read(tmp_path / "out.csv")
    assert set(reasons[RANGE_ROWS:]) == {"the device failed"}


@pytest.mark.parametrize("inplace", [True, False])
def test_in_memory_the_rows_that_were_done_come_with_the_error(toy_adata, toy_model, expected, lost_after, inplace):
    lost_after(1)
    with pytest.raises(DeviceLostError, match=r"obsm|`finished`") as raised:
        si.embed(toy_adata, model=toy_model, inplace=inplace)
    finished = raised.value.finished
    assert (finished is toy_adata) == inplace
    check(finished.obsm["X_scGPT"], expected)
    assert "incomplete" in finished.uns["scgpt_infer"]
    assert ("X_scGPT" in toy_adata.obsm) == inplace


def test_an_open_model_raises_the_same(toy_adata, toy_model, expected, lost_after):
    lost_after(1)
    with si.Model.open(toy_model) as model, pytest.raises(DeviceLostError) as raised:
        model.embed(toy_adata)
    check(raised.value.finished.obsm["X_scGPT"], expected)


@pytest.mark.parametrize("suffix", [".csv", ".h5ad"])
def test_where_nothing_was_done_nothing_is_written(toy_h5ad, toy_adata, toy_model, lost_after, tmp_path, suffix):
    lost_after(0)
    with pytest.raises(DeviceLostError) as raised:
        si.embed_file(toy_h5ad, tmp_path / f"out{suffix}", toy_model)
    assert str(raised.value) == SAID
    with pytest.raises(DeviceLostError) as raised:
        si.embed(toy_adata, model=toy_model, inplace=True)
    assert raised.value.finished is None
    assert "X_scGPT" not in toy_adata.obsm
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_the_command_line_ends_with_3_and_names_file_and_rows(toy_h5ad, toy_model, lost_after, tmp_path, capsys):
    lost_after(1)
    output = tmp_path / "out.csv"
    assert cli.run(["embed", str(toy_h5ad), "--model", str(toy_model), "-o", str(output)]) == 3
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert all(words in told for words in (SAID, str(output), "rows 0 to 1,023 of 1,100"))
    assert output.exists()


@pytest.mark.parametrize("n_blocks", [0, 1])
def test_a_job_that_needs_all_rows_keeps_none(toy_adata, toy_model, lost_after, n_blocks):
    lost_after(n_blocks)
    with si.Model.open(toy_model) as model, open_cells(toy_adata) as source, pytest.raises(DeviceLostError) as lost:
        model.job(source).gathered()
    assert str(lost.value).startswith(f"{SAID} Nothing was kept. Embed the cells into an .h5ad file")
