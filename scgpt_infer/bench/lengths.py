"""Cells to measure with: random ones of a given length, and a sample of the user's own.

In: a vocabulary and tokenizer settings, or a file of cells. Out: `TokenBlock`. It runs no model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.bench.result import CellFacts
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import choose, taking_part

__all__ = ["DEFAULT_LENGTHS", "OwnCells", "checked_lengths", "load_tokens", "own_cells", "random_tokens", "save_tokens"]

DEFAULT_LENGTHS = (64, 256, 600, 1200)
_DEFAULTS = EmbedOptions()
_KEPT = 4096
_BINS = 40
_QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, slots=True)
class OwnCells:
    """The user's cells: what they are like, and the tokens of the sample."""

    facts: CellFacts
    sample: TokenBlock


def checked_lengths(asked: tuple[int, ...] | None, settings: TokenizerSettings) -> tuple[int, ...]:
    """Lengths to measure at, ascending. By default those of `DEFAULT_LENGTHS` that the model takes, and its longest.

    Raises
    ------
    OptionError
        A length that no cell can have.
    """
    if asked is None:
        return tuple(sorted({*(n for n in DEFAULT_LENGTHS if n < settings.max_length), settings.max_length}))
    for length in asked:
        if not 2 <= length <= settings.max_length:
            raise OptionError(
                f"A length is {length}; expected 2 (<cls> and a gene) to {settings.max_length}, the longest cell that "
                "this bundle makes."
            )
    return tuple(sorted(set(asked)))


def random_tokens(n_cells: int, length: int, settings: TokenizerSettings, n_tokens: int, seed: int) -> TokenBlock:
    """Cells of one length with genes and values drawn from a seed, in canonical order.

    Parameters
    ----------
    n_cells, length
        How many, of how many tokens each.
    settings
        Tell the special tokens and whether values are binned.
    n_tokens
        Tokens of the vocabulary.
    seed
        The same seed gives the same cells.
    """
    random = np.random.default_rng((seed, length))
    genes = np.setdiff1d(np.arange(n_tokens), [settings.cls_id, settings.pad_id])
    repeats = length - 1 > len(genes)  # a vocabulary smaller than a cell: its genes come twice
    ids = np.empty((n_cells, length), np.uint16 if n_tokens <= 0xFFFF else np.uint32)
    ids[:, 0] = settings.cls_id
    for cell in ids:
        cell[1:] = np.sort(random.choice(genes, length - 1, replace=repeats))
    binned = settings.value_style == "binned"
    drawn = random.integers(1, settings.n_bins, ids.shape)
    drawn[:, 0] = settings.cls_code if binned else settings.cls_value
    values = drawn.astype(np.uint8).reshape(-1) if binned else drawn.astype(np.float32).reshape(-1)
    offsets = np.arange(n_cells + 1, dtype=np.int64) * length
    return TokenBlock(ids.reshape(-1), values, offsets, np.zeros(n_cells, np.uint8), 0)


def own_cells(bundle: Bundle, path: Path, n_sample: int, seed: int, options: EmbedOptions = _DEFAULTS) -> OwnCells:
    """Tokenise all cells of a file and keep a sample.

    Cells that might be sampled are drawn first, so that one pass over the file is enough; of these the sample takes
    one from each of `n_sample` equally large groups of like length, which makes its mean length that of the file.

    Parameters
    ----------
    bundle
        Gives vocabulary and settings.
    path
        A file that `scgpt_infer.readers` can open.
    n_sample
        Cells to keep.
    seed
        Seed of the draw.
    options
        Which matrix and gene names to take.

    Raises
    ------
    CellsError
        No cell has tokens.
    """
    with open_cells(path, layer=options.layer) as source:
        lengths, kept = _tokenised(bundle, source, seed, options)
    good = lengths[lengths > 0]
    if not kept:
        raise CellsError(
            f"None of the {len(lengths):,} cells of {path} can be embedded, so there is nothing to measure."
        )
    sample = _block(_stratified(kept, n_sample, np.random.default_rng((seed, 1))))
    width = max(1, -(-int(good.max()) // _BINS))
    facts = CellFacts(
        file=path.name,
        n_cells=len(lengths),
        n_bad=len(lengths) - len(good),
        mean=float(good.mean()),
        quantiles={f"p{percent}": round(float(np.percentile(good, percent))) for percent in _QUANTILES},
        histogram=tuple(int(count) for count in np.bincount(good // width)),
        bin_width=width,
        sampled=sample.n_cells,
        sampled_mean=float(np.diff(sample.offsets).mean()),
    )
    return OwnCells(facts, sample)


def save_tokens(tokens: TokenBlock, path: Path) -> None:
    """Write tokens for `load_tokens`."""
    np.savez(path, ids=tokens.ids, values=tokens.values, offsets=tokens.offsets)


def load_tokens(path: Path) -> TokenBlock:
    """Read what `save_tokens` wrote."""
    with np.load(path, allow_pickle=False) as found:
        offsets = found["offsets"]
        return TokenBlock(found["ids"], found["values"], offsets, np.zeros(len(offsets) - 1, np.uint8), 0)


_Cell = tuple[NDArray[Any], NDArray[Any]]
"""Token ids and values of one cell."""


def _tokenised(
    bundle: Bundle, source: CellSource, seed: int, options: EmbedOptions
) -> tuple[NDArray[np.int64], list[_Cell]]:
    """Length of every cell, and the tokens of those that may be sampled."""
    vocabulary = bundle.vocabulary()
    if options.gene_col is not None:
        source.gene_column(options.gene_col)
    match = choose(source.gene_names, vocabulary, options.genes, options.gene_col, options.min_match)
    columns = _binned(match.columns, bundle)
    rows = np.random.default_rng((seed, 0)).permutation(source.n_cells)[:_KEPT]
    modalities = bundle.modalities()
    of_tokens = None if modalities is None else modalities.of_tokens
    lengths = np.zeros(source.n_cells, np.int64)
    kept: list[_Cell] = []
    for block in source.blocks(grid(source.n_cells)):
        tokens = tokenize(block, columns, bundle.manifest.tokenizer, len(vocabulary), modalities=of_tokens)
        found = np.diff(tokens.offsets)
        lengths[block.first_row : block.first_row + block.n_cells] = found
        for row in np.sort(rows[(rows >= block.first_row) & (rows < block.first_row + block.n_cells)]):
            part = slice(*tokens.offsets[row - block.first_row :][:2])
            if part.stop > part.start:
                kept.append((tokens.ids[part].copy(), tokens.values[part].copy()))
    return lengths, kept


def _binned(columns: NDArray[np.int64], bundle: Bundle) -> NDArray[np.int64]:
    """Without the genes that binning never saw, where the bundle names those that it saw."""
    among = taking_part(bundle.vocabulary(), bundle.manifest.binning_genes)
    return np.where((columns >= 0) & among[columns], columns, -1)


def _stratified(cells: list[_Cell], n_sample: int, random: np.random.Generator) -> list[_Cell]:
    order = np.argsort([len(ids) for ids, _ in cells], kind="stable")
    groups = np.array_split(order, min(n_sample, len(order)))
    return [cells[random.choice(group)] for group in groups]


def _block(cells: list[_Cell]) -> TokenBlock:
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in cells])]).astype(np.int64)
    ids, values = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    return TokenBlock(ids, values, offsets, np.zeros(len(cells), np.uint8), 0)
