"""Genes without a value as tokens: against a restatement of scGPT's fine-tuning path, ``include_zero_gene=True``."""

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime.batching import BatchPlan, rectangles
from scgpt_runtime.cells import CellBlock, CellFault, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

N_GENES, N_TOKENS = 80, 130
CLS, PAD = 128, 129
TUNED = TokenizerSettings(CLS, PAD, cls_value=0.0, include_zeros=True, ties="one-sided")
Pairs = list[tuple[int, float]]


def preprocessed(counts: NDArray[np.float32], n_bins: int) -> NDArray[np.int64]:
    """Restate the binning of scGPT's ``Preprocessor``, with side "one": each row on its own values that are not 0."""
    layer = np.zeros(counts.shape, np.int64)
    for row, values in enumerate(counts):
        there = values.nonzero()[0]
        edges = np.quantile(values[there], np.linspace(0, 1, n_bins - 1))
        layer[row, there] = np.digitize(values[there], edges)
    return layer


def tokenize_and_pad_batch(
    layer, gene_ids, max_len, include_zero_gene
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Restate the function of that name in gene_tokenizer.py; cells longer than `max_len` are not asked for."""
    cells = []
    for row in layer:
        kept = np.arange(len(row)) if include_zero_gene else np.nonzero(row)[0]
        cells.append((np.insert(gene_ids[kept], 0, CLS), np.insert(row[kept].astype(np.float32), 0, 0)))
    longest = min(max_len, max(len(genes) for genes, _ in cells))
    genes, values = np.full((len(cells), longest), PAD), np.full((len(cells), longest), -2, np.float32)
    for row, (ids, expression) in enumerate(cells):
        assert len(ids) <= max_len
        genes[row, : len(ids)], values[row, : len(ids)] = ids, expression
    return genes, values


@pytest.fixture(scope="module")
def counts() -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    dense = random.negative_binomial(1, 0.3, (30, N_GENES)) * (random.random((30, N_GENES)) < 0.4)
    dense[:, 0] += 1
    return dense.astype(np.float32)


@pytest.fixture(scope="module")
def gene_ids() -> NDArray[np.int64]:
    """In no order; two columns are one gene."""
    ids = np.random.default_rng(1).permutation(N_TOKENS - 2)[:N_GENES]
    ids[7] = ids[30]
    return ids


def block(counts: NDArray[np.float32]) -> CellBlock:
    rows, columns = counts.nonzero()
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(counts)))])
    return CellBlock(indptr, columns.astype(np.int32), counts[rows, columns], 0)


def pairs(tokens: TokenBlock, settings: TokenizerSettings) -> list[Pairs]:
    levels = np.array(settings.levels)
    spans = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    told = levels[tokens.values] if settings.value_style == "binned" else tokens.values
    return [list(zip(tokens.ids[a:b].tolist(), told[a:b].tolist(), strict=True)) for a, b in spans]


@pytest.mark.parametrize("n_bins", [51, 11])
@pytest.mark.parametrize("zeros", [True, False])
def test_tokens_are_those_of_the_originals_fine_tuning(counts, gene_ids, n_bins, zeros) -> None:
    settings = TokenizerSettings(CLS, PAD, cls_value=0.0, n_bins=n_bins, ties="one-sided", include_zeros=zeros)
    found = pairs(tokenize(block(counts), gene_ids, settings, N_TOKENS), settings)
    genes, values = tokenize_and_pad_batch(preprocessed(counts, n_bins), gene_ids, 1200, zeros)
    for cell, ids, expression in zip(found, genes, values, strict=True):
        real = ids != PAD
        expected = list(zip(ids[real].tolist(), expression[real].tolist(), strict=True))
        assert cell[0] == expected[0] == (CLS, 0)
        assert cell[1:] == sorted(expected[1:])


def test_values_that_are_not_binned_have_zeros_as_they_are(counts, gene_ids) -> None:
    settings = TokenizerSettings(CLS, PAD, cls_value=0.0, value_style="raw", include_zeros=True)
    found = pairs(tokenize(block(counts), gene_ids, settings, N_TOKENS), settings)
    for cell, row in zip(found, counts, strict=True):
        assert cell[1:] == sorted(zip(gene_ids.tolist(), row.tolist(), strict=True))


def test_all_cells_have_one_length_and_batches_no_padding(counts, gene_ids) -> None:
    tokens = tokenize(block(counts), gene_ids, TUNED, N_TOKENS)
    assert set(np.diff(tokens.offsets)) == {N_GENES + 1}
    for batch in rectangles(tokens, TUNED, BatchPlan("padded", 1000)):
        assert (batch.lengths == batch.ids.shape[1]).all()


def test_unknown_genes_stay_out(counts, gene_ids) -> None:
    fewer = np.where(np.arange(N_GENES) % 3 == 0, -1, gene_ids)
    tokens = tokenize(block(counts), fewer, TUNED, N_TOKENS)
    known = sorted(fewer[fewer >= 0].tolist())
    for start, stop in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        assert tokens.ids[start + 1 : stop].tolist() == known


def test_cells_with_nothing_known_stay_faults_and_harm_no_other(counts, gene_ids) -> None:
    bad = counts.copy()
    bad[3] = 0
    bad[5] = 0
    bad[5, 9] = 4
    bad[8, 2] = np.nan
    columns = gene_ids.copy()
    columns[9] = -1
    good = tokenize(block(counts), columns, TUNED, N_TOKENS)
    found = tokenize(block(bad), columns, TUNED, N_TOKENS)
    faults = np.zeros(len(counts), int)
    faults[[3, 5, 8]] = CellFault.NO_COUNTS, CellFault.NO_KNOWN_GENE, CellFault.NAN
    assert found.faults.tolist() == faults.tolist()
    for cell, (ours, without) in enumerate(zip(pairs(found, TUNED), pairs(good, TUNED), strict=True)):
        assert ours == ([] if faults[cell] else without)


@pytest.mark.parametrize("sample", ["hash", "top"])
def test_cells_that_are_too_long_keep_the_bins_that_they_had(counts, gene_ids, sample) -> None:
    whole = pairs(tokenize(block(counts), gene_ids, TUNED, N_TOKENS), TUNED)
    short = TokenizerSettings(CLS, PAD, 41, cls_value=0.0, include_zeros=True, ties="one-sided", sample=sample)
    for cell, cut in zip(whole, pairs(tokenize(block(counts), gene_ids, short, N_TOKENS), short), strict=True):
        assert len(cut) == 41
        assert all(cut.count(token) <= cell.count(token) for token in cut)
        if sample == "top":  # zeros go before any value does
            assert sum(value > 0 for _, value in cut) == min(40, sum(value > 0 for _, value in cell))


def test_rows_do_not_depend_on_threads_or_neighbours(counts, gene_ids) -> None:
    drawn = TokenizerSettings(CLS, PAD, 41, cls_value=0.0, include_zeros=True)
    together = tokenize(block(counts), gene_ids, drawn, N_TOKENS, threads=3)
    alone = [tokenize(block(counts[row : row + 1]), gene_ids, drawn, N_TOKENS) for row in range(len(counts))]
    np.testing.assert_array_equal(together.ids, np.concatenate([tokens.ids for tokens in alone]))
    np.testing.assert_array_equal(together.values, np.concatenate([tokens.values for tokens in alone]))


def test_cells_of_one_file_do_not_draw_alike(counts, gene_ids) -> None:
    drawn = TokenizerSettings(CLS, PAD, 41, cls_value=0.0, include_zeros=True)
    tokens = tokenize(block(counts), gene_ids, drawn, N_TOKENS)
    kept = {tuple(tokens.ids[a:b].tolist()) for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)}
    assert len(kept) > len(counts) // 2, "all cells have the same ids before sampling, not after it"
