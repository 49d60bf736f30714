"""A look at a long job before it runs: `Preview`, and `look`, which samples cells and times a few of them.

In: an open engine, a source, a gene match. Out: plain values. Nothing is written.
"""

import json
import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts
from scgpt_infer.tasks.embed import embedding
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine

__all__ = ["Disk", "Preview", "look"]

SAMPLE = 1000
PROBE_CELLS = 16
PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that an output needs and bytes that are free where it goes."""

    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would do.

    Attributes
    ----------
    model, vector_id, key, dim, output
        As in `Summary`.
    n_cells
        Cells that would be read.
    match_report, n_genes, n_matched, match_fraction, gene_col
        How the genes meet the vocabulary.
    counts, counts_why, values
        Where the counts would come from and why, and what they look like.
    sampled, sampled_without_known_gene
        Cells that were looked at, and those of them without a known gene that is expressed.
    median_length, longest, max_length, share_cut
        Tokens of the sampled cells before the maximum length cuts, and the share of cells that it cuts.
    provider, precision, threads, why
        What would run, and the sentence that says why.
    probe_cells, cells_per_second, seconds
        Cells that were timed, their rate, and the time that it makes for the job.
    disk
        Room for the output; None without one.
    """

    model: str
    vector_id: str
    key: str
    dim: int
    output: str | None
    n_cells: int
    match_report: str
    n_genes: int
    n_matched: int
    match_fraction: float
    gene_col: str
    counts: str
    counts_why: str
    values: str
    sampled: int
    sampled_without_known_gene: int
    median_length: int
    longest: int
    max_length: int
    share_cut: float
    provider: str
    precision: str
    threads: int
    why: str
    probe_cells: int
    cells_per_second: float
    seconds: float
    disk: Disk | None

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the output."""
        return self.disk is None or self.disk.needed <= self.disk.free

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, indent=2)

    def report(self) -> str:
        """Lines for people."""
        genes = self.match_report.replace("\n", "\n             ")
        lines = [
            f"{self.n_cells:,} cells would be embedded; nothing was written.",
            f"  model      {self.model}, vector id {self.vector_id}",
            f"  genes      {genes}",
            f"  counts     {self.counts}, {self.values} ({self.counts_why})",
            f"  tokens     median {self.median_length:,}, longest {self.longest:,} in {self.sampled:,} cells; "
            f"{self.share_cut:.1%} are cut to {self.max_length:,}",
            f"  runs on    {self.why}",
            f"  time       about {_duration(self.seconds)} at {self.cells_per_second:,.1f} cells/s "
            f"({self.probe_cells} cells timed)",
        ]
        if self.sampled_without_known_gene:
            lines.append(
                f"  no gene    {self.sampled_without_known_gene:,} of the cells looked at express no known gene"
            )
        if self.disk is not None:
            room = "enough" if self.fits else "NOT ENOUGH"
            lines.append(
                f"  disk       {self.disk.needed / 1e9:,.2f} GB needed, {self.disk.free / 1e9:,.2f} GB free: {room}"
            )
        return "\n".join(lines)


def look(facts: Facts, n_cells: int, output: str | None, disk: Disk | None) -> Preview:
    """Sample the cells and time a few of them.

    Parameters
    ----------
    facts
        All that would take part.
    n_cells
        Cells that would be read.
    output, disk
        Where the result would go, and its room there.
    """
    sample = facts.source.sample(SAMPLE)
    lengths = _lengths(sample, facts.match.columns)
    known = lengths[lengths > 1]
    limit = facts.engine.settings.max_length
    probed, rate = _probe(facts.engine, sample, facts.match.columns)
    choice = facts.engine.choice
    return Preview(
        model=facts.bundle.manifest.name,
        vector_id=facts.engine.vector_id,
        key=facts.key,
        dim=facts.bundle.manifest.dim,
        output=output,
        n_cells=n_cells,
        match_report=facts.match.report(),
        n_genes=facts.match.n_columns,
        n_matched=facts.match.n_matched,
        match_fraction=facts.match.fraction,
        gene_col=facts.match.source,
        counts=facts.source.counts,
        counts_why=facts.source.why,
        values=facts.source.values,
        sampled=sample.n_cells,
        sampled_without_known_gene=int((lengths <= 1).sum()),
        median_length=int(np.median(known)) if len(known) else 0,
        longest=int(lengths.max(initial=0)),
        max_length=limit,
        share_cut=float((lengths > limit).mean()),
        provider=choice.provider,
        precision=choice.precision,
        threads=choice.threads,
        why=choice.why,
        probe_cells=probed,
        cells_per_second=rate,
        seconds=n_cells / rate,
        disk=disk,
    )


def _lengths(block: CellBlock, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of each cell, ``<cls>`` counted, before anything is cut."""
    inside = (block.indices >= 0) & (block.indices < len(columns))
    kept = inside & (columns[np.where(inside, block.indices, 0)] >= 0) & (block.data != 0)
    before = np.concatenate([[0], np.cumsum(kept)])
    lengths: NDArray[np.int64] = 1 + before[block.indptr[1:]] - before[block.indptr[:-1]]
    return lengths


def _probe(engine: Engine, sample: CellBlock, columns: NDArray[np.int64]) -> tuple[int, float]:
    """Number of cells timed and their rate; the first few only warm up."""
    n_groups = max(1, -(-sample.n_cells // PROBE_CELLS))
    groups = [np.arange(start, sample.n_cells, n_groups) for start in range(n_groups)]  # each spread over the file
    _time(engine, _take(sample, groups[0]), columns)
    cells, seconds = 0, 0.0
    for rows in groups[1:] or groups:
        seconds += _time(engine, _take(sample, rows), columns)
        cells += len(rows)
        if seconds > PROBE_SECONDS:
            break
    return cells, cells / max(seconds, 1e-9)


def _time(engine: Engine, block: CellBlock, columns: NDArray[np.int64]) -> float:
    started = time.perf_counter()
    for result in engine.run([block], columns):
        embedding(result)
    return time.perf_counter() - started


def _take(block: CellBlock, rows: NDArray[np.int64]) -> CellBlock:
    parts = [slice(block.indptr[row], block.indptr[row + 1]) for row in rows]
    counts = block.indptr[rows + 1] - block.indptr[rows]
    return CellBlock(
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=np.concatenate([block.indices[part] for part in parts]),
        data=np.concatenate([block.data[part] for part in parts]),
        first_row=0,
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
