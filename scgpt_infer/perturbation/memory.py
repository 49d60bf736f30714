"""How many cells go into a batch within the memory that the user grants: `cells_in_batch`.

In: sizes. Out: numbers. The answer depends on what was asked for and on the bundle alone, never on what is
free, so that the same words give the same batches.
"""

from scgpt_infer.perturbation.cells import Cells
from scgpt_infer.perturbation.sums import ProfileSums
from scgpt_infer.sizes import size
from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import Manifest

__all__ = ["BATCH_TOKENS", "cells_in_batch", "held_bytes"]

BATCH_TOKENS = 4096
"""Most tokens in a batch on a processor, however much memory there is: more of them are not faster."""

PROCESS_BYTES = 300_000_000
"""What Python, its libraries and an open engine hold before the first batch, weights not counted."""

_COPIES = 2
"""Weights as the file has them, and as a provider packs them."""


def cells_in_batch(memory: int | None, n_tokens: int, cell: int, held: int, instances: int, batch_tokens: int) -> int:
    """Cells that go into a batch.

    Parameters
    ----------
    memory
        Bytes that are granted; None: no limit.
    n_tokens
        Tokens of a cell.
    cell
        Bytes that the model takes for one cell of a batch.
    held
        Bytes that are held whatever the batch: weights, control cells, sums.
    instances
        Batches that are answered at a time.
    batch_tokens
        Most tokens in a batch.

    Raises
    ------
    OptionError
        Not even one cell fits.
    """
    most = max(1, batch_tokens // n_tokens)
    if memory is None:
        return most
    fit = (memory - held - PROCESS_BYTES) // (cell * instances)
    if fit < 1:
        needed = held + PROCESS_BYTES + cell * instances
        raise OptionError(
            f"One cell of {n_tokens:,} genes takes {size(cell)}"
            + (f" in each of {instances} instances" if instances > 1 else "")
            + f", beside {size(held + PROCESS_BYTES)} for the process, the model, the control cells and the results: "
            f"{size(needed)} in all, and {size(memory)} were granted. Grant more (--memory), give a file with fewer "
            "genes, or take fewer control cells (--cells)."
        )
    return int(min(most, fit))


def held_bytes(manifest: Manifest, cells: Cells, n_asked: int) -> int:
    """Bytes that are held whatever the batch: weights, cells, sums.

    Parameters
    ----------
    manifest
        Of the bundle.
    cells
        Control cells.
    n_asked
        Perturbations.
    """
    weights = max((record.size for record in manifest.files if record.path.startswith("graphs/")), default=0)
    values = cells.values
    matrix = int(values.data.nbytes + values.indices.nbytes + values.indptr.nbytes)
    return _COPIES * weights + matrix + 2 * ProfileSums.bytes_of(n_asked, values.shape[1])
