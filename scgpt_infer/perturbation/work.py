"""One run of a generator: ask, gather, tell. `Work` has all that takes part, opened.

In: control cells, an engine, perturbations. Out: `Outcome`, `Profiles`, a `PerturbSummary`. It opens nothing but the
file for profiles of cells.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts
from scgpt_infer.perturbation.asked import Combination, PerturbOptions
from scgpt_infer.perturbation.cells import Cells, Panel, is_logged
from scgpt_infer.perturbation.judging import Judgement
from scgpt_infer.perturbation.per_cell import ProfileFile, open_profiles
from scgpt_infer.perturbation.predicting import predict, unmeasured
from scgpt_infer.perturbation.profiles import Profiles
from scgpt_infer.perturbation.summary import PerturbSummary
from scgpt_infer.perturbation.sums import ProfileSums
from scgpt_infer.perturbation.trial import Trial
from scgpt_infer.run import Progress, peak_bytes
from scgpt_infer.writers.sink import Record
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import CellsError

__all__ = ["Outcome", "Work"]

_NOT_OURS = ("key", "max_length", "seed", "ties", "sample", "n_without_embedding")
"""Facts of a run that embeds, which mean nothing here."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model answered, gathered.

    Attributes
    ----------
    sums, nonzero
        Of predicted profiles and of P(value > 0) by perturbation; None where the model does not tell it.
    not_finite
        Answers that are no numbers.
    """

    sums: ProfileSums
    nonzero: ProfileSums | None
    not_finite: int


@dataclass(frozen=True, slots=True)
class Work:
    """Open cells and an open model, and what is asked of them.

    Attributes
    ----------
    engine
        Open for graph ``perturb``.
    facts
        Of the run.
    how
        What was asked for.
    panel, cells
        Genes, and control cells.
    asked
        Perturbations.
    told
        (n,) places of the genes that are told of, in the order in which they were wanted.
    unknown
        Genes that were wanted and are not there.
    batch_cells
        Cells of a batch.
    trial
        What is known; None where there is no truth.
    started
        When the run began.
    """

    engine: Engine
    facts: Facts
    how: PerturbOptions
    panel: Panel
    cells: Cells
    asked: tuple[Combination, ...]
    told: NDArray[np.int64]
    unknown: tuple[str, ...]
    batch_cells: int
    trial: Trial | None
    started: float

    def run(self, per_cell: Path | None, progress: Progress | None) -> Outcome:
        """Ask the model.

        Raises
        ------
        CellsError
            No answer is a number.
        """
        width, total = len(self.panel.ids), len(self.cells.names) * len(self.asked)
        sums = ProfileSums(len(self.asked), width)
        nonzero = ProfileSums(len(self.asked), width) if self._tells_nonzero else None
        done, not_finite = 0, 0
        tell = progress or (lambda cells, all_cells: None)
        tell(0, total)
        with nullcontext() if per_cell is None else self._file(per_cell) as file:
            size = len(self.engine.vocabulary)
            for part in predict(self.engine, self.cells, self.panel, self.asked, size, self.batch_cells):
                groups = np.where(part.finite, part.combination, -1)
                sums.add(part.values, groups)
                if nonzero is not None and part.nonzero is not None:
                    nonzero.add(part.nonzero, groups)
                if file is not None:
                    file.write(part)
                done, not_finite = done + len(part.cells), not_finite + int(np.count_nonzero(~part.finite))
                tell(done, total)
            if not sums.counts.all():
                lacking = self.asked[int(np.argmin(sums.counts))].name
                raise CellsError(f"No answer to {lacking} is a number. Check the values of the cells (--values).")
            if file is not None:
                file.commit(self.record)
        return Outcome(sums, nonzero, not_finite)

    def profiles(self, found: Outcome) -> Profiles:
        """Means of the genes that are told of."""

        def means(sums: ProfileSums) -> NDArray[np.float32]:
            return np.stack([sums.mean(place)[self.told] for place in range(len(self.asked))]).astype(np.float32)

        return Profiles(
            tuple(combination.name for combination in self.asked),
            tuple(self.panel.names[place] for place in self.told.tolist()),
            means(found.sums),
            None if found.nonzero is None else means(found.nonzero),
            self._control()[self.told].astype(np.float32),
            found.sums.counts.copy(),
            self.record,
        )

    def judged(self, found: Outcome) -> Judgement | None:
        """Figures where there is a truth: over all genes, whichever are told of."""
        if self.trial is None:
            return None
        means = {combination.ids: found.sums.mean(place) for place, combination in enumerate(self.asked)}
        return self.trial.judged(means, self.how.threshold)

    @property
    def record(self) -> Record:
        """Flat facts, as they go into files."""
        facts = self.facts.record(len(self.cells.names), len(self.cells.bad))
        column, value = self.how.control or ("", "")
        return {name: fact for name, fact in facts.items() if name not in _NOT_OURS} | {
            "result": "perturbed_profiles",
            "n_left_out": len(self.cells.bad),
            "perturb_control": f"{column}={value}" if column else "all",
            "perturb_normalised": "no" if is_logged(self.facts.source, self.how.values) else "10,000 and log1p",
            "perturb_values": "value x P(nonzero)" if self._tells_nonzero else "value",
            "perturb_unmeasured": ",".join(self._unmeasured()),
        }

    def summary(self, found: Outcome, path: Path, per_cell: Path | None, judgement: Judgement | None) -> PerturbSummary:
        """What was done."""
        wall, bundle, choice = time.perf_counter() - self.started, self.facts.bundle, self.engine.choice
        source = self.facts.source
        done = "as they are" if is_logged(source, self.how.values) else "normalised to 10,000 a cell, log1p"
        return PerturbSummary(
            model=bundle.manifest.name,
            vector_id=self.engine.vector_id,
            precision=choice.precision,
            output=str(path),
            per_cell=None if per_cell is None else str(per_cell),
            perturbations=tuple(combination.name for combination in self.asked),
            n_cells=len(self.cells.names),
            bad=self.cells.bad,
            not_finite=found.not_finite,
            n_genes=source.n_genes,
            n_known=len(self.panel.ids),
            n_told=len(self.told),
            values=f"{source.counts}, {source.values}; {done}",
            unmeasured=self._unmeasured(),
            unknown=self.unknown,
            batch_cells=self.batch_cells,
            why=choice.why,
            wall_seconds=wall,
            profiles_per_second=int(found.sums.counts.sum()) / max(wall, 1e-9),
            memory=self.how.memory,
            peak_bytes=peak_bytes(),
            judgement=judgement,
        )

    @property
    def _tells_nonzero(self) -> bool:
        graphs = (graph for graph in self.facts.bundle.manifest.graphs if graph.task == "perturb")
        return any(spec.name == "nonzero" for graph in graphs for spec in graph.outputs)

    def _file(self, path: Path) -> AbstractContextManager[ProfileFile]:
        return open_profiles(
            path,
            [combination.name for combination in self.asked],
            self.cells.names,
            [self.panel.names[place] for place in self.told.tolist()],
            self.told,
            nonzero=self._tells_nonzero,
        )

    def _control(self) -> NDArray[np.float64]:
        """(n_genes,) mean of the control cells."""
        found = np.asarray(self.cells.values.astype(np.float64).mean(axis=0)).ravel()
        control: NDArray[np.float64] = found
        return control

    def _unmeasured(self) -> tuple[str, ...]:
        missing = {token for combination in self.asked for token in unmeasured(combination, self.panel)}
        return tuple(self.engine.vocabulary.tokens[token] for token in sorted(missing))
