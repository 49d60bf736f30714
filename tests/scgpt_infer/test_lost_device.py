"""A device that fails in the middle of a job: the rows that were done are kept, wherever they go."""

import numpy as np
import pytest

import scgpt_infer as si
from scgpt_infer import cli
from scgpt_infer.readers import open_cells
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import DeviceError, DeviceLostError, DeviceMemoryError
from scgpt_runtime.ranges import RANGE_ROWS

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


def check(vectors, expected):
    np.testing.assert_allclose(vectors[:RANGE_ROWS], expected[:RANGE_ROWS], rtol=1e-6)
    assert np.isnan(vectors[RANGE_ROWS:]).all()
    assert len(vectors) == TOTAL


@pytest.mark.parametrize("error", [DeviceLostError, DeviceMemoryError, DeviceError])
def test_a_file_job_keeps_what_was_done_and_goes_on_from_there(
    toy_h5ad, toy_model, expected, lost_after, monkeypatch, tmp_path, error
):
    output = tmp_path / "out.npy"
    with monkeypatch.context():
        lost_after(1, error)
        with pytest.raises(error, match="stopped working") as raised:
            si.embed_file(toy_h5ad, output, toy_model)
    monkeypatch.undo()
    assert raised.value.exit_code == 3
    (told,) = raised.value.__notes__
    assert told.startswith("1,024 of 1,100 cells are done and kept in ")
    assert not output.exists()
    summary = si.embed_file(toy_h5ad, output, toy_model)
    assert (summary.n_cells, summary.n_kept) == (TOTAL, RANGE_ROWS)
    np.testing.assert_array_equal(np.load(output), expected)


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


def test_the_command_line_ends_with_3_and_says_what_is_kept(toy_h5ad, toy_model, lost_after, tmp_path, capsys):
    lost_after(1)
    output = tmp_path / "out.csv"
    assert cli.run(["embed", str(toy_h5ad), "--model", str(toy_model), "-o", str(output)]) == 3
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert all(words in told for words in (SAID, f"{output}.parts", "1,024 of 1,100 cells are done"))
    assert not output.exists()


@pytest.mark.parametrize("n_blocks", [0, 1])
def test_a_job_that_needs_all_rows_keeps_none(toy_adata, toy_model, lost_after, n_blocks):
    lost_after(n_blocks)
    with si.Model.open(toy_model) as model, open_cells(toy_adata) as source, pytest.raises(DeviceLostError) as lost:
        model.job(source).gathered()
    assert str(lost.value).startswith(f"{SAID} Nothing was kept. Embed the cells into an .h5ad file")
