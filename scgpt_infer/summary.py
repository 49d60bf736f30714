"""What one run did: `Summary` and `BadCell`, for people, for ``--json`` and for the file that was written.

Plain values. It knows nothing of how they came about.
"""

import json
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["BAD_ROWS_IN_JSON", "BadCell", "Summary"]

BAD_ROWS_IN_JSON = 1000
"""Rows without an embedding that the JSON lists one by one; the counts by reason cover all of them."""


@dataclass(frozen=True, slots=True)
class BadCell:
    """A cell without an embedding: its row, its name and why."""

    row: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a run says of itself.

    Attributes
    ----------
    model, vector_id
        Name of the model, and the id that two vectors must share to be comparable.
    output, key
        File that was written (None: kept in memory) and name of the embedding in it.
    dim
        Width of the embedding.
    n_cells, n_embedded
        Cells that were read, and those of them that have an embedding.
    bad
        The others, in row order.
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
    """

    model: str
    vector_id: str
    output: str | None
    key: str
    dim: int
    n_cells: int
    n_embedded: int
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

    @property
    def reasons(self) -> dict[str, int]:
        """Number of cells without an embedding by reason, the most frequent first."""
        return dict(Counter(cell.reason for cell in self.bad).most_common())

    def to_json(self) -> str:
        """One JSON object; of the bad rows at most the first 1,000, and the counts by reason of all."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["bad"] = [
            {"row": cell.row, "name": cell.name, "reason": cell.reason} for cell in self.bad[:BAD_ROWS_IN_JSON]
        ]
        values["n_bad"] = len(self.bad)
        values["reasons"] = self.reasons
        return json.dumps(values, allow_nan=False, ensure_ascii=False, indent=2)
