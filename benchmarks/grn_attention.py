"""Does attention show the answer of blood cells to interferon? Networks of control and stimulated cells, judged.

    python benchmarks/grn_attention.py --data FOLDER --model NAME=BUNDLE [--model ...] [-o RESULTS.json]

FOLDER holds kang18_stim_ctrl_2000_9015g.h5ad: blood cells, half of them stimulated with interferon beta. For each
model the genes that attend more to a factor of the interferon answer in stimulated cells are ranked, and held against
the genes of MSigDB's gene set HALLMARK_INTERFERON_ALPHA_RESPONSE (Liberzon et al. 2015, 10.1016/j.cels.2015.12.004).
Beside them, among the same genes and in the same cells: the difference in mean expression, the change in correlation
with the factor, and chance.
"""

import argparse
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import hypergeom
from sklearn.metrics import roc_auc_score

from scgpt_infer.models import open_bundle
from scgpt_infer.networks.attended import AttentionScores
from scgpt_infer.networks.attention import AttentionOptions, from_attention
from scgpt_infer.networks.ranks import rank_sums
from scgpt_infer.options import EmbedOptions

FILE = "kang18_stim_ctrl_2000_9015g.h5ad"
CONDITION, CONTROL, AGAINST = "condition", "ctrl", "stim"
TARGETS = ("STAT1", "STAT2", "IRF1", "IRF7", "IRF9")
TOPS = (20, 100)
FACTS = ("model", "precision", "provider", "instances", "threads")

INTERFERON = """
    ADAR B2M BATF2 BST2 C1S CASP1 CASP8 CCRL2 CD47 CD74 CMPK2 CMTR1 CNP CSF1 CXCL10 CXCL11 DDX60 DHX58 EIF2AK2 ELF1
    EPSTI1 FAM125A FAM46A FTSJD2 GBP2 GBP4 GMPR HELZ2 HERC6 HLA-C IFI27 IFI30 IFI35 IFI44 IFI44L IFIH1 IFIT2 IFIT3
    IFITM1 IFITM2 IFITM3 IL15 IL4R IL7 IRF1 IRF2 IRF7 IRF9 ISG15 ISG20 LAMP3 LAP3 LGALS3BP LPAR6 LY6E MOV10 MVB12A MX1
    NCOA7 NMI NUB1 OAS1 OASL OGFR PARP12 PARP14 PARP9 PLSCR1 PNPT1 PROCR PSMA3 PSMB8 PSMB9 PSME1 PSME2 RIPK2 RNF31
    RSAD2 RTP4 SAMD9 SAMD9L SELL SLC25A28 SP110 STAT2 TAP1 TDRD7 TENT5A TMEM140 TRAFD1 TRIM14 TRIM21 TRIM25 TRIM26
    TRIM5 TXNIP UBA7 UBE2L6 USP18 WARS WARS1
"""
"""Names of the set's genes, older and newer ones alike, with spaces; written down by hand, not downloaded."""

SET = frozenset(INTERFERON.split())

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expressed:
    """Log values of the chosen genes, (n_cells, n_genes), and which cells are stimulated."""

    values: Numbers
    stimulated: NDArray[np.bool_]

    def differences(self) -> Numbers:
        """(n_genes,) difference of means."""
        found: Numbers = self.values[self.stimulated].mean(0) - self.values[~self.stimulated].mean(0)
        return found

    def correlations(self, gene: int, cells: NDArray[np.bool_]) -> Numbers:
        """(n_genes,) correlation with a gene; 0 for a gene that does not vary."""
        part = self.values[cells] - self.values[cells].mean(0)
        norms = np.sqrt(np.square(part).sum(0))
        found: Numbers = part.T @ part[:, gene] / np.maximum(norms * norms[gene], 1e-12)
        return found


def expressed(path: Path, genes: list[str]) -> Expressed:
    """Log of counts per 10,000 of the whole cell."""
    cells = ad.read_h5ad(path)
    counts = sp.csr_matrix(cells.X, dtype=np.float64)
    scaled = sp.csr_matrix(sp.diags(1e4 / np.maximum(np.asarray(counts.sum(1)).ravel(), 1)) @ counts)
    columns = [int(cells.var_names.get_loc(name)) for name in genes]
    return Expressed(scaled[:, columns].log1p().toarray(), np.asarray(cells.obs[CONDITION] == AGAINST))


def judged(weights: Numbers, known: NDArray[np.bool_], left_out: list[int]) -> dict[str, float]:
    """How a ranking of genes finds the known ones: precision and chance of as many at the top, area under ROC."""
    among = np.ones(len(known), bool)
    among[left_out] = False
    weights, known = weights[among], known[among]
    order = np.argsort(-weights, kind="stable")
    found: dict[str, float] = {}
    for top in TOPS:
        hits = int(known[order[:top]].sum())
        found[f"precision at {top}"] = round(hits / top, 3)
        found[f"p at {top}"] = float(f"{hypergeom.sf(hits - 1, len(known), int(known.sum()), top):.2g}")
    return found | {"auroc": round(float(roc_auc_score(known, weights)), 3)}


def rankings(scores: AttentionScores, cells: Expressed, factor: int) -> dict[str, Numbers]:
    """Weights of all genes for a factor, by who gives them."""
    control, against = scores.mean(CONTROL), scores.mean(AGAINST)
    change = against - control
    stimulated, control_too = (cells.correlations(factor, rows) for rows in (cells.stimulated, ~cells.stimulated))
    return {
        "attention, rise": change[:, factor],
        "attention, fall": -change[:, factor],
        "attention, stimulated alone": against[:, factor],
        "attention, control alone": control[:, factor],
        "attention of the factor, rise": change[factor],
        "correlation, rise": stimulated - control_too,
        "correlation, stimulated alone": stimulated,
    }


def judge(data: Path, name: str, model: str, options: EmbedOptions, variable: int) -> dict[str, Any]:
    """Everything about a model."""
    began = time.perf_counter()
    how = AttentionOptions(TARGETS, CONDITION, CONTROL, AGAINST, variable=variable)
    found = from_attention(data / FILE, model, how, options, lambda done, total: _tell(name, done, total))
    seconds = time.perf_counter() - began
    tokens = open_bundle(model).vocabulary().tokens
    genes = [tokens[token] for token in found.scores.ids.tolist()]
    known = np.array([gene in SET for gene in genes])
    cells = expressed(data / FILE, genes)
    factors = {gene: genes.index(gene) for gene in TARGETS if gene in genes}
    of_factors = {gene: rankings(found.scores, cells, place) for gene, place in factors.items()}
    left_out = list(factors.values())  # a factor says nothing of itself
    rows = {
        gene: {who: judged(weights, known, left_out) for who, weights in by.items()} for gene, by in of_factors.items()
    }
    ways = next(iter(of_factors.values()))
    mean = {who: np.mean([by[who] for by in of_factors.values()], axis=0) for who in ways}
    mean["expression, rise"] = cells.differences()
    asked = len(known) - len(left_out)
    return {
        "facts": {word: found.network.record[word] for word in FACTS},
        "cells": {"ctrl": int(found.scores.divisors[0]), "stim": int(found.scores.divisors[1])},
        "genes": len(genes),
        "known": sorted(gene for gene, one in zip(genes, known, strict=True) if one),
        "not there": list(found.unknown),
        "chance": round(float((known.sum() - known[left_out].sum()) / asked), 3),
        "mean of factors": {who: judged(weights, known, left_out) for who, weights in mean.items()},
        "factors": rows,
        "top": {gene: _names(genes, by["attention, rise"], left_out) for gene, by in of_factors.items()},
        "seconds": round(seconds, 1),
        "cells a second": round(len(cells.stimulated) / seconds, 2),
        "rank milliseconds a cell": _rank_time(found.scores),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _names(genes: list[str], weights: Numbers, left_out: list[int]) -> list[str]:
    """The first genes; those of the set with a star."""
    order = [place for place in np.argsort(-weights, kind="stable").tolist() if place not in left_out]
    return [genes[place] + ("*" if genes[place] in SET else "") for place in order[: TOPS[0]]]


def _rank_time(scores: AttentionScores) -> float:
    """Milliseconds of one cell's ranks, best of a few."""
    n = scores.sums.shape[1]
    raw = np.random.default_rng(0).normal(size=(scores.n_heads, n, n)).astype(np.float32)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        rank_sums(raw, n)
        best = min(best, time.perf_counter() - began)
    return round(1000 * best, 1)


def _tell(name: str, done: int, total: int) -> None:
    if done % 200 == 0:
        print(f"{name}: {done:,} of {total:,} cells", flush=True)


def table(found: Mapping[str, Any]) -> str:
    """The mean over factors of all models, as Markdown."""
    lines = ["| model | ranking | precision at 20 | at 100 | p at 100 | AUROC |", "|---|---|---|---|---|---|"]
    for name, one in found.items():
        for who, row in one["mean of factors"].items():
            cells = (row["precision at 20"], row["precision at 100"], row["p at 100"], row["auroc"])
            lines.append(f"| {name} | {who} | {' | '.join(map(str, cells))} |")
        lines.append(f"| {name} | chance | {one['chance']} | {one['chance']} | | 0.5 |")
    return "\n".join(lines)


def main() -> None:
    """Judge the models that were named; figures of others stay in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, help="NAME=BUNDLE; may be repeated")
    parser.add_argument("--variable", type=int, default=1200)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/grn_attention.json"))
    asked = parser.parse_args()
    options = EmbedOptions(
        provider="cpu", precision="fp32", instances=asked.instances, threads=asked.instances, limit=asked.limit
    )
    told = json.loads(asked.output.read_text(encoding="utf-8")) if asked.output.exists() else {}
    for word in asked.model:
        name, _, bundle = word.partition("=")
        told[name] = judge(asked.data, name, bundle, options, asked.variable)
        asked.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(table(told))


if __name__ == "__main__":
    main()
