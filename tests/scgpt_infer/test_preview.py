import json
import os
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scgpt_infer import EmbedOptions, api, model, output
from scgpt_infer.ledger.holder import Holder
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.preview import Disk
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError, OutputError


def test_nothing_is_written(toy_h5ad, toy_model, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    api.preview(toy_h5ad, tmp_path / "x.h5ad", toy_model)
    api.preview(toy_h5ad, None, toy_model, EmbedOptions(in_place=True))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_lengths_are_those_of_the_cells(toy_h5ad, toy_model, toy_adata):
    preview = api.preview(toy_h5ad, None, toy_model)
    known = (toy_adata.X.toarray()[:, :60] > 0).sum(axis=1)
    assert preview.median_length == pytest.approx(np.median(known) + 1, abs=1)
    assert preview.longest <= known.max() + 1
    assert preview.max_length == 24
    assert preview.share_cut == pytest.approx((known + 1 > 24).mean(), abs=0.05)
    assert preview.sampled_without_known_gene == 1


def test_time_is_made_from_the_measured_rate(toy_h5ad, toy_model):
    preview = api.preview(toy_h5ad, None, toy_model)
    assert preview.probe_cells > 0
    assert preview.seconds == pytest.approx(preview.n_cells / preview.cells_per_second)


def test_bad_cells_are_counted_by_reason_and_not_rated(toy_adata, toy_model, tmp_path):
    dense = toy_adata.X.toarray()
    dense[10:400] = -1
    toy_adata.X = sparse.csr_matrix(dense)
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    preview = api.preview(tmp_path / "in.h5ad", None, toy_model, EmbedOptions(layer="X"))
    negative = preview.reasons["a value is negative"]
    assert negative == pytest.approx(390 * preview.tried / 1100, rel=0.1)
    assert preview.probe_cells <= preview.tried - negative
    assert not preview.all_bad
    assert f"{negative} x a value is negative" in preview.report()
    assert "ALL of them" not in preview.report()


def test_a_job_that_would_write_nothing_is_said_to(toy_adata, toy_model, tmp_path):
    strangers = np.zeros((1100, 70), np.float32)
    strangers[:, 69] = 1  # a gene that the model does not know
    toy_adata.X = sparse.csr_matrix(strangers)
    toy_adata.write_h5ad(tmp_path / "in.h5ad")
    preview = api.preview(tmp_path / "in.h5ad", None, toy_model, EmbedOptions(layer="X"))
    assert preview.all_bad
    assert preview.reasons == {"none of its expressed genes is in the vocabulary": preview.tried}
    assert (preview.probe_cells, preview.cells_per_second, preview.seconds) == (0, 0, None)
    assert "ALL of them" in preview.report()
    assert json.loads(preview.to_json())["reasons"] == preview.reasons


def test_a_limit_counts(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, EmbedOptions(limit=10))
    assert preview.n_cells == 10
    assert preview.disk.needed < 10_000


def test_a_disk_that_is_too_small_is_said_and_is_no_error(toy_h5ad, toy_model, tmp_path, monkeypatch):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    assert preview.fits
    assert os.listdir(tmp_path) == ["cells"]
    monkeypatch.setattr(model, "disk", lambda target, parts: Disk(10**12, 10**9))
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    assert not preview.fits
    assert "1.0 TB needed, 1.0 GB free: NOT ENOUGH" in preview.report()
    assert output.disk is not model.disk


def test_the_report_tells_all_that_one_asks_before_a_long_job(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    report = preview.report()
    for word in (
        "1,100 cells",
        "60 of 70 genes",
        "X, integer",
        "median",
        "cpu",
        "fp32",
        "cells/s",
        "GB free",
        "kB needed",
    ):
        assert word in report
    told = json.loads(preview.to_json())
    assert told["vector_id"] == preview.vector_id
    assert told["disk"]["needed"] == preview.disk.needed


@pytest.fixture
def begun(toy_h5ad, toy_model, tmp_path):
    """An output of which the first 1,024 of 1,100 cells are kept."""
    output = tmp_path / "x.npy"
    api.embed_file(toy_h5ad, output, toy_model, work=WorkOptions(shard=Shard(0, 2)))
    return output


def found_in(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_of_a_shard_its_share_alone_is_told_and_timed(toy_h5ad, toy_model, tmp_path):
    shares = [
        api.preview(toy_h5ad, output, toy_model, work=WorkOptions(shard=Shard(1, 2)))
        for output in (tmp_path / "x.npy", None)
    ]
    for preview in shares:
        assert (preview.shard, preview.n_cells) == ("1/2", 76)
        assert preview.seconds == pytest.approx(76 / preview.cells_per_second)
        assert "Shard 1/2: 76 cells would be embedded" in preview.report()


def test_cells_that_are_kept_are_told_and_take_no_time_and_the_folder_stays_as_it_is(toy_h5ad, toy_model, begun):
    parts = begun.with_name("x.npy.parts")
    before = found_in(parts)
    preview = api.preview(toy_h5ad, begun, toy_model)
    assert (preview.n_cells, preview.kept) == (1100, 1024)
    assert preview.seconds == pytest.approx(76 / preview.cells_per_second)
    assert "1,024 of 1,100 cells are kept already" in preview.report()
    anew = api.preview(toy_h5ad, begun, toy_model, work=WorkOptions(resume=False))
    assert anew.kept == 0
    assert anew.disk.needed > preview.disk.needed
    assert found_in(parts) == before


def test_a_shard_that_begins_anew_forgets_its_own_parts_alone(toy_h5ad, toy_model, begun):
    for count, kept in ((2, 0), (1, 1024)):
        work = WorkOptions(shard=Shard(0, count), resume=False)
        assert api.preview(toy_h5ad, begun, toy_model, work=work).kept == kept


def test_parts_of_other_work_are_refused_as_by_the_run(toy_h5ad, toy_model, begun):
    for look in (api.preview, api.embed_file):
        with pytest.raises(OutputError, match=r"holds the parts of other work.*seed"):
            look(toy_h5ad, begun, toy_model, EmbedOptions(seed=12))
    assert api.preview(toy_h5ad, begun, toy_model, EmbedOptions(seed=12), work=WorkOptions(resume=False)).kept == 0


def test_a_live_lock_is_told_and_a_dead_one_is_not(toy_h5ad, toy_model, begun):
    parts = begun.with_name("x.npy.parts")
    with Lock.take(parts / "lock.1-of-2"):
        preview = api.preview(toy_h5ad, begun, toy_model)
        assert f"process {os.getpid()} on" in preview.held_by[0]
        assert f"locked     by process {os.getpid()} on" in preview.report()
        assert not api.preview(toy_h5ad, begun, toy_model, work=WorkOptions(shard=Shard(0, 2))).held_by
    (parts / "lock").write_bytes(replace(Holder.here(), started="1").told())
    assert not api.preview(toy_h5ad, begun, toy_model).held_by


def test_memory_that_is_too_small_is_refused_as_by_the_run(toy_h5ad, toy_model, tmp_path):
    for work in (WorkOptions(memory=10**6), WorkOptions(memory=10**6, workers=2)):
        for look in (api.preview, api.embed_file):
            with pytest.raises(OptionError, match="Grant"):
                look(toy_h5ad, tmp_path / "x.npy", toy_model, work=work)
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, work=WorkOptions(memory=10**11))
    assert preview.memory == 10**11
    assert "granted: enough" in preview.report()


def test_the_room_of_the_parts_is_counted(toy_h5ad, toy_model, tmp_path):
    with_parts = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    without = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, work=None)
    assert with_parts.disk.needed - without.disk.needed >= 1100 * with_parts.dim * 4


def test_workers_are_counted_and_share_the_time(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, work=WorkOptions(workers=2))
    assert preview.workers == 2
    assert "2 processes; one was timed" in preview.report()
    on_ray = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, work=WorkOptions(ray="auto"))
    assert (on_ray.workers, on_ray.ray) == (None, "auto")
    assert "of a Ray cluster" in on_ray.report()


def test_a_share_of_what_is_added_to_the_cells_is_refused(toy_h5ad, toy_model):
    with pytest.raises(OptionError, match="shard and in_place"):
        api.preview(toy_h5ad, None, toy_model, EmbedOptions(in_place=True), work=WorkOptions(shard=Shard(0, 2)))
