"""The batch of each cell: names in a column of ``obs`` become the numbers that a model has for its batches.

In: names, and those that the model was trained on. Out: `CellBatches`. It knows no file and no engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.integration.options import IntegrateOptions
from scgpt_infer.writers.sink import Record
from scgpt_runtime.errors import BundleError, CellsError, OptionError

__all__ = ["MINIBATCH", "NONE", "CellBatches", "label_cells"]

NONE = -1
"""Number of the batch of a cell that has none."""

MINIBATCH = 64
"""Cells that scGPT's integration tutorial embeds at a time; all of them get the statistics of the first one's batch."""

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class CellBatches:
    """The batch of each cell, as the model numbers them.

    Attributes
    ----------
    labels
        (n_cells,) int32 number of the batch whose statistics each cell gets, `NONE` for a cell without.
    counts
        Cells by batch of the model, those without a cell left out.
    by_fallback
        Cells whose own batch is unknown or missing, and that get the fallback's statistics.
    of_others
        Cells that the rule ``first`` gives the statistics of another batch than their own.
    how
        The options in force.
    """

    labels: NDArray[np.int32]
    counts: dict[str, int]
    by_fallback: int
    of_others: int
    how: IntegrateOptions

    @property
    def facts(self) -> Record:
        """What decides which statistics a cell gets, for the record."""
        renamed = ", ".join(f"{own}={name}" for own, name in sorted(self.how.batch_map.items()))
        return {
            "batch_column": self.how.batch or "",
            "batch_statistics": self.how.batch_statistics,
            "batch_fallback": self.how.batch_fallback or "",
            "batch_map": renamed,
            "n_by_fallback": self.by_fallback,
            "n_of_other_batches": self.of_others,
        }


def label_cells(
    names: NDArray[np.str_], known: Sequence[str], how: IntegrateOptions, model: str = "The model"
) -> CellBatches:
    """Number the batches of cells.

    Parameters
    ----------
    names
        (n_cells,) batch of each cell, empty where it is missing.
    known
        The model's batches, in the order of their numbers.
    how
        How names are mapped, what an unknown batch gets, and which rule holds.
    model
        Its name, for messages.

    Raises
    ------
    BundleError
        The model's batches have no names.
    OptionError
        The fallback, or a batch that names are mapped to, is not one of the model's.
    CellsError
        A batch is unknown and there is no fallback, or no cell has a batch.
    """
    numbers = {name: number for number, name in enumerate(known)}
    _check(numbers, how, model)
    found, which = np.unique(names, return_inverse=True)
    told = [how.batch_map.get(name, name) for name in found.tolist()]
    own = np.array([numbers.get(name, NONE) for name in told], np.int32)
    unknown = {
        name: int(np.count_nonzero(which == place))
        for place, name in enumerate(found.tolist())
        if name and own[place] == NONE
    }
    if how.batch_fallback is None:
        if unknown:
            raise _unknown_batches(unknown, known, how, model)
        labels = own[which]
        if not (labels >= 0).any():
            raise CellsError(f"No cell has a batch: the column {how.batch} of obs is empty. Name another (--batch).")
    else:
        labels = np.where(own == NONE, np.int32(numbers[how.batch_fallback]), own)[which]
    by_fallback = int(np.count_nonzero(own[which] == NONE)) if how.batch_fallback is not None else 0
    given = of_first(labels) if how.batch_statistics == "first" else labels
    counts = np.bincount(given[given >= 0], minlength=len(known)).tolist()
    return CellBatches(
        given.astype(np.int32),
        {name: count for name, count in zip(known, counts, strict=True) if count},
        by_fallback,
        int(np.count_nonzero(given != labels)),
        how,
    )


def of_first(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n_cells,) the batch whose statistics each cell gets under the original's rule.

    Cells sorted by their batch (stably), 64 at a time: all of them get the statistics of the first one's batch. As
    scGPT's integration tutorial does it (``encode_batch`` over cells sorted by ``batch_id``; its norm reads the first
    label of a minibatch alone). Cells without a batch keep none and take no place.
    """
    given = labels.copy()
    rows = np.argsort(labels, kind="stable")
    rows = rows[labels[rows] != NONE]
    firsts = rows[np.arange(len(rows)) // MINIBATCH * MINIBATCH]
    given[rows] = labels[firsts]
    return given


def _check(numbers: Mapping[str, int], how: IntegrateOptions, model: str) -> None:
    if not numbers:
        raise BundleError(
            f"{model} normalises by batch, and its bundle does not name its batches. Export the checkpoint again, with "
            "--batches (JSON, or FILE.h5ad:COLUMN of obs)."
        )
    if how.batch_fallback is not None and how.batch_fallback not in numbers:
        raise OptionError(
            f"The fallback {how.batch_fallback!r} is no batch of {model}. It has {_listed([*numbers])}. "
            "Name one of them (--batch-fallback, batch_fallback=...)."
        )
    strangers = sorted({name for name in how.batch_map.values() if name not in numbers})
    if strangers:
        raise OptionError(
            f"The batch map leads to {_listed(strangers)}, which {model} does not have. It has {_listed([*numbers])}."
        )


def _unknown_batches(unknown: Mapping[str, int], known: Sequence[str], how: IntegrateOptions, model: str) -> CellsError:
    told = _listed([f"{name} ({count:,} cells)" for name, count in unknown.items()])
    return CellsError(
        f"The column {how.batch} of obs has {len(unknown)} {'batches' if len(unknown) > 1 else 'batch'} that {model} "
        f"was not trained on: {told}. It knows {_listed(known)}. If one of these is meant, map the names "
        "(--batch-map FILE.json, batch_map=...). For cells of new batches choose a known one whose statistics they "
        "get, best one of the same technology (--batch-fallback NAME, batch_fallback=...)."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
