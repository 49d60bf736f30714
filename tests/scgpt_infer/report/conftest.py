"""Embedded files, made up."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

LABELS = ("T cell", "B cell", "unknown")
RECORD = {
    "model": "toy",
    "vector_id": "0123456789abcdef",
    "weights_sha256": "ab" * 32,
    "key": "X_scGPT",
    "dim": 8,
    "provider": "cpu",
    "precision": "fp32",
    "device": "auto",
    "seed": 0,
    "ties": "hash",
    "sample": "hash",
    "version": "0.1.0",
    "counts": "layers/counts",
    "values": "integer",
    "gene_col": "index",
    "genes": "exact",
    "n_genes": 2000,
    "n_matched": 1500,
    "match_fraction": 0.75,
    "max_length": 1200,
    "n_cells": 60,
    "annotation_prefix": "scgpt_",
    "annotation_from": "classifier",
    "annotation_unknown_below": 0.5,
}

Writer = Callable[..., Path]


def embedded(
    path: Path,
    n_cells: int = 60,
    *,
    labels: Sequence[str] | None = LABELS,
    without: Sequence[int] = (),
    obs: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = RECORD,
    names: Sequence[str] | None = None,
    obsm: Mapping[str, Any] | None = None,
) -> Path:
    """Write a file as annotate leaves one: cell i has label i modulo their number, and no matrix of counts.

    Parameters
    ----------
    without
        Rows without a vector and a label.
    """
    rng = np.random.default_rng(0)
    kinds = np.arange(n_cells) % len(labels or LABELS)
    vectors = rng.normal(size=(n_cells, 8)) * 0.3 + rng.normal(size=(len(labels or LABELS), 8))[kinds]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    table = pd.DataFrame(index=pd.Index(names or [f"cell-{row}" for row in range(n_cells)]))
    if labels is not None:
        told = np.array([*labels], object)[kinds]
        sure = rng.uniform(0.5, 1, n_cells).astype(np.float32)
        sure[told == "unknown"] /= 2
        told[list(without)], sure[list(without)] = None, np.nan
        table["scgpt_label"], table["scgpt_confidence"] = pd.Categorical(told), sure
    for name, values in (obs or {}).items():
        table[name] = values
    vectors[list(without)] = np.nan
    cells = anndata.AnnData(obs=table, obsm={"X_scGPT": vectors, **(obsm or {})})
    if record is not None:
        cells.uns["scgpt_infer"] = dict(record)
    cells.write_h5ad(path)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write `embedded` cells into a file; gives its path."""

    def write(name: str = "cells.h5ad", **what: Any) -> Path:
        return embedded(tmp_path / name, **what)

    return write
