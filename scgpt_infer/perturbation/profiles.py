"""Mean profiles after perturbations, in memory and as a file: `Profiles`.

In: names, means, and what is told beside them. Out: an AnnData, or a file of one of `FORMATS`. It knows no model.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import schema
from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.writers.sink import Record, beside, output_errors, record_json, sync, sync_together
from scgpt_runtime.errors import OutputError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FORMATS", "KIND", "Profiles", "check_format"]

FORMATS = (".h5ad", ".csv", ".parquet", ".json")
"""Formats that mean profiles are written in."""

KIND = "perturbed_profiles"
"""What JSON documents call this result."""

_RECORD = "scgpt_infer"


@dataclass(frozen=True, slots=True)
class Profiles:
    """The mean over control cells of what the model predicts for each perturbation.

    Attributes
    ----------
    perturbations
        (n,) names such as ``A`` and ``A+B``.
    genes
        (n_genes,) names as the cells' file has them.
    values
        (n, n_genes) float32 mean expected expression, log1p of counts per 10,000.
    nonzero
        (n, n_genes) float32 mean P(value > 0), from a model that tells it; else None.
    control
        (n_genes,) float32 mean of the control cells as they were measured.
    cells
        (n,) int64 control cells behind each mean.
    record
        Facts of the run.
    """

    perturbations: tuple[str, ...]
    genes: tuple[str, ...]
    values: NDArray[np.float32]
    nonzero: NDArray[np.float32] | None
    control: NDArray[np.float32]
    cells: NDArray[np.int64]
    record: Record

    @property
    def change(self) -> NDArray[np.float32]:
        """(n, n_genes) predicted mean minus that of the control cells."""
        found: NDArray[np.float32] = self.values - self.control
        return found

    def to_anndata(self) -> "AnnData":
        """Perturbations as rows, genes as columns: ``X``, ``layers["change"]``, ``layers["nonzero"]`` where there is
        one, ``var["control"]``, ``obs["cells"]``, ``obs["genes"]`` (how many are perturbed).
        """
        import pandas as pd
        from anndata import AnnData

        rows = pd.Index(list(self.perturbations), dtype=str)
        sizes = [len(name.split("+")) for name in self.perturbations]
        layers = {"change": self.change} | ({} if self.nonzero is None else {"nonzero": self.nonzero})
        return AnnData(
            X=self.values,
            obs=pd.DataFrame({"genes": sizes, "cells": self.cells}, index=rows),
            var=pd.DataFrame({"control": self.control}, index=pd.Index(list(self.genes), dtype=str)),
            layers=layers,
            uns={_RECORD: dict(self.record)},
        )

    def to_json(self) -> str:
        """One JSON document of `scgpt_infer.schema`."""
        entries = ",\n".join(_entry(self, place, name) for place, name in enumerate(self.perturbations))
        told = (
            f'{{"genes": {json.dumps(self.genes)},\n"control": {_numbers(self.control)},\n'
            f'"perturbations": [\n{entries}\n]}}'
        )
        return schema.document(KIND, {"perturbed": told}, schema.run_facts(self.record))

    def write(self, path: Path) -> None:
        """Write a file; none is left behind where that fails."""
        honour()
        with deferred():
            _WRITERS[path.suffix.lower()](self, path)

    def _columns(self) -> dict[str, Any]:
        """Long form: a row for each perturbation and gene."""
        n, width = self.values.shape
        told: dict[str, Any] = {
            "perturbation": np.repeat(np.array(self.perturbations, object), width),
            "gene": np.tile(np.array(self.genes, object), n),
            "control": np.tile(self.control, n),
            "predicted": self.values.ravel(),
            "change": self.change.ravel(),
        }
        return told if self.nonzero is None else told | {"nonzero": self.nonzero.ravel()}


def check_format(path: Path, formats: tuple[str, ...], what: str) -> None:
    """Make sure that a format is one of those that can hold a result.

    Raises
    ------
    OutputError
        It is not.
    """
    if path.suffix.lower() not in formats:
        raise OutputError(f"{what} go to {', '.join(formats)}, and the output is {path.name}. Name such a file.")


def _h5ad(found: Profiles, path: Path) -> None:
    with beside(path) as temporary, output_errors(path):
        found.to_anndata().write_h5ad(temporary)
        sync(temporary, path)


def _csv(found: Profiles, path: Path) -> None:
    about = path.with_suffix(".csv.json")
    columns = found._columns()
    texts = [
        values.tolist() if values.dtype == object else [f"{value:.9g}" for value in values.tolist()]
        for values in columns.values()
    ]
    with beside(path) as table, beside(about) as facts, output_errors(path):
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*texts, strict=True))
        facts.write_bytes(record_json(found.record))
        sync_together({about: facts, path: table})


def _parquet(found: Profiles, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.dictionary(pa.int32(), pa.string())
    arrays = {
        name: pa.array(values, pa.string()).cast(words) if values.dtype == object else pa.array(values)
        for name, values in found._columns().items()
    }
    table = pa.table(arrays).replace_schema_metadata({_RECORD: record_json(found.record)})
    with beside(path) as temporary, output_errors(path):
        pq.write_table(table, temporary, compression="zstd")
        sync(temporary, path)


def _json(found: Profiles, path: Path) -> None:
    text = found.to_json()
    with beside(path) as temporary, output_errors(path):
        temporary.write_text(text, encoding="utf-8")
        sync(temporary, path)


def _entry(found: Profiles, place: int, name: str) -> str:
    nonzero = "" if found.nonzero is None else f', "nonzero": {_numbers(found.nonzero[place])}'
    return (
        f'{{"perturbation": {schema.quoted(name)}, "genes": {json.dumps(name.split("+"))}, '
        f'"n_cells": {int(found.cells[place])}, "values": {_numbers(found.values[place])}{nonzero}}}'
    )


def _numbers(values: NDArray[np.float32]) -> str:
    return f"[{', '.join(schema.numbers(values))}]"


_WRITERS: dict[str, Callable[[Profiles, Path], None]] = {
    ".h5ad": _h5ad,
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
}
