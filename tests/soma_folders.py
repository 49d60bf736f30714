"""SOMA experiments as tiledbsoma writes them, and as the CELLxGENE Census is laid out, for tests of what reads them."""

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pyarrow as pa
from scipy import sparse


def write_soma(cells: ad.AnnData, path: Path, **settings: Any) -> Path:
    """The experiment that tiledbsoma makes of an AnnData."""
    import tiledbsoma.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiledbsoma.io.from_anndata(str(path), cells, measurement_name="RNA", **settings)
    return path


def write_census(path: Path, organisms: dict[str, ad.AnnData], build_date: str = "2025-01-30", step: int = 3) -> Path:
    """Experiments in a collection: names of cells are not kept, of three joinids one has a cell, counts are ``raw``."""
    import tiledbsoma

    with tiledbsoma.Collection.create(str(path)) as root:
        info = root.add_new_collection("census_info")
        told = {"label": ["census_schema_version", "census_build_date"], "value": ["2.1.0", build_date]}
        _frame(info, "summary", {"soma_joinid": [0, 1], **told})
        data = root.add_new_collection("census_data")
        for name, cells in organisms.items():
            experiment = data.add_new_collection(name, tiledbsoma.Experiment)
            joinids = np.arange(cells.n_obs) * step + 1
            obs = {column: cells.obs[column].astype(str).tolist() for column in cells.obs}
            _frame(experiment, "obs", {"soma_joinid": joinids, **obs})
            _measurement(
                experiment.add_new_collection("ms").add_new_collection("RNA", tiledbsoma.Measurement), cells, joinids
            )
    return path


def _measurement(measurement: Any, cells: ad.AnnData, joinids: np.ndarray) -> None:
    names = {"feature_id": [f"ENSG{i:011d}" for i in range(cells.n_vars)], "feature_name": list(cells.var_names)}
    _frame(measurement, "var", {"soma_joinid": np.arange(cells.n_vars), **names})
    layers = measurement.add_new_collection("X")
    counts = sparse.coo_matrix(cells.X)
    table = pa.table(
        {"soma_dim_0": joinids[counts.row], "soma_dim_1": counts.col.astype(np.int64), "soma_data": counts.data}
    )
    shape = (int(joinids[-1]) + 1, cells.n_vars)
    for name, factor in (("raw", 1), ("normalized", 0.5)):
        values = pa.array(np.asarray(table["soma_data"]) * np.float32(factor))
        layers.add_new_sparse_ndarray(name, type=pa.float32(), shape=shape).write(
            table.set_column(2, "soma_data", values)
        )


def _frame(parent: Any, name: str, columns: dict[str, Any]) -> None:
    table = pa.table(columns)
    domain = [[0, int(table["soma_joinid"][-1].as_py())]]
    parent.add_new_dataframe(name, schema=table.schema, index_column_names=["soma_joinid"], domain=domain).write(table)
