"""How well batches mix and cell types stay apart: PCA, Harmony, the demo model zero-shot, and a model with DSBN.

    python -m benchmarks.integrate --data FOLDER --model pbmc=BUNDLE --model lung=BUNDLE [-o FILE.json]

FOLDER holds the files of scripts/train_integrate.py, whose bundles are the models. All methods are scored on the cells
that the script held out, a third of each batch, by scib-metrics. PCA and Harmony are fitted on those cells themselves,
which is what they are made for; the models have not seen them. The demo model was trained with cell types of blood,
on most of the cells of seven of the ten pbmc batches, held-out ones of here among them; the pbmc model starts from it
unless it was trained from nothing. No model has seen cell types of the lung lines.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData, read_h5ad
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))

from train_integrate import BATCH, PLANS, held_out  # noqa: E402  # the path comes first

from benchmarks.study.machine import describe  # noqa: E402
from scgpt_infer.integration import IntegrateOptions, integrate, score  # noqa: E402
from scgpt_infer.integration.baselines import components, harmonised  # noqa: E402
from scgpt_infer.options import EmbedOptions  # noqa: E402

OPTIONS = EmbedOptions(provider="cpu", precision="fp32")
LABELS = {"pbmc": "cell_type_coarse", "lung": "cell_type"}
UNKNOWN = "unknown"
SHOWN = ("Silhouette label", "KMeans NMI", "KMeans ARI", "cLISI", "BRAS", "iLISI", "KBET", "Graph connectivity",
         "PCR comparison", "Bio conservation", "Batch correction", "Total")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """Cells that no model of the script has seen, with their types."""

    name: str
    cells: AnnData

    @property
    def batches(self) -> NDArray[np.str_]:
        """(n_cells,) batch of each cell."""
        return np.asarray(self.cells.obs[BATCH], str)

    @property
    def labels(self) -> NDArray[np.str_]:
        """(n_cells,) type of each cell."""
        return np.asarray(self.cells.obs[LABELS[self.name]], str)


def judged(folder: Path, name: str) -> Judged:
    """The held-out cells of known type."""
    cells = read_h5ad(folder / PLANS[name].file)
    rows = held_out(np.asarray(cells.obs[BATCH], str)) & (np.asarray(cells.obs[LABELS[name]], str) != UNKNOWN)
    return Judged(name, cells[rows].copy())


def vectors(cells: AnnData, model: str | Path, how: IntegrateOptions) -> NDArray[np.float32]:
    """Embeddings of all cells; the record of the run is checked for cells without one."""
    found = integrate(cells, model=model, how=how, options=OPTIONS)
    record = found.uns["scgpt_infer"]
    if record["n_without_embedding"]:
        raise SystemExit(f"{record['n_without_embedding']} cells have no embedding with {model}")
    embedding: NDArray[np.float32] = found.obsm[record["key"]]
    return embedding


def compare(cells: Judged, models: dict[str, Path]) -> dict[str, Any]:
    """Score every method on the same cells."""
    own = IntegrateOptions(BATCH)
    before = components(cells.cells.X, cells.batches)
    methods = {
        "PCA": before,
        "Harmony": harmonised(before, cells.batches),
        "demo, zero-shot": vectors(cells.cells, "demo", own),
    }
    for name, bundle in models.items():
        methods[name] = vectors(cells.cells, bundle, own)
        methods[f"{name}, first"] = vectors(cells.cells, bundle, IntegrateOptions(BATCH, batch_statistics="first"))
    found = score(methods, before, cells.batches, cells.labels, BATCH, LABELS[cells.name])
    told: dict[str, Any] = json.loads(found.to_json())
    return told


def table(found: dict[str, Any]) -> str:
    """Results as Markdown: a method a row."""
    lines = []
    for name, one in found.items():
        lines += [f"{name}: {one['n_cells']:,} cells, {one['n_batches']} batches, {one['n_labels']} types", ""]
        lines += [f"| method | {' | '.join(SHOWN)} |", f"|---|{'---|' * len(SHOWN)}"]
        for method, figures in one["methods"].items():
            lines.append(f"| {method} | {' | '.join(f'{figures[figure]:.3f}' for figure in SHOWN)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Score the files that a model is named for, write the results beside earlier ones, and print all as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="pbmc[:NAME]=BUNDLE", help="may be repeated")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "integrate.json")
    options = parser.parse_args()
    models: dict[str, dict[str, Path]] = {name: {} for name in PLANS}
    for pair in options.model:
        where, _, bundle = pair.partition("=")
        cells, _, name = where.partition(":")
        models[cells][name or "DSBN"] = Path(bundle)
    before = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    found = before.get("cells", {})
    for name in [name for name in PLANS if models[name]]:
        print(f"scoring {name}", file=sys.stderr, flush=True)
        found[name] = compare(judged(options.data, name), models[name])
    told = {"machine": describe(), "cells": found}
    options.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
