import json
import os

import numpy as np
import pytest
from scipy import sparse

from scgpt_infer import EmbedOptions, api, model, output
from scgpt_infer.preview import Disk


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
    monkeypatch.setattr(model, "disk", lambda target: Disk(10**12, 10**9))
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
