"""The ranges that a model's activations take on real cells.

In: cells that the user names, and a traced float32 model. Out: a `Range` for each activation that static int8 rounds.
Nothing else of the cells is kept. The same cells give the same ranges, whatever the number of cores.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from scgpt_export.static import Range, watched
from scgpt_export.store import WeightStore
from scgpt_runtime.batching import BatchPlan, rectangles
from scgpt_runtime.cells import Batch, CellBlock, TokenBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.manifest import Calibration, TokenizerSettings
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary, choose, taking_part

__all__ = ["CalibrationCells", "calibration_tokens", "observe", "record"]

_DIGITS = 9
"""Decimal digits that tell every float32 from its neighbours."""


@dataclass(frozen=True, slots=True)
class CalibrationCells:
    """Cells of a file.

    Attributes
    ----------
    block
        The cells.
    gene_names
        Gene names of the block's columns, by the column of ``var`` that they stand in.
    sha256
        Of the file.
    """

    block: CellBlock
    gene_names: Mapping[str, Sequence[str]]
    sha256: str


def calibration_tokens(
    cells: CalibrationCells,
    vocabulary: Vocabulary,
    settings: TokenizerSettings,
    binning_genes: Sequence[str],
    modalities: NDArray[np.uint8] | None = None,
) -> TokenBlock:
    """The cells as the bundle's users would have them tokenised.

    Parameters
    ----------
    cells
        As read.
    vocabulary, settings
        The bundle's.
    binning_genes
        Genes that take part; empty: all.
    modalities
        (n_tokens,) modality of each token, where there are several.

    Raises
    ------
    GenesError
        Too few of the genes are known.
    CellsError
        No cell has a known gene that is expressed.
    """
    columns = choose(cells.gene_names, vocabulary).columns
    columns = np.where((columns >= 0) & taking_part(vocabulary, binning_genes)[columns], columns, -1)
    tokens = tokenize(cells.block, columns, settings, len(vocabulary), modalities=modalities)
    if len(tokens.ids) == 0:
        raise CellsError(
            f"None of the {tokens.n_cells:,} calibration cells can be embedded. Name a file of cells with counts in X "
            "or layers/counts, of genes that the model knows."
        )
    return tokens


def observe(
    model: ir.Model, tokens: TokenBlock, settings: TokenizerSettings, n_batches: int, folder: Path
) -> tuple[Range, ...]:
    """Smallest and largest value of each activation over all cells.

    Parameters
    ----------
    model
        The traced ``embed`` model, float32.
    tokens, settings
        The cells, and what they were tokenised with.
    n_batches
        Batch labels that cells have in turn; 0 where the model has none.
    folder
        An empty folder for the watched graph.

    Raises
    ------
    CellsError
        A cell makes an activation that is not finite.
    """
    path = WeightStore(folder).write(watched(model), "watched.onnx")
    # Cells run side by side, each on one thread: sums are taken in one order whatever the number of cores.
    choice = ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 1, "one thread, the same ranges everywhere")
    session = Session.open(path, choice)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(workers) as pool:  # one cell at a time: padding would be seen as well
        alone = rectangles(tokens, settings, BatchPlan("padded", 1))
        seen = list(pool.map(lambda batch: _bounds(session, batch, n_batches), alone))
    session.close()
    found = np.stack(seen)  # (n_cells, n_sources, 2)
    if not np.isfinite(found).all():
        raise CellsError("An activation of a calibration cell is not finite in float32. Calibrate with other cells.")
    lows, highs = found[..., 0].min(axis=0), found[..., 1].max(axis=0)
    return tuple((float(low), float(high)) for low, high in zip(lows, highs, strict=True))


def record(cells: CalibrationCells, tokens: TokenBlock, ranges: Sequence[Range]) -> Calibration:
    """What the manifest keeps: which file, how many cells, and a digest of the ranges, which decide vectors."""
    told = ",".join(f"{bound:.{_DIGITS}g}" for bounds in ranges for bound in bounds)
    used = int(np.count_nonzero(np.diff(tokens.offsets)))
    return Calibration(cells.sha256, used, hashlib.sha256(told.encode()).hexdigest())


def _bounds(session: Session, batch: Batch, n_batches: int) -> NDArray[np.float32]:
    """(n_sources, 2) bounds of the activations of one cell."""
    known = {"ids": batch.ids, "values": batch.values, "lengths": batch.lengths}
    known["batch"] = (batch.cells % max(1, n_batches)).astype(np.int32)
    found = session.feed({spec.name: known[spec.name] for spec in session.inputs})
    return np.stack(list(found.values())).reshape(-1, 2)
