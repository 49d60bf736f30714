"""How well batches mix and cell types stay apart: `score` asks scib-metrics, `Scores` tells what it said.

In: vectors of cells by method, their batches and types. Out: figures, a table, JSON. It knows no model and no file.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import CellsError, MissingDependencyError

__all__ = ["AGGREGATES", "Scores", "check_installed", "check_scorable", "score"]

AGGREGATES = ("Bio conservation", "Batch correction", "Total")
"""Means of scib-metrics: of what keeps cell types, of what mixes batches, and 0.6 and 0.4 of the two."""

_BESIDE = "Silhouette batch"
_NEEDED = ("scib_metrics", "harmonypy")


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of scib-metrics, each from 0 to 1, the higher the better.

    Attributes
    ----------
    methods
        Method to figure by name.
    batch, label
        Columns of the batches and of the cell types.
    n_cells, n_batches, n_labels
        What was scored.
    scib_metrics
        Version of the package.
    """

    methods: dict[str, dict[str, float]]
    batch: str
    label: str
    n_cells: int
    n_batches: int
    n_labels: int
    scib_metrics: str

    def to_json(self) -> str:
        """One JSON object."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)

    def report(self) -> str:
        """A table: a figure a row, a method a column."""
        names = list(next(iter(self.methods.values())))
        width, widths = max(map(len, names)), [max(8, len(method)) for method in self.methods]
        header = "  ".join(f"{method:>{wide}}" for method, wide in zip(self.methods, widths, strict=True))
        lines = [
            f"Scores (scib-metrics {self.scib_metrics}) of {self.n_cells:,} cells, {self.n_batches} batches "
            f"({self.batch}), {self.n_labels} types ({self.label}):",
            f"  {'':<{width}}  {header}",
        ]
        for name in names:
            figures = [found[name] for found in self.methods.values()]
            row = "  ".join(f"{figure:>{wide}.3f}" for figure, wide in zip(figures, widths, strict=True))
            lines.append(f"  {name:<{width}}  {row}")
        return "\n".join(lines)


def check_installed() -> None:
    """Make sure that scores can be had.

    Raises
    ------
    MissingDependencyError
        A package of the extra is not there.
    """
    missing = [name.replace("_", "-") for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"Scores need {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            'pip install "scgpt-infer[integrate]".'
        )


def score(
    methods: Mapping[str, NDArray[np.float32]],
    before: NDArray[np.float32],
    batches: NDArray[np.str_],
    labels: NDArray[np.str_],
    batch: str = "batch",
    label: str = "label",
) -> Scores:
    """Score embeddings of the same cells.

    Parameters
    ----------
    methods
        Method to its vectors, (n_cells, any width).
    before
        (n_cells, any width) the cells before integration, which principal component regression compares with.
    batches, labels
        (n_cells,) batch and type of each cell; none is missing.
    batch, label
        What their columns are called.

    Returns
    -------
    Scores
        Every figure that scib-metrics' own benchmark has, its means (`AGGREGATES`), and beside them the batch
        silhouette, which its newer versions have replaced by BRAS.

    Raises
    ------
    MissingDependencyError
        scib-metrics or harmonypy is not installed.
    CellsError
        There is only one batch or one type, or too few cells.
    """
    check_installed()
    check_scorable(batches, labels, batch, label)
    import pandas as pd
    from anndata import AnnData
    from scib_metrics import silhouette_batch
    from scib_metrics.benchmark import Benchmarker

    obs = pd.DataFrame({"batch": pd.Categorical(batches), "label": pd.Categorical(labels)})
    cells = AnnData(np.zeros((len(batches), 1), np.float32), obs=obs.set_axis(obs.index.astype(str)))
    cells.obsm["before"] = before
    for name, vectors in methods.items():
        cells.obsm[f"of {name}"] = vectors
    keys = [f"of {name}" for name in methods]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax, scanpy and scikit-learn, about their own insides
        judge = Benchmarker(
            cells, "batch", "label", keys, pre_integrated_embedding_obsm_key="before", n_jobs=1, progress_bar=False
        )
        judge.benchmark()
        table = judge.get_results(min_max_scale=False)
        mixed = {name: float(silhouette_batch(vectors, labels, batches)) for name, vectors in methods.items()}
    names = [name for name in table.columns if name not in AGGREGATES]
    found = {
        name: {
            **{one: float(table.loc[f"of {name}", one]) for one in names},
            _BESIDE: mixed[name],
            **{one: float(table.loc[f"of {name}", one]) for one in AGGREGATES},
        }
        for name in methods
    }
    counts = (len(batches), len(np.unique(batches)), len(np.unique(labels)))
    return Scores(found, batch, label, *counts, version("scib-metrics"))


FEWEST = 100
"""Cells below which the neighbourhoods of 90 cells, which some figures are made of, mean nothing."""


def check_scorable(batches: NDArray[np.str_], labels: NDArray[np.str_], batch: str, label: str) -> None:
    """Make sure that these cells can be scored; parameters as for `score`.

    Raises
    ------
    CellsError
        There is only one batch or one type, or too few cells.
    """
    if len(batches) < FEWEST:
        raise CellsError(f"{len(batches)} cells can be scored (with vector, {batch} and {label}); at least {FEWEST}.")
    for name, values in ((batch, batches), (label, labels)):
        if len(np.unique(values)) < 2:
            raise CellsError(f"The column {name} has one value alone among the scored cells; scores compare several.")
