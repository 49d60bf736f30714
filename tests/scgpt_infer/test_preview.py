import json
import os

import numpy as np
import pytest

from scgpt_infer import EmbedOptions, api, output
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


def test_a_limit_counts(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model, EmbedOptions(limit=10))
    assert preview.n_cells == 10
    assert preview.disk.needed < 10_000


def test_a_disk_that_is_too_small_is_said_and_is_no_error(toy_h5ad, toy_model, tmp_path, monkeypatch):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    assert preview.fits
    assert os.listdir(tmp_path) == ["cells"]
    monkeypatch.setattr(api, "disk", lambda target: Disk(10**12, 10**9))
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    assert not preview.fits
    assert "1,000.00 GB needed, 1.00 GB free: NOT ENOUGH" in preview.report()
    assert output.disk is not api.disk


def test_the_report_tells_all_that_one_asks_before_a_long_job(toy_h5ad, toy_model, tmp_path):
    preview = api.preview(toy_h5ad, tmp_path / "x.npy", toy_model)
    report = preview.report()
    for word in ("1,100 cells", "60 of 70 genes", "X, integer", "median", "cpu", "fp32", "cells/s", "GB free"):
        assert word in report
    told = json.loads(preview.to_json())
    assert told["vector_id"] == preview.vector_id
    assert told["disk"]["needed"] == preview.disk.needed
