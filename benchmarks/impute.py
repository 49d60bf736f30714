"""How right imputed values are: entries of real cells are hidden, and predicted again.

    python benchmarks/impute.py --data FOLDER --model BUNDLE [--model BUNDLE ...] [-o RESULTS.json]

FOLDER holds pbmc3k_labelled.h5ad, which judges, and pbmc_10batches_3000.h5ad, of which a baseline takes means. The
cells are dealt into folds; of each fold other genes are hidden, a share of those that all models know, expressed or
not. What is hidden is taken out of the file, and out of the scale of a cell. Models see one cell at a time. The
baselines see the other cells of the file: the mean of the gene's entries that are not hidden, and that of the nearest
cells. Their number, and every method's border between zero and non-zero, are chosen on further entries, which are
hidden beside those that judge.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from scgpt_infer.imputation import ImputeOptions, impute_file
from scgpt_infer.imputation.asked import tells_zeros
from scgpt_infer.models import open_bundle
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.vocab import is_special

FOLDS = 10
SHARE = 0.1
COMPONENTS = 50
NEIGHBOURS = (5, 10, 20, 40, 80, 160, 320)
PBMC3K_AGAIN = "GSE115189"
N_BINS = 51

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """Cells with hidden entries.

    Attributes
    ----------
    counts
        (n_cells, n_genes) all counts; nothing but `true` may look at the hidden ones.
    genes, cells
        Names.
    panel
        (n_panel,) columns that entries are hidden in.
    fold
        (n_cells,) fold of each cell.
    hidden
        (n_folds, n_panel) which genes of the panel are hidden in the cells of a fold.
    """

    counts: sp.csr_matrix
    genes: tuple[str, ...]
    cells: tuple[str, ...]
    panel: NDArray[np.int64]
    fold: NDArray[np.int64]
    hidden: Mask

    @property
    def entries(self) -> Mask:
        """(n_cells, n_panel) the hidden entries."""
        return self.hidden[self.fold]

    def seen(self) -> sp.csr_matrix:
        """The counts without the hidden ones."""
        there = self.counts.tocoo()
        place = np.full(len(self.genes), -1)
        place[self.panel] = np.arange(len(self.panel))
        gone = (place[there.col] >= 0) & self.entries[there.row, place[there.col]]
        kept = (there.data[~gone], (there.row[~gone], there.col[~gone]))
        return sp.csr_matrix(kept, shape=self.counts.shape, dtype=np.float32)

    def scaled(self, counts: sp.csr_matrix) -> sp.csr_matrix:
        """Log of counts per 10,000 of what is seen of each cell."""
        total = np.maximum(np.asarray(self.seen().sum(axis=1)).ravel(), 1)
        return sp.csr_matrix(sp.diags(1e4 / total) @ counts).log1p().astype(np.float32)

    def true(self) -> Numbers:
        """(n_cells, n_panel) the right values."""
        return self.scaled(self.counts)[:, self.panel].toarray().astype(np.float64)


def ask(
    counts: sp.csr_matrix, genes: Sequence[str], cells: Sequence[str], panel: NDArray[np.int64], seed: int
) -> Question:
    """Deal cells into folds, and draw the genes that are hidden in each."""
    random = np.random.default_rng(seed)
    fold = random.permutation(counts.shape[0]) % FOLDS
    return Question(counts, tuple(genes), tuple(cells), panel, fold, drawn(len(panel), random))


def drawn(n_genes: int, random: np.random.Generator) -> Mask:
    """(n_folds, n_genes) a share of the genes for each fold."""
    hidden = np.zeros((FOLDS, n_genes), bool)
    for row in hidden:
        row[random.choice(n_genes, round(SHARE * n_genes), replace=False)] = True
    return hidden


def bins_of(values: Numbers, question: Question) -> Numbers:
    """Values of the panel in bins of each cell: a value's place among the edges of what is seen of the cell.

    The mean of the bins that a value on several edges may fall into; zero is bin 0. Edges are those of all genes.
    """
    seen, bins = question.scaled(question.seen()), np.zeros_like(values)
    for row in range(len(values)):
        own = seen.data[seen.indptr[row] : seen.indptr[row + 1]]
        edges = np.quantile(own, np.linspace(0, 1, N_BINS - 1)) if len(own) else np.zeros(1)
        high, low = (np.searchsorted(edges, values[row], side) for side in ("right", "left"))
        bins[row] = np.where(values[row] > 0, np.maximum((low + 1 + high) / 2, 1), 0)
    return np.minimum(bins, N_BINS - 1)


# ---- who predicts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a method says of all entries of the panel.

    Attributes
    ----------
    values
        Its guesses.
    nonzero
        How sure it is that an entry is not zero.
    given
        Its guesses of entries that are known not to be zero.
    """

    values: Numbers
    nonzero: Numbers
    given: Numbers


def of_model(question: Question, model: Path, predict_from: str, units: str) -> tuple[Told, dict[str, Any]]:
    """The product's answers: of each fold, the genes that are hidden in it are asked for, together."""
    seen = question.scaled(question.seen())
    shape = question.entries.shape
    values, nonzero = np.full(shape, np.nan), np.full(shape, np.nan)
    names = np.array([question.genes[column] for column in question.panel])
    how = ImputeOptions(predict_from=predict_from, hide="together", units=units)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, hidden in enumerate(question.hidden):
            rows = np.flatnonzero(question.fold == number)
            obs = pd.DataFrame(index=[question.cells[row] for row in rows])
            part = ad.AnnData(seen[rows], obs=obs, var=pd.DataFrame(index=list(question.genes)))
            part.write_h5ad(Path(folder) / "cells.h5ad")
            output = Path(folder) / f"{number}.parquet"
            options = EmbedOptions(precision="fp32", provider="cpu", min_match=0)
            impute_file(Path(folder) / "cells.h5ad", output, model, tuple(names[hidden]), options, how)
            table = pd.read_parquet(output)
            values[np.ix_(rows, hidden)] = table[list(names[hidden])]
            if f"{names[hidden][0]}_nonzero" in table:
                nonzero[np.ix_(rows, hidden)] = table[[f"{name}_nonzero" for name in names[hidden]]]
    cost = {"seconds": round(time.perf_counter() - began, 1), "peak_mb": peak_mb()}
    if units == "expected":
        return Told(values, nonzero, values / np.maximum(nonzero, 1e-6)), cost
    # A model that tells no probability is judged by its values.
    return Told(values, np.where(np.isnan(nonzero), values, nonzero), values), cost


def of_means(question: Question) -> Told:
    """Of each gene the mean of its entries that are not hidden, and the share of them that is not zero."""
    values = question.scaled(question.seen())[:, question.panel].toarray().astype(np.float64)
    there = ~question.entries
    mean, share = ((numbers * there).sum(axis=0) / there.sum(axis=0) for numbers in (values, values > 0))
    return told_of(mean, share, values.shape)


def of_others(question: Question, path: Path) -> Told:
    """The mean of each gene, and the share that is not zero, in the data set that a model learnt from."""
    others = ad.read_h5ad(path)
    others = others[(others.obs["batch"] != PBMC3K_AGAIN).to_numpy()]
    counts = sp.csr_matrix(others.X, dtype=np.float32)
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    column = {gene: place for place, gene in enumerate(others.var_names)}
    columns = [column[question.genes[place]] for place in question.panel]
    values = sp.csr_matrix(sp.diags(1e4 / total) @ counts).log1p()[:, columns].toarray()
    return told_of(values.mean(axis=0), (values > 0).mean(axis=0), question.entries.shape)


def told_of(mean: Numbers, share: Numbers, shape: tuple[int, ...]) -> Told:
    """The same for each cell: means of genes, and the shares of their entries that are not zero."""
    given = mean / np.maximum(share, 1e-6)
    return Told(*(np.broadcast_to(numbers, shape) for numbers in (mean, share, given)))


def of_neighbours(question: Question, neighbours: Sequence[int] = NEIGHBOURS) -> dict[int, Told]:
    """Of each number of nearest cells, the mean of their entries that are not hidden.

    Cells lie near one another by the first principal components of all expressed genes, with the gene's mean where an
    entry is hidden, so that what is hidden in a fold does not decide who is near.
    """
    seen = question.scaled(question.seen())
    panel = seen[:, question.panel].toarray().astype(np.float64)
    there = ~question.entries
    filled = np.where(there, panel, of_means(question).values)
    others = np.setdiff1d(np.flatnonzero(seen.getnnz(axis=0) >= 10), question.panel)
    wide = np.hstack([filled, seen[:, others].toarray()])
    space = PCA(COMPONENTS, random_state=0).fit_transform(wide)
    near = NearestNeighbors(n_neighbors=max(neighbours) + 1).fit(space).kneighbors(space, return_distance=False)[:, 1:]
    means = of_means(question)
    return {k: _smoothed(panel, there, near[:, :k], means) for k in neighbours}


def _smoothed(panel: Numbers, there: Mask, near: NDArray[np.int64], means: Told) -> Told:
    values, nonzero = np.empty_like(panel), np.empty_like(panel)
    for row, others in enumerate(near):
        seen = there[others].sum(axis=0)
        known = np.maximum(seen, 1)
        values[row] = np.where(seen, (panel[others] * there[others]).sum(axis=0) / known, means.values[row])
        share = ((panel[others] > 0) & there[others]).sum(axis=0) / known
        nonzero[row] = np.where(seen, share, means.nonzero[row])
    given = np.where(nonzero > 0, values / np.maximum(nonzero, 1e-6), means.given)
    return Told(values, nonzero, given)


# ---- how right they are ----------------------------------------------------------------------------------------------


def best_threshold(told: Told, true: Numbers, entries: Mask) -> float:
    """The border between zero and non-zero of highest F1 on these entries."""
    sure, right = told.nonzero[entries], true[entries] > 0
    borders = np.unique(np.quantile(sure, np.linspace(0, 1, 201)))
    scores = [f1_of(sure >= border, right)[2] for border in borders]
    return float(borders[int(np.argmax(scores))])


def f1_of(told: Mask, right: Mask) -> tuple[float, float, float]:
    """Precision, recall and F1 of non-zero."""
    both = float((told & right).sum())
    precision, recall = both / max(1, told.sum()), both / max(1, right.sum())
    return precision, recall, 2 * precision * recall / max(1e-12, precision + recall)


def figures(told: Told, question: Question, border: float) -> dict[str, float]:
    """Every figure of a method, on the hidden entries of cells that all methods answer."""
    entries, true = question.entries & np.isfinite(told.values), question.true()
    value, right = told.values[entries], true[entries]
    error = value - right
    some = right > 0
    in_bins = bins_of(np.where(entries, told.values, 0), question)[entries] - bins_of(true, question)[entries]
    precision, recall, f1 = f1_of(told.nonzero[entries] >= border, some)
    return {
        "entries": int(entries.sum()),
        "nonzero": float(some.mean()),
        "mse": float((error**2).mean()),
        "mae": float(np.abs(error).mean()),
        "pearson": float(np.corrcoef(value, right)[0, 1]),
        "mse_given": float(((told.given[entries][some] - right[some]) ** 2).mean()),
        "pearson_given": float(np.corrcoef(told.given[entries][some], right[some])[0, 1]),
        "mae_bins": float(np.abs(in_bins).mean()),
        "auc_nonzero": float(roc_auc_score(some, told.nonzero[entries])),
        "border": border,
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def peak_mb() -> int:
    """Most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def panel_of(genes: Sequence[str], counts: sp.csr_matrix, models: Sequence[Path]) -> NDArray[np.int64]:
    """Columns of genes that all models know and that ten cells express."""
    shared = set(genes)
    for model in models:
        tokens = open_bundle(model, None).vocabulary().tokens
        shared &= {name for name in tokens if not is_special(name)}
    often = counts.getnnz(axis=0) >= 10
    return np.array([column for column, gene in enumerate(genes) if gene in shared and often[column]], np.int64)


def run(data: Path, models: Sequence[Path], n_cells: int | None) -> dict[str, Any]:
    """Ask all methods."""
    cells = ad.read_h5ad(data / "pbmc3k_labelled.h5ad")[:n_cells]
    counts = sp.csr_matrix(cells.X, dtype=np.float32)
    genes, names = tuple(map(str, cells.var_names)), tuple(map(str, cells.obs_names))
    panel = panel_of(genes, counts, models)
    judging = ask(counts, genes, names, panel, 0)
    tuning = replace(judging, hidden=judging.hidden | drawn(len(panel), np.random.default_rng(1)))
    free = tuning.entries & ~judging.entries
    others = data / "pbmc_10batches_3000.h5ad"
    found: dict[str, Any] = {}

    def judge(name: str, told: Told, elsewhere: Told, **more: Any) -> None:
        border = best_threshold(elsewhere, tuning.true(), free & np.isfinite(elsewhere.values))
        found[name] = figures(told, judging, border) | more

    judge("mean of the gene", of_means(judging), of_means(tuning))
    judge("mean of the gene in other data", of_others(judging, others), of_others(tuning, others))
    tuned = of_neighbours(tuning)
    true = tuning.true()
    errors = {k: float(((told.values - true)[free] ** 2).mean()) for k, told in tuned.items()}
    k = min(errors, key=lambda number: errors[number])
    tried = {str(number): error for number, error in errors.items()}
    judge(f"{k} nearest cells", of_neighbours(judging, (k,))[k], tuned[k], mse_by_k=tried)
    for model in models:
        manifest = open_bundle(model, None).manifest
        for source, head in (("tokens", "expression"), ("embedding", "mvc")):
            for units in ("expected", "values") if tells_zeros(manifest, head) else ("values",):
                told, cost = of_model(judging, model, source, units)
                elsewhere = of_model(tuning, model, source, units)[0]
                judge(f"{manifest.name}, from {source}, {units}", told, elsewhere, **cost)
    return {
        "cells": len(names),
        "panel": len(panel),
        "share": SHARE,
        "folds": FOLDS,
        "methods": found,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    names = {
        "mse": "MSE",
        "mae": "MAE",
        "pearson": "Pearson",
        "mse_given": "MSE, expressed",
        "pearson_given": "Pearson, expressed",
        "mae_bins": "MAE in bins",
        "auc_nonzero": "AUC",
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
    }
    lines = [f"| method | {' | '.join(names.values())} |", "|---|" + "---:|" * len(names)]
    for method, told in result["methods"].items():
        lines.append(f"| {method} | {' | '.join(f'{told[name]:.3f}' for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the words, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--cells", type=int, help="the first N cells only")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/impute.json"))
    options = parser.parse_args()
    result = run(options.data, options.model, options.cells)
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
