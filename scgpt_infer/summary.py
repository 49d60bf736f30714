"""What one run did: `Summary`, with its `BadCell` rows, for people, for ``--json`` and for the file that was written.

Plain values. It knows nothing of how they came about.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

__all__ = ["LISTED", "BadCell", "BadCells", "BadFile", "Summary"]

LISTED = 1000
"""Cells without a result that are kept one by one, the first of them; the counts by reason cover all."""


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell without an embedding: its row, its name and why."""

    row: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file of several of which cells are missing, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class BadCells:
    """Cells without a result, as they are found; millions of them take no more memory than a thousand.

    Attributes
    ----------
    first
        The first `LISTED` in the order in which they were found.
    count
        All of them.
    reasons
        Their number by reason.
    """

    first: list[BadCell] = field(default_factory=list)
    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, first_row: int, reasons: Sequence[str], names: Sequence[str]) -> None:
        """Take the bad ones of the cells from a row on: those with a reason."""
        for place, reason in enumerate(reasons):
            if not reason:
                continue
            if len(self.first) < LISTED:
                self.first.append(BadCell(first_row + place, names[place], reason))
            self.count += 1
            self.reasons[reason] += 1

    @classmethod
    def of(cls, cells: Sequence[BadCell]) -> Self:
        """So many that are known already."""
        return cls(list(cells[:LISTED]), len(cells), Counter(cell.reason for cell in cells))

    def by_reason(self) -> dict[str, int]:
        """Their number by reason, the most frequent first."""
        return dict(self.reasons.most_common())


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a run says of itself.

    Attributes
    ----------
    model, vector_id
        Name of the model, and the id that two vectors must share to be comparable.
    output, key
        File that was written (None: kept in memory), of a shard the folder of parts, and name of the embedding in it.
    dim
        Width of the embedding.
    n_cells, n_embedded
        Cells that were read, and those of them that have an embedding.
    n_kept
        Those that an earlier run of the same job had done, which was interrupted.
    n_bad, reasons
        Cells without an embedding, and their number by reason, the most frequent first.
    bad
        The first 1,000 of them, in row order.
    n_genes, n_matched, match_fraction, gene_col, genes, match_report
        How the genes met the vocabulary.
    counts, values, counts_why
        Where the counts came from, what they look like, and the words that say why they were taken and how the file
        was understood.
    provider, precision, dialect, devices, threads, instances, batch_tokens, why
        What computed, with which graph, on which GPUs, on how many cores and how many batches at a time of how many
        tokens (fewer than asked for where memory ran out), and the sentence that says why.
    max_length, seed, ties, sample
        Tokenizer settings in force.
    longest
        Tokens of the longest cell.
    seconds
        By stage: ``read``, ``tokenise``, ``queue``, ``infer``, ``write``. Stages overlap in time.
    wall_seconds, cells_per_second
        From the first read to the finished file, and the rate that follows.
    peak_bytes
        Most memory that the process has held.
    hashes
        sha256 of the ``weights``, of the ``vocabulary`` and of each file of the ``source`` checkpoint.
    version
        Version of scgpt-infer.
    shard
        The share of the work that this was, such as ``1/3``; empty: all of it.
    bad_files
        Of several files as one data set, those of which cells are missing, with the reason.
    """

    model: str
    vector_id: str
    output: str | None
    key: str
    dim: int
    n_cells: int
    n_embedded: int
    n_kept: int
    n_bad: int
    reasons: dict[str, int]
    bad: tuple[BadCell, ...]
    n_genes: int
    n_matched: int
    match_fraction: float
    gene_col: str
    genes: str
    match_report: str
    counts: str
    values: str
    counts_why: str
    provider: str
    precision: str
    dialect: str
    devices: tuple[int, ...]
    threads: int
    instances: int
    batch_tokens: int
    why: str
    max_length: int
    seed: int
    ties: str
    sample: str
    longest: int
    seconds: dict[str, float]
    wall_seconds: float
    cells_per_second: float
    peak_bytes: int
    hashes: dict[str, str]
    version: str
    shard: str = ""
    bad_files: tuple[BadFile, ...] = ()

    def to_json(self) -> str:
        """One JSON object; of the bad rows at most the first 1,000, and the counts by reason of all."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        values["bad"] = [{"row": cell.row, "name": cell.name, "reason": cell.reason} for cell in self.bad]
        values["bad_files"] = [{"path": one.path, "reason": one.reason} for one in self.bad_files]
        return json.dumps(values, allow_nan=False, ensure_ascii=False, indent=2)
