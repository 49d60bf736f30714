"""What is to be told of a run, gathered from all that took part: the record in the file and the `Summary`.

In: bundle, engine, source, gene match, options. It computes nothing of its own.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scgpt_infer import __version__
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import NumberedCells, SetOfFiles
from scgpt_infer.run import Answering, Tally
from scgpt_infer.summary import Summary
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.vocab import GeneMatch

__all__ = ["Facts", "Ran", "of_files", "of_model"]


class Ran(Answering, Protocol):
    """What is told of an engine, this process's or that of workers; see `scgpt_runtime.engine.Engine`."""

    @property
    def choice(self) -> ProviderChoice:
        """Provider, precision, instances and threads, and why."""
        ...

    @property
    def settings(self) -> TokenizerSettings:
        """Tokenizer settings in force."""
        ...

    @property
    def vector_id(self) -> str:
        """Id of the vectors that it makes."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """All that took part in a run."""

    bundle: Bundle
    engine: Ran
    source: CellSource
    match: GeneMatch
    options: EmbedOptions

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return self.options.key or self.bundle.manifest.key

    @property
    def _files(self) -> SetOfFiles | None:
        return self.source if isinstance(self.source, SetOfFiles) else None

    def record(self, n_cells: int, n_bad: int) -> Record:
        """Flat facts for ``uns``, JSON and Parquet metadata: enough to know which vectors can be compared.

        Nothing in it depends on when or how fast the run was.
        """
        files = self._files
        return {
            **of_model(self.bundle, self.engine, self.options),
            "modality": self.options.modality or "",
            **(self.source.origin if isinstance(self.source, NumberedCells) else {}),
            "counts": self.source.counts,
            "values": self.source.values,
            "genes": self.options.genes,
            "gene_col": self.match.source,
            "min_match": self.options.min_match,
            "n_genes": self.match.n_columns,
            "n_matched": self.match.n_matched,
            "match_fraction": self.match.fraction,
            "n_cells": n_cells,
            "n_without_embedding": n_bad,
            **({} if files is None else of_files(files)),
        }

    def summary(self, tally: Tally, output: Path | None) -> Summary:
        """Everything of a finished run."""
        manifest, choice, settings = self.bundle.manifest, self.engine.choice, self.engine.settings
        return Summary(
            model=manifest.name,
            vector_id=self.engine.vector_id,
            output=None if output is None else str(output),
            key=self.key,
            dim=manifest.dim,
            n_cells=tally.n_cells,
            n_embedded=tally.n_cells - tally.bad.count,
            n_kept=tally.n_kept,
            n_bad=tally.bad.count,
            reasons=tally.bad.by_reason(),
            bad=tuple(tally.bad.first),
            n_genes=self.match.n_columns,
            n_matched=self.match.n_matched,
            match_fraction=self.match.fraction,
            gene_col=self.match.source,
            genes=self.options.genes,
            match_report=self.match.report(),
            counts=self.source.counts,
            values=self.source.values,
            counts_why=self.source.why,
            provider=choice.provider,
            precision=choice.precision,
            dialect=choice.dialect,
            devices=choice.devices,
            threads=choice.cores,
            instances=choice.instances,
            batch_tokens=self.engine.batch_tokens,
            why=choice.why,
            max_length=settings.max_length,
            seed=settings.seed,
            ties=settings.ties,
            sample=settings.sample,
            longest=tally.longest,
            seconds=tally.seconds,
            wall_seconds=tally.wall_seconds,
            cells_per_second=(tally.n_cells - tally.n_kept) / max(tally.wall_seconds, 1e-9),
            peak_bytes=tally.peak_bytes,
            hashes={
                "weights": manifest.weights,
                "vocabulary": self.bundle.sha256("vocab.json"),
                **{f"source/{name}": digest for name, digest in sorted(manifest.source.items())},
            },
            version=__version__,
            bad_files=() if self._files is None else self._files.bad_files(tally.bad.reasons),
        )


def of_model(bundle: Bundle, engine: Ran, options: EmbedOptions) -> Record:
    """Those of the facts that no cell has a part in: the model, and what runs it."""
    manifest, choice, settings = bundle.manifest, engine.choice, engine.settings
    return {
        "version": __version__,
        "model": manifest.name,
        "vector_id": engine.vector_id,
        "weights_sha256": manifest.weights,
        "vocabulary_sha256": bundle.sha256("vocab.json"),
        "source_sha256": " ".join(f"{name}:{digest}" for name, digest in sorted(manifest.source.items())),
        "key": options.key or manifest.key,
        "dim": manifest.dim,
        "provider": choice.provider,
        "precision": choice.precision,
        "dialect": choice.dialect,
        "device": ",".join(map(str, choice.devices)) or options.device,
        "threads": choice.cores,
        "instances": choice.instances,
        "batch_tokens": engine.batch_tokens,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "ties": settings.ties,
        "sample": settings.sample,
    }


def of_files(files: SetOfFiles) -> Record:
    """What tells the file of each row, whatever the format of the output: cells of each file in turn, as JSON."""
    rows = json.dumps(files.n_cells_of, ensure_ascii=False)
    return {"files": rows, "n_files": len(files.paths), "n_bad_files": len(files.bad_files())}
