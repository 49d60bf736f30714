"""Vectors of genes: the model's own embeddings, and what it makes of genes in cells.

`context_free` and `in_cells` give them in memory, `genes_file` writes them, `cell_genes` streams those of each cell.
"""

from scgpt_infer.gene_vectors.asked import GeneOptions
from scgpt_infer.gene_vectors.jobs import context_free, genes_file, in_cells
from scgpt_infer.gene_vectors.stream import CellGenes, cell_genes, open_states
from scgpt_infer.gene_vectors.summary import GeneSummary
from scgpt_infer.gene_vectors.table import GeneVectors
from scgpt_infer.wanted import read_names

__all__ = [
    "CellGenes",
    "GeneOptions",
    "GeneSummary",
    "GeneVectors",
    "cell_genes",
    "context_free",
    "genes_file",
    "in_cells",
    "open_states",
    "read_names",
]
