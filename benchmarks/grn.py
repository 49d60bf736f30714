"""Does a network from gene embeddings mean anything? Families of genes against random pairs and co-expression.

    python -m benchmarks.grn --data FOLDER [--model demo] [--genes 60697] [-o benchmarks/results/grn.json]

FOLDER holds pbmc_10batches_3000.h5ad. A family is a set of genes that HGNC names by one root since they are subunits of
one complex or of one close family: what a network should join. Of each network the strongest edges are taken, as many
of each, among the genes that model and cells share and that at least `SEEN` cells of each batch express: the batches
do not name all genes alike, and what is absent together is not expressed together. Networks: the model's
embeddings; Pearson correlation over the cells of log1p counts per 10,000, of all cells, and centred within each of the
ten batches; and nearness of mean expression, which knows nothing but how much of a gene there is. The demo model was
trained on most of these cells, so both see the same data. Metagenes are held against those of scanpy with the settings
of scGPT's tutorial. A network of random vectors as wide and as many as the public models' gives time and memory alone.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from numpy.typing import NDArray

from benchmarks.study.machine import describe
from scgpt_infer.gene_vectors import GeneOptions, context_free
from scgpt_infer.networks.metagenes import metagenes
from scgpt_infer.networks.similarity import Edges, near_edges, unit

ROOT = Path(__file__).resolve().parents[1]
FILE = "pbmc_10batches_3000.h5ad"
SEEN = 3
NEIGHBOURS, RESOLUTION, MIN_GENES = 15, 20.0, 5
STRONGEST = (500, 2000, 8000)

FAMILIES = {
    "ribosomal proteins": r"RP[LS]\d+[AXYL]?\d*|RPLP[012]|RPSA",
    "mitochondrial genome": r"MT-(ND\d|ND4L|CO\d|ATP\d|CYB)",
    "HLA class I": r"HLA-[ABCEFG]",
    "HLA class II": r"HLA-D[A-Z]+\d?",
    "respiratory complex I": r"NDUF(A|AB|B|C|S|V)\d+",
    "cytochrome c oxidase": r"COX[4-8][A-C]?\d*",
    "ATP synthase": r"ATP5(F1[A-E]|M[A-Z]\d?|P[A-Z]\d?|IF1)",
    "V-type ATPase": r"ATP6V[01][A-H]\d?",
    "proteasome": r"PSM[A-E]\d+",
    "chaperonin": r"CCT\d[AB]?|TCP1",
    "MCM complex": r"MCM[2-7]",
    "eIF3": r"EIF3[A-M]",
    "spliceosome (Sm)": r"SNRP(A1|[ABCDEFGN]|B2|D\d)|SNRNP\d+",
    "Arp2/3": r"ARPC\d[AB]?",
    "interferon response": r"IFI\d+L?|IFIT\d|IFITM\d|ISG15|ISG20|MX[12]|OAS[123L]",
    "T-cell receptor and CD3": r"CD3[DEG]|CD247|TR[ABDG]C\d?",
    "immunoglobulin chains": r"IGH[ADEGM]\d?|IGHG\d|IGKC|IGLC\d|JCHAIN",
    "killer-cell receptors": r"KLR[BCDFGK]\d|KIR[23]D.*",
    "granzymes": r"GZM[ABHKM]",
    "GIMAP": r"GIMAP\d",
    "S100": r"S100A\d+",
    "Fc gamma receptors": r"FCGR[123][AB]?|FCER1G",
}
"""Roots of HGNC symbols (genenames.org, gene groups)."""

Numbers = NDArray[np.float64]


def families(genes: list[str]) -> dict[str, NDArray[np.int64]]:
    """Places of the genes of each family that has two or more."""
    found = {
        name: np.array([place for place, gene in enumerate(genes) if re.fullmatch(root, gene)], np.int64)
        for name, root in FAMILIES.items()
    }
    return {name: places for name, places in found.items() if len(places) > 1}


def logged(cells: anndata.AnnData) -> Numbers:
    """(n_cells, n_genes) log1p of counts per 10,000."""
    counts = np.asarray(cells.X.toarray(), np.float64)
    values: Numbers = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    return values


def correlated(values: Numbers) -> Edges:
    """Nearest genes by Pearson correlation over cells: the cosine of what is centred."""
    return near_edges(unit((values - values.mean(axis=0)).T.astype(np.float32)), NEIGHBOURS)


def by_mean(values: Numbers) -> Edges:
    """Pairs of genes that are next to each other in mean expression, the nearest first."""
    means = values.mean(axis=0)
    order = np.argsort(means, kind="stable")
    pairs = [(order[i], order[i + step]) for step in range(1, NEIGHBOURS) for i in range(len(order) - step)]
    low, high = np.sort(np.array(pairs, np.int64), axis=1).T
    apart = np.abs(means[low] - means[high])
    nearest = np.lexsort((high, low, apart))
    return Edges(low[nearest].astype(np.int32), high[nearest].astype(np.int32), -apart[nearest].astype(np.float32))


def judged(edges: Edges, known: dict[str, NDArray[np.int64]], n_genes: int, n_edges: int) -> dict[str, Any]:
    """How many of the strongest edges lie within a family, against pairs at random; with and without the largest."""
    label = np.full(n_genes, -1)
    for number, places in enumerate(known.values()):
        label[places] = number
    within = label[edges.source[:n_edges]]
    within = np.where(within == label[edges.target[:n_edges]], within, -1)
    sizes = np.array([len(places) for places in known.values()])
    pairs, all_pairs = sizes * (sizes - 1) // 2, n_genes * (n_genes - 1) // 2
    hits = np.bincount(within[within >= 0], minlength=len(known))
    largest = int(sizes.argmax())
    told: dict[str, Any] = {"edges": n_edges}
    for name, kept in (("all", np.ones(len(sizes), bool)), ("without ribosomal", np.arange(len(sizes)) != largest)):
        expected = n_edges * pairs[kept].sum() / all_pairs
        told[name] = {
            "within": int(hits[kept].sum()),
            "at random": float(expected),
            "times": hits[kept].sum() / expected,
        }
        told[name]["families found"] = int((hits[kept] > 0).sum())
    told["pairs"] = {name: [int(hit), int(of)] for name, hit, of in zip(known, hits, pairs, strict=True)}
    return told


def held_together(groups: NDArray[np.int32], known: dict[str, NDArray[np.int64]]) -> dict[str, list[int]]:
    """Of each family of four or more: genes in its best metagene, genes of that metagene, genes of the family."""
    told = {}
    for name, places in known.items():
        inside = groups[places][groups[places] > 0]
        if len(places) >= 4:
            best = int(np.bincount(inside).argmax()) if len(inside) else 0
            told[name] = [int((inside == best).sum()), int((groups == best).sum()) if best else 0, len(places)]
    return told


def scanpy_metagenes(vectors: NDArray[np.float32]) -> NDArray[np.int32]:
    """Clusters as scGPT's ``GeneEmbedding.get_adata`` makes them: scanpy's neighbors (15, Euclidean) and Leiden, 20."""
    import warnings

    import scanpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = anndata.AnnData(vectors)
        scanpy.pp.neighbors(table, use_rep="X", n_neighbors=NEIGHBOURS)
        scanpy.tl.leiden(table, resolution=RESOLUTION, flavor="igraph", n_iterations=-1, directed=False)
    found: NDArray[np.int32] = table.obs["leiden"].to_numpy().astype(np.int32)
    return found


def embeddings_part(data: Path, model: str) -> dict[str, Any]:
    """All networks on the genes that model and cells share."""
    from sklearn.metrics import adjusted_rand_score

    cells = anndata.read_h5ad(data / FILE)
    own = context_free(model, GeneOptions())
    batches = cells.obs["batch"].to_numpy()
    expressed = [np.asarray((cells.X[batches == batch] > 0).sum(axis=0)).ravel() for batch in np.unique(batches)]
    seen = np.min(expressed, axis=0) >= SEEN
    place = {gene: row for row, gene in enumerate(own.genes)}
    columns = [column for column, gene in enumerate(cells.var_names) if seen[column] and gene in place]
    genes = [cells.var_names[column] for column in columns]
    vectors = own.vectors[[place[gene] for gene in genes]]
    values = logged(cells)[:, columns]
    centred = values.copy()
    for batch in np.unique(batches):
        centred[batches == batch] -= values[batches == batch].mean(axis=0)
    networks = {
        "embeddings": near_edges(unit(vectors), NEIGHBOURS),
        "Pearson": correlated(values),
        "Pearson within batches": correlated(centred),
        "like mean expression": by_mean(values),
    }
    known = families(genes)
    groups = {
        name: metagenes(edges, len(genes), RESOLUTION, MIN_GENES, 0)
        for name, edges in networks.items()
        if name != "like mean expression"
    }
    theirs = scanpy_metagenes(vectors)
    ours = metagenes(networks["embeddings"], len(genes), RESOLUTION, 1, 0)
    other = metagenes(networks["embeddings"], len(genes), RESOLUTION, 1, 1)
    return {
        "model": str(own.record["model"]),
        "vector_id": str(own.record["vector_id"]),
        "cells": int(cells.n_obs),
        "genes": len(genes),
        "families": {name: len(places) for name, places in known.items()},
        "edges": {
            name: [judged(edges, known, len(genes), n) for n in STRONGEST if n <= len(edges.cosine)]
            for name, edges in networks.items()
        },
        "metagenes": {name: held_together(found, known) for name, found in groups.items()},
        "number of metagenes": {name: int(found.max()) for name, found in groups.items()},
        "adjusted Rand index": {
            "ours and scanpy's": float(adjusted_rand_score(ours, theirs)),
            "ours with another seed": float(adjusted_rand_score(ours, other)),
        },
    }


_SCALE = """
import json, resource, sys, time
import numpy as np
from scgpt_infer.networks.metagenes import metagenes
from scgpt_infer.networks.similarity import near_edges, unit
n, dim = int(sys.argv[1]), int(sys.argv[2])
vectors = unit(np.random.default_rng(0).standard_normal((n, dim), dtype=np.float32))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
edges = near_edges(vectors, 15)
joined, middle = peak(), time.perf_counter()
groups = metagenes(edges, n, 20.0, 5, 0)
print(json.dumps({"genes": n, "dim": dim, "edges": len(edges.cosine), "seconds of edges": middle - start,
    "seconds of Leiden": time.perf_counter() - middle, "bytes before": before, "bytes with edges": joined,
    "bytes with metagenes": peak()}))
"""


def scale_part(n_genes: int, dim: int) -> dict[str, Any]:
    """Time and memory of random vectors, in a process of their own."""
    words = [sys.executable, "-c", _SCALE, str(n_genes), str(dim)]
    told: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return told


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--genes", type=int, default=60_697, help="random vectors for time and memory; 0: none")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--output", "-o", type=Path, default=ROOT / "benchmarks/results/grn.json")
    asked = parser.parse_args()
    told: dict[str, Any] = {"machine": describe(), "embeddings": embeddings_part(asked.data, asked.model)}
    if asked.genes:
        told["scale"] = scale_part(asked.genes, asked.dim)
    asked.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
