"""A look at a long job before it runs: `Preview`, and `look`, which samples cells and times a few of them.

In: an open engine, a source, a gene match, what lies ahead of the run. Out: plain values. Nothing is written.
"""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts, Ran
from scgpt_infer.sizes import size
from scgpt_infer.tasks.embed import embedding
from scgpt_infer.work import WorkOptions
from scgpt_runtime.cells import CellBlock

__all__ = ["Ahead", "Disk", "Preview", "look"]

SAMPLE = 1000
PROBE_CELLS = 16
PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that an output needs and bytes that are free where it goes."""

    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a run has before it.

    Attributes
    ----------
    n_cells, n_kept, held_by
        Cells that it answers for, those of them that are done already, and who may be at work on them.
    work
        How it is done.
    at_once
        Workers that run the model at a time.
    output, disk
        Where the result would go, and the room there; None without one.
    """

    n_cells: int
    n_kept: int
    held_by: tuple[str, ...]
    work: WorkOptions
    at_once: int
    output: str | None
    disk: Disk | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would do.

    Attributes
    ----------
    model, vector_id, key, dim, output
        As in `Summary`.
    n_cells, kept
        Cells that the run answers for, all or those of its shard; and those of them that are done and kept already.
    shard, memory, workers, ray
        What was asked for of the work; `workers` are counted where the devices tell how many.
    held_by
        Who may be at work on the same output.
    match_report, n_genes, n_matched, match_fraction, gene_col
        How the genes meet the vocabulary.
    counts, counts_why, values
        Where the counts would come from and why, and what they look like.
    sampled, sampled_without_known_gene
        Cells that were looked at, and those of them without a known gene that is expressed.
    median_length, longest, max_length, share_cut
        Tokens of the sampled cells before the maximum length cuts, and the share of cells that it cuts.
    provider, precision, threads, instances, why
        What would run, and the sentence that says why.
    probe_cells, cells_per_second, seconds
        Cells that were timed and got a vector, the rate of all workers, and the time that it makes for the cells that
        are not kept; 0, 0 and None when no cell got one.
    tried, reasons
        Cells that went through the model, and how many of them got no vector, by reason.
    disk
        Room for the output and the parts that are missing; None without an output.
    """

    model: str
    vector_id: str
    key: str
    dim: int
    output: str | None
    n_cells: int
    kept: int
    shard: str | None
    memory: int | None
    workers: int | None
    ray: str | None
    held_by: tuple[str, ...]
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
    instances: int
    why: str
    probe_cells: int
    cells_per_second: float
    seconds: float | None
    tried: int
    reasons: dict[str, int]
    disk: Disk | None

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the output."""
        return self.disk is None or self.disk.needed <= self.disk.free

    @property
    def all_bad(self) -> bool:
        """Whether no cell that was tried got a vector."""
        return sum(self.reasons.values()) == self.tried

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, indent=2)

    def report(self) -> str:
        """Lines for people."""
        genes = self.match_report.replace("\n", "\n             ")
        share = f"Shard {self.shard}: " if self.shard else ""
        lines = [
            f"{share}{self.n_cells - self.kept:,} cells would be embedded; nothing was written.",
            *self._found(),
            f"  model      {self.model}, vector id {self.vector_id}",
            f"  genes      {genes}",
            f"  counts     {self.counts}, {self.values} ({self.counts_why})",
            f"  tokens     median {self.median_length:,}, longest {self.longest:,} in {self.sampled:,} cells; "
            f"{self.share_cut:.1%} are cut to {self.max_length:,}",
            f"  runs on    {self.why}",
            *self._granted(),
            f"  time       {self._time()}",
            *self._bad_cells(),
        ]
        if self.sampled_without_known_gene:
            lines.append(
                f"  no gene    {self.sampled_without_known_gene:,} of the cells looked at express no known gene"
            )
        if self.disk is not None:
            room = "enough" if self.fits else "NOT ENOUGH"
            lines.append(f"  disk       {size(self.disk.needed)} needed, {size(self.disk.free)} free: {room}")
        return "\n".join(lines)

    def _found(self) -> list[str]:
        """What a run would find beside the output."""
        lines = [f"  kept       {self.kept:,} of {self.n_cells:,} cells are kept already"] if self.kept else []
        return lines + [f"  locked     by {who}: while it is at work, a run is refused" for who in self.held_by]

    def _granted(self) -> list[str]:
        lines = [] if self.memory is None else [f"  memory     {size(self.memory)} granted: enough"]
        if self.ray is not None:
            count = "" if self.workers is None else f"{self.workers:,} "
            return [*lines, f"  workers    {count}of a Ray cluster; the time is that of one worker, on this machine"]
        return lines if self.workers is None else [*lines, f"  workers    {self.workers:,} processes; one was timed"]

    def _time(self) -> str:
        if self.seconds is None:
            return "unknown: no cell that was tried has an embedding"
        rate = f"{self.cells_per_second:,.1f} cells/s"
        return f"about {_duration(self.seconds)} at {rate} ({self.probe_cells} cells timed)"

    def _bad_cells(self) -> list[str]:
        if not self.reasons:
            return []
        n_bad = sum(self.reasons.values())
        found = "; ".join(f"{count:,} x {reason}" for reason, count in self.reasons.items())
        lines = [f"  bad cells  {n_bad:,} of {self.tried:,} tried have no embedding: {found}"]
        if self.all_bad:
            lines.append(
                "             ALL of them. A job without any embedding writes nothing and ends with an error: check "
                "where the counts are (--layer) and which the gene names are (--gene-col)."
            )
        return lines


def look(facts: Facts, ahead: Ahead) -> Preview:
    """Sample the cells and time a few of them.

    Parameters
    ----------
    facts
        All that would take part.
    ahead
        What the run has before it.
    """
    sample = facts.source.sample(SAMPLE)
    lengths = _lengths(sample, facts.match.columns)
    known = lengths[lengths > 1]
    limit = facts.engine.settings.max_length
    probe = _probe(facts.engine, sample, facts.match.columns)
    choice, work = facts.engine.choice, ahead.work
    rate = probe.rate * ahead.at_once
    return Preview(
        model=facts.bundle.manifest.name,
        vector_id=facts.engine.vector_id,
        key=facts.key,
        dim=facts.bundle.manifest.dim,
        output=ahead.output,
        n_cells=ahead.n_cells,
        kept=ahead.n_kept,
        shard=None if work.shard is None else str(work.shard),
        memory=work.memory,
        workers=work.workers,
        ray=work.ray,
        held_by=ahead.held_by,
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
        threads=choice.cores,
        instances=choice.instances,
        why=choice.why,
        probe_cells=probe.n_timed,
        cells_per_second=rate,
        seconds=(ahead.n_cells - ahead.n_kept) / rate if probe.n_timed else None,
        tried=len(probe.reasons),
        reasons=probe.bad(),
        disk=ahead.disk,
    )


def _lengths(block: CellBlock, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of each cell, ``<cls>`` counted, before anything is cut."""
    inside = (block.indices >= 0) & (block.indices < len(columns))
    kept = inside & (columns[np.where(inside, block.indices, 0)] >= 0) & (block.data != 0)
    before = np.concatenate([[0], np.cumsum(kept)])
    lengths: NDArray[np.int64] = 1 + before[block.indptr[1:]] - before[block.indptr[:-1]]
    return lengths


@dataclass(frozen=True, slots=True)
class _Probe:
    """Why each cell that was tried has no vector (empty: it has one), and how many with one were timed."""

    reasons: dict[int, str]
    n_timed: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.n_timed / max(self.seconds, 1e-9)

    def bad(self) -> dict[str, int]:
        return dict(Counter(reason for reason in self.reasons.values() if reason).most_common())


def _probe(engine: Ran, sample: CellBlock, columns: NDArray[np.int64]) -> _Probe:
    """Try cells for a while and time them; the first few only warm up."""
    n_groups = max(1, -(-sample.n_cells // PROBE_CELLS))
    groups = [np.arange(start, sample.n_cells, n_groups) for start in range(n_groups)]  # each spread over the file
    reasons = dict(_timed(engine, sample, groups[0], columns)[0])
    n_timed, seconds = 0, 0.0
    for rows in groups[1:] or groups:
        found, spent = _timed(engine, sample, rows, columns)
        reasons.update(found)
        n_timed += sum(not reason for _, reason in found)
        seconds += spent
        if seconds > PROBE_SECONDS:
            break
    return _Probe(reasons, n_timed, seconds)


def _timed(
    engine: Ran, sample: CellBlock, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[list[tuple[int, str]], float]:
    """Each row with the reason why it has no vector, and the seconds that they took."""
    started = time.perf_counter()
    reasons = [
        reason
        for result in engine.run([_take(sample, rows)], columns, lambda cells: None)
        for reason in embedding(result).reasons
    ]
    return list(zip(rows.tolist(), reasons, strict=True)), time.perf_counter() - started


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
