"""How fast cells become tokens, from memory and from a file.

    python benchmarks/tokenizer.py CELLS.h5ad [--bundle demo|PATH] [--threads 2] [--rounds 7] [--original FOLDER]

CELLS.h5ad holds raw counts; log1p of counts per 10,000 is made of them. The cases take turns, round by round, after
one round that is not counted; median, minimum and maximum. The original's way is that of scGPT's zero-shot path, in
one process, from a dense matrix that is made before the clock starts: in numpy, and by its own collator from a folder
that holds the package (``benchmarks/setup_original`` makes one). Exits with 3 when less than 20 million
tokens a second leave the tokenizer on all threads.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from anndata.io import write_elem
from scipy import sparse

from benchmarks.peers import original_tokens
from benchmarks.study.machine import describe
from scgpt_infer import models
from scgpt_infer.readers import open_cells
from scgpt_infer.readers.chunks import inflated
from scgpt_infer.readers.matrix import CsrRows, blocks
from scgpt_infer.spans import grid
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary, choose

GOAL = 20e6
"""Tokens a second, from CSR in memory, on all threads."""

ORIGINAL_CELLS = 512
STORED = {
    "uncompressed": {},
    "gzip": {"compression": "gzip"},
    "gzip, shuffled": {"compression": "gzip", "shuffle": True},
}
Case = Callable[[], int]  # gives the tokens, or the stored values, that it made


@dataclass(frozen=True, slots=True)
class Rules:
    """What the tokenizer takes of a bundle, read once: reading a vocabulary takes longer than a block of cells."""

    settings: TokenizerSettings
    vocabulary: Vocabulary

    @classmethod
    def of(cls, bundle: Bundle) -> "Rules":
        """The rules of a bundle."""
        return cls(bundle.manifest.tokenizer, bundle.vocabulary())


def in_memory(cells: list[CellBlock], columns: np.ndarray, bundle: Rules, threads: int) -> int:
    """Tokens of blocks in memory."""
    settings, size = bundle.settings, len(bundle.vocabulary)
    return sum(len(tokenize(block, columns, settings, size, threads).ids) for block in cells)


def from_file(path: Path, threads: int) -> Iterator[CellBlock]:
    """Blocks of a file; with 0 threads, h5py inflates."""
    with h5py.File(path, rdcc_nbytes=32 << 20, rdcc_nslots=10_007) as file:
        group = file["X"]
        arrays = [group[name] if threads == 0 else inflated(group[name], threads) for name in ("indices", "data")]
        rows = CsrRows(group["indptr"], *arrays, tuple(group.attrs["shape"]), "X")
        yield from blocks(rows, grid(rows.shape[0]))


def logged(block: CellBlock) -> CellBlock:
    """Counts as log1p of counts per 10,000."""
    totals = np.add.reduceat(np.append(block.data, 0), block.indptr[:-1])
    scaled = block.data / np.repeat(np.maximum(totals, 1), np.diff(block.indptr)) * 1e4
    return CellBlock(block.indptr, block.indices, np.log1p(scaled).astype(np.float32), block.first_row)


def matrix_of(cells: list[CellBlock], n_genes: int) -> sparse.csr_matrix:
    """The cells of blocks as one matrix."""
    parts = [sparse.csr_matrix((b.data, b.indices, b.indptr), (b.n_cells, n_genes)) for b in cells]
    return sparse.vstack(parts, format="csr")


def memory_cases(given: argparse.Namespace, inputs: dict[str, list[CellBlock]], columns: np.ndarray) -> dict[str, Case]:
    """The tokenizer, and the original's way on the first cells."""
    bundle = given.bundle
    settings, known = bundle.settings, np.flatnonzero(columns >= 0)
    limits = settings.max_length, settings.pad_id
    ways = {"the original's way in numpy": lambda cells: original_tokens.by_numpy(cells, *limits)}
    if given.original:
        ways["the original's own collator"] = original_tokens.collator(given.original, *limits)
    cases: dict[str, Case] = {}
    for values, cells in inputs.items():
        for threads in sorted({1, given.threads}):
            cases[f"{values}, {threads} threads"] = partial(in_memory, cells, columns, bundle, threads)
        dense = matrix_of(cells[:1], len(columns))[:ORIGINAL_CELLS, known].toarray()
        for name, collate in ways.items():
            cases[f"{values}, {name}"] = partial(
                original_tokens.n_tokens, dense, columns[known], settings.cls_id, settings.pad_id, collate
            )
    return cases


def file_cases(given: argparse.Namespace, inputs: dict[str, list[CellBlock]], columns: np.ndarray) -> dict[str, Case]:
    """Reading alone, and reading with tokenizing; the files are written here."""
    cases: dict[str, Case] = {}
    for values, cells in inputs.items():
        for storage, options in STORED.items():
            path = given.folder / f"{values}.{storage.replace(', ', '.')}.h5ad"
            with h5py.File(path, "w") as file:
                write_elem(file, "X", matrix_of(cells, len(columns)), dataset_kwargs=options)
            for threads in (0, *sorted({1, given.threads})) if options else (0,):
                who = f"inflated by {threads} threads" if threads else "h5py"
                cases[f"{values}, {storage}, {who}"] = partial(read_alone, path, threads)
                cases[f"{values}, {storage}, {who}, tokenized"] = partial(
                    read_and_tokenize, path, threads, columns, given.bundle
                )
    return cases


def read_alone(path: Path, threads: int) -> int:
    """Stored values of a file."""
    return sum(len(block.data) for block in from_file(path, threads))


def read_and_tokenize(path: Path, threads: int, columns: np.ndarray, bundle: Rules) -> int:
    """Tokens of a file, one block after the other."""
    return sum(in_memory([block], columns, bundle, max(threads, 1)) for block in from_file(path, threads))


def rounds(cases: dict[str, Case], n: int) -> dict[str, list[float]]:
    """Millions a second of each case in each round."""
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for counted in range(-1, n):
        for name, case in cases.items():
            started = time.perf_counter()
            made = case()
            if counted >= 0:
                rates[name].append(made / (time.perf_counter() - started) / 1e6)
    return rates


def table(title: str, rates: dict[str, list[float]]) -> None:
    """Print a line a case."""
    print(f"\n{title:<58}{'median':>9}{'min':>9}{'max':>9}")
    for name, found in rates.items():
        print(f"{name:<58}{statistics.median(found):>9.2f}{min(found):>9.2f}{max(found):>9.2f}")


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    given = _parser().parse_args(arguments)
    given.bundle = Rules.of(models.resolve(given.bundle))
    with open_cells(given.cells) as source:
        if source.values != "integer":
            raise SystemExit(f"{given.cells}: {source.counts} is {source.values}; expected a file of raw counts.")
        columns = choose(source.gene_names, given.bundle.vocabulary).columns
        counts = list(source.blocks(grid(source.n_cells)))
    inputs = {"integer": counts, "log1p": [logged(block) for block in counts]}
    stored, tokens = sum(len(b.data) for b in counts), in_memory(counts, columns, given.bundle, 1)
    n_cells = sum(b.n_cells for b in counts)
    print(f"{n_cells:,} cells; {stored / n_cells:,.0f} stored values and {tokens / n_cells:,.0f} tokens a cell")
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        memory = rounds(memory_cases(given, inputs, columns), given.rounds)
        file = rounds(file_cases(given, inputs, columns), given.rounds)
    reading = {name: found for name, found in file.items() if not name.endswith(", tokenized")}
    ending = {name: found for name, found in file.items() if name not in reading}
    table("million tokens/s from CSR in memory", memory)
    table("million stored values/s (8 bytes each) from a file", reading)
    table("million tokens/s from a file", ending)
    slow = [v for v in inputs if statistics.median(memory[f"{v}, {given.threads} threads"]) * 1e6 < GOAL]
    if given.json:
        record = {"machine": describe(), "cells": n_cells, "stored_a_cell": stored / n_cells,
                  "tokens_a_cell": tokens / n_cells, "rounds": given.rounds, "threads": given.threads,
                  "tokens_from_memory": memory, "values_from_file": reading, "tokens_from_file": ending}  # fmt: skip
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 3 if slow else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, metavar="CELLS.h5ad")
    parser.add_argument("--bundle", default="demo", help="demo, or the path of a bundle")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--original", type=Path, help="folder that holds the package scgpt")
    parser.add_argument("--json", type=Path, help="where to write all rounds")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
