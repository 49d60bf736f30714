"""``scgpt-infer report`` as people type it."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scgpt_infer import cli


@pytest.fixture
def annotated(tmp_path):
    path = tmp_path / "cells.h5ad"
    names = [f"cell-{row}" for row in range(20)]
    obs = pd.DataFrame({"scgpt_label": ["T", "B"] * 10, "well": ["a"] * 5 + ["b"] * 15}, index=names)
    vectors = np.eye(20, 8, dtype=np.float32) + 0.1
    anndata.AnnData(obs=obs, obsm={"X_scGPT": vectors, "X_umap": vectors[:, :2]}).write_h5ad(path)
    return path


def test_a_page_is_written(annotated, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert cli.run(["report", str(annotated), "-o", str(page), "--by", "well", "--umap-key", "X_umap"]) == 0
    told = page.read_text()
    assert told.startswith("<!doctype html>")
    assert "Composition by well" in told
    assert capsys.readouterr().out == f"{page}\n"


def test_nothing_is_written_where_a_column_is_missing(annotated, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert cli.run(["report", str(annotated), "-o", str(page), "--colour", "well, dose"]) == 2
    assert "no column 'dose'; it has scgpt_label, well" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    ("page", "told"),
    [("report.pdf", "one that ends in .html"), ("nowhere/report.html", "There is no folder")],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(annotated, tmp_path, capsys, page, told):
    assert cli.run(["report", str(annotated), "-o", str(tmp_path / page)]) == 2
    assert told in capsys.readouterr().err
