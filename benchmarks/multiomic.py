"""What small models of several modalities are worth on cells that they were not trained on, beside plain methods.

    python -m benchmarks.multiomic --data FOLDER --models FOLDER [--only NAME] [-o benchmarks/results/multiomic.json]

The first FOLDER holds the files that `scripts/multiomic_data.PLANS` names, the second a bundle for each plan, named
like it (scripts/train_multiomic.py trains them). Values of one modality are predicted from the other alone: the model
from the cell's vector and from its tokens; the mean of each feature, ridge regression on logged values (penalty chosen
on the training cells) and the mean of 15 neighbours in 30 components of them. All tell bins of the cell, zero for what
is absent, and are judged by the mean of Pearson's r over features and the root of the mean squared error. Cell types
are told by 10 neighbours in the training cells: in the model's vectors, in components of logged RNA (of its 2,000
most variable genes), of proteins, of both, and of latent semantic indexing for peaks.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from benchmarks.study.machine import describe
from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.multiomics import MultiomicOptions, multiomic
from scgpt_infer.options import EmbedOptions

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
from multiomic_data import PLANS, Asker, Measured, Plan, load, split, vocabulary
from training.cells import Cells, variable_genes

NEIGHBOURS, COMPONENTS, MEAN_OF, VARIABLE = 10, 30, 15, 2000
FEWEST = 10
"""Held-out cells in which a feature is to be seen, and to be missing where features are, for a correlation."""
UNLABELLED = ("", "unknown", "nan")
RUN = EmbedOptions(precision="fp32", provider="cpu", threads=1)


class Held:
    """A plan's cells: those that a model may know, those that judge it, and values of both as the model bins them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.plan: Plan = PLANS[name]
        self.path = folder / self.plan.file
        self.cells: Measured = load(folder, self.plan)
        learning, choosing, self.judging = split(self.cells)
        self.known = np.concatenate([learning, choosing])
        self.tokens = vocabulary(self.cells.take(learning), self.plan)
        self.kept = np.array([name in self.tokens.index for name in self.cells.names.tolist()])

    def bins(self, modality: str) -> NDArray[np.float32]:
        """(n_cells, n_features) bins of a modality as its model bins them, zero where there is no value."""
        asker = Asker(self.cells, self.tokens, self.plan, (), 0)
        seen = asker.view(np.arange(self.cells.n_cells))
        place = np.full(len(self.tokens), -1)
        columns = self.columns(modality)
        place[asker.columns[columns]] = np.arange(len(columns))
        found = np.zeros((self.cells.n_cells, len(columns)), np.float32)
        for row, (ids, codes, length) in enumerate(zip(seen.ids, seen.values, seen.lengths, strict=True)):
            own = place[ids[1:length]]
            found[seen.rows[row], own[own >= 0]] = codes[1:length][own >= 0]
        return found

    def columns(self, modality: str) -> NDArray[np.int64]:
        """Columns of a modality that have a token."""
        return np.flatnonzero((self.cells.modality == modality) & self.kept)

    def logged(self, modality: str) -> NDArray[np.float32]:
        """(n_cells, n_features) log of counts per 10,000 of a modality; of many features the most variable ones."""
        counts, names = self.cells.counts[:, self.cells.of(modality)], self.cells.names[self.cells.of(modality)]
        total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        values = sp.csr_matrix(sp.diags(1e4 / total) @ counts).log1p()
        if len(names) > VARIABLE:
            known = Cells("", counts[self.known], tuple(names.tolist()), np.empty(0, str))
            values = values[:, np.isin(names, variable_genes(known, VARIABLE))]
        return np.asarray(values.toarray(), np.float32)


def ask(held: Held, bundle: Path, read: tuple[str, ...], predict: tuple[str, ...] = (), source: str = "embedding"):
    """The model's answers for all cells, given some modalities alone."""
    batches = IntegrateOptions(held.plan.batch or None)
    pairs = {name: held.plan.modalities[name] for name in read}
    how = MultiomicOptions(pairs, predict, source, batches=batches)  # type: ignore[arg-type]
    return multiomic(held.path, model=bundle, how=how, options=RUN)


def predicted(answers: AnnData, modality: str) -> NDArray[np.float32]:
    """Expected bins: the value, times how likely it is above zero where the model tells that."""
    values = np.clip(answers.obsm[f"X_scGPT_{modality}_predicted"], 0, 50)
    nonzero = answers.obsm.get(f"X_scGPT_{modality}_nonzero")
    return values if nonzero is None else values * nonzero


def components(values: NDArray[np.float32], known: NDArray[np.int64]) -> NDArray[np.float32]:
    """Principal components of known cells, for all."""
    pca = PCA(min(COMPONENTS, values.shape[1], len(known) - 1), random_state=0).fit(values[known])
    return pca.transform(values)


def indexed(counts: sp.csr_matrix, known: NDArray[np.int64]) -> NDArray[np.float32]:
    """Latent semantic indexing of known cells, for all: TF-IDF, singular vectors, without the one of depth."""
    present = (counts > 0).astype(np.float32)
    weight = np.log1p(len(known) / (1 + np.asarray(present[known].sum(axis=0)).ravel()))
    share = sp.diags(1 / np.maximum(np.asarray(present.sum(axis=1)).ravel(), 1)) @ present
    values = sp.csr_matrix((share * 1e4).log1p() @ sp.diags(weight))
    return TruncatedSVD(COMPONENTS + 1, random_state=0).fit(values[known]).transform(values)[:, 1:]


def figures(told: NDArray[np.float32], true: NDArray[np.float32]) -> dict[str, float]:
    """Mean correlation over features that vary enough, and the error, over held-out cells."""
    seen = (true > 0).sum(axis=0)
    usable = (seen >= FEWEST) & (true.std(axis=0) > 0)
    left, right = (values[:, usable] - values[:, usable].mean(axis=0) for values in (told, true))
    norm = np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0)
    r = np.divide((left * right).sum(axis=0), norm, out=np.zeros(len(norm)), where=norm > 1e-6)
    error = float(np.sqrt(np.mean((told - true) ** 2)))
    return {"r": round(float(r.mean()), 4) + 0.0, "rmse": round(error, 3), "n_features": int(usable.sum())}


def prediction(held: Held, bundle: Path, source: str, goal: str) -> dict[str, Any]:
    """Bins of one modality from another alone, by every method."""
    true, seen, known, judging = held.bins(goal), held.logged(source), held.known, held.judging
    told = {
        f"scGPT, from {way}": predicted(ask(held, bundle, (source,), (goal,), way), goal)
        for way in ("embedding", "tokens")
    }
    middle, spread = seen[known].mean(axis=0), seen[known].std(axis=0) + 1e-6
    scaled = (seen - middle) / spread
    told["mean"] = np.broadcast_to(true[known].mean(axis=0), true.shape)
    told["ridge"] = RidgeCV(np.logspace(1, 6, 11)).fit(scaled[known], true[known]).predict(scaled)
    low = components(seen, known)
    told["neighbours"] = KNeighborsRegressor(MEAN_OF).fit(low[known], true[known]).predict(low)
    # a cell without any value of the source has no answer of the model: all are judged by the others
    there = np.all([np.isfinite(values).all(axis=1) for values in told.values()], axis=0)
    judging = judging[there[judging]]
    return {name: figures(np.asarray(values)[judging], true[judging]) for name, values in told.items()}


def types(held: Held, bundle: Path) -> dict[str, float]:
    """Share of held-out cells whose type 10 neighbours among the other cells tell, by every representation."""
    names = tuple(held.plan.modalities)
    spaces = {f"scGPT, {' + '.join(names)}": ask(held, bundle, names).obsm["X_scGPT"]}
    if len(names) > 1:
        spaces |= {f"scGPT, {name} alone": ask(held, bundle, (name,)).obsm["X_scGPT"] for name in names}
    plain = {f"PCA, {name}": components(held.logged(name), held.known) for name in names}
    if len(names) > 1:
        plain["PCA, both"] = np.hstack([space / space[held.known].std() for space in plain.values()])
    if "ATAC" in names:
        plain["LSI, ATAC"] = indexed(held.cells.counts[:, held.cells.of("ATAC")], held.known)
    labels = held.cells.labels
    labelled = ~np.isin(labels, UNLABELLED)
    found = {}
    for name, space in (spaces | plain).items():
        good = labelled & np.isfinite(space).all(axis=1)
        known, judging = (rows[good[rows]] for rows in (held.known, held.judging))
        near = KNeighborsClassifier(NEIGHBOURS).fit(space[known], labels[known])
        found[name] = round(
            float((near.predict(space[judging]) == labels[judging]).sum() / labelled[held.judging].sum()), 4
        )
    return found


def judged(folder: Path, name: str, bundle: Path) -> dict[str, Any]:
    """All figures of a plan."""
    held = Held(folder, name)
    names = tuple(held.plan.modalities)
    told: dict[str, Any] = {
        "file": held.plan.file,
        "cells": {"known": len(held.known), "held_out": len(held.judging)},
        "features": {one: len(held.columns(one)) for one in names},
    }
    if len(names) > 1:
        ways = [(names[0], names[1]), *([(names[1], names[0])] if held.plan.zeros else [])]
        told["prediction"] = {f"{goal} from {source}": prediction(held, bundle, source, goal) for source, goal in ways}
    if held.plan.labels:
        told["cell_types"] = types(held, bundle)
    return told


def main() -> None:
    """Judge the models and write what they are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--only", choices=PLANS, help="one plan; what the file has of others stays")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "multiomic.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    for name in [options.only] if options.only else PLANS:
        found[name] = judged(options.data, name, options.models / name)
        print(name, json.dumps(found[name], indent=2), flush=True)
    if options.only and options.output.exists():
        found = json.loads(options.output.read_text(encoding="utf-8"))["plans"] | found
    told = {"machine": describe(), "plans": {name: found[name] for name in PLANS if name in found}}
    options.output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
