"""What each precision of a bundle costs and gives on real labelled cells: one row a provider and precision.

In: a bundle, a file of cells, the name of a column of labels. Out: a `Comparison`. It writes no file; every engine
answers the same cells, and speed is taken in turns.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.contenders import opened, some_rows, speeds_in_turns
from scgpt_infer.judging import Score, answered, kept, meanings, nearest, score, transferred, unit
from scgpt_infer.labelled import LabelledCells
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.proof import one_minus_cosine
from scgpt_runtime.vocab import choose

__all__ = ["CompareOptions", "Compared", "Comparison", "compare"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is compared.

    Attributes
    ----------
    providers, precisions
        Empty: all that the bundle and this machine have.
    threads
        Cores in all; None: those that this process may use.
    classes
        Label of the file to the classes of the model's classifier that are right for it. Empty: labels are class names.
    """

    providers: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: int | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """One provider and precision.

    Attributes
    ----------
    provider, precision, ran_on, vector_id
        What ran, and the id of its vectors.
    median, worst
        1 - cosine to fp32, over the cells.
    neighbours
        Share of the nearest neighbours in fp32 that are kept.
    transfer
        Labels by the vote of nearest neighbours.
    classifier
        The model's own answers; None where it has no classifier, or no label is one of its classes.
    cells_per_second
        From values in memory to vectors, all cores.
    """

    provider: str
    precision: str
    ran_on: str
    vector_id: str
    median: float
    worst: float
    neighbours: float
    transfer: Score
    classifier: Score | None
    cells_per_second: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, the reference first.

    Attributes
    ----------
    model
        Name of the bundle.
    cells
        Cells that were embedded.
    reference
        Provider of the fp32 vectors that all are held against.
    median_length
        Tokens of the middle cell.
    timed_cells
        Cells of the speed figure.
    notes
        What was left out, and why.
    """

    model: str
    cells: int
    reference: str
    median_length: int
    timed_cells: int
    rows: tuple[Compared, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object; a distance that is not finite is null."""
        told = asdict(self)
        for row in told["rows"]:
            row |= {name: row[name] if math.isfinite(row[name]) else None for name in ("median", "worst")}
        return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)


def compare(
    bundle: Bundle, cells: LabelledCells, options: CompareOptions = CompareOptions(), say: Say = lambda line: None
) -> Comparison:
    """Embed the same cells in every precision and judge each.

    Parameters
    ----------
    bundle
        An opened bundle.
    cells
        What to judge on.
    options
        What is compared.
    say
        Told of each step, for people.

    Raises
    ------
    OptionError
        A provider or precision that does not exist, or labels that judge nothing.
    ProviderError
        Nothing that was asked for runs here, or no fp32 does.
    CellsError
        No cell can be embedded.
    MissingDependencyError
        scikit-learn is not installed.
    """
    with ExitStack() as stack:
        engines, notes = opened(bundle, options.providers, options.precisions, options.threads, stack)
        columns = choose(cells.gene_names, engines[0].vocabulary).columns
        found = [_embedded(engine, cells, columns, say) for engine in engines]
        good = np.flatnonzero(np.isfinite(found[0].vectors).all(axis=1))
        n_bad = cells.block.n_cells - len(good)
        if len(good) < 2:
            raise CellsError(
                f"{len(good)} of {cells.block.n_cells:,} cells can be embedded. Give cells with counts and known genes."
            )
        if n_bad:
            notes.append(f"{n_bad:,} cells cannot be embedded, and judge nothing.")
        cells = cells.only(good)
        found = [each.only(good) for each in found]
        meaning = _meaning(bundle.manifest, cells.labels, options.classes, notes)
        unjudged = [
            _judged(engine, each, found[0], cells, meaning) for engine, each in zip(engines, found, strict=True)
        ]
        say("taking speeds in turns")
        timed = cells.only(some_rows(len(good), max(each.seconds for each in found)))
        speeds = speeds_in_turns(engines, timed.blocks(), columns)
    rows = [replace(row, cells_per_second=speed) for row, speed in zip(unjudged, speeds, strict=True)]
    return Comparison(
        model=bundle.manifest.name,
        cells=len(good),
        reference=f"{rows[0].provider} fp32",
        median_length=int(np.median(found[0].lengths)),
        timed_cells=timed.block.n_cells,
        rows=tuple(rows),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Embedded:
    """What an engine made of the cells: vectors (n_cells, dim), lengths (n_cells,), and the seconds that it took."""

    vectors: NDArray[np.float32]
    lengths: NDArray[np.int32]
    seconds: float

    def only(self, rows: NDArray[np.int64]) -> "_Embedded":
        return _Embedded(self.vectors[rows], self.lengths[rows], self.seconds)


def _embedded(engine: Engine, cells: LabelledCells, columns: NDArray[np.int64], say: Say) -> _Embedded:
    say(f"embedding {cells.block.n_cells:,} cells with {engine.choice.name}")
    start = time.perf_counter()
    results = list(engine.run(cells.blocks(), columns))
    seconds = time.perf_counter() - start
    (name,) = results[0].outputs
    vectors = np.concatenate([result.outputs[name] for result in results])
    return _Embedded(vectors, np.concatenate([result.lengths for result in results]), seconds)


def _judged(
    engine: Engine, found: _Embedded, expected: _Embedded, cells: LabelledCells, meaning: Mapping[str, Sequence[str]]
) -> Compared:
    """One row, without its speed."""
    distance = one_minus_cosine(found.vectors, expected.vectors)
    vectors = unit(found.vectors)
    return Compared(
        provider=engine.choice.provider,
        precision=engine.choice.precision,
        ran_on=f"{engine.provider}, {engine.choice.name}",
        vector_id=engine.vector_id,
        median=float(np.median(distance)),
        worst=float(distance.max()),
        neighbours=kept(nearest(vectors), nearest(unit(expected.vectors))),
        transfer=transferred(vectors, cells.labels.tolist(), cells.batches.tolist()),
        classifier=_classified(engine, found.vectors, cells.labels, meaning),
        cells_per_second=0.0,
    )


def _classified(
    engine: Engine, vectors: NDArray[np.float32], labels: NDArray[np.str_], meaning: Mapping[str, Sequence[str]]
) -> Score | None:
    """The classifier's answers for the cells whose label it can answer."""
    asked = np.isin(labels, list(meaning))
    if not asked.any():
        return None
    head = engine.head("classify")
    (logits,) = head.feed({"cell": vectors[asked]}).values()
    head.close()
    names = engine.bundle.manifest.labels
    classes = [names[number] for number in logits.argmax(axis=1)]
    return score(labels[asked].tolist(), answered(classes, labels[asked].tolist(), meaning))


def _meaning(
    manifest: Manifest, labels: NDArray[np.str_], told: Mapping[str, Sequence[str]], notes: list[str]
) -> dict[str, tuple[str, ...]]:
    """Label to the classes that are right for it, of the labels that there are; says which have none."""
    if not manifest.labels or not any(graph.task == "classify" for graph in manifest.graphs):
        if told:
            raise OptionError(f"Bundle {manifest.name} has no classifier with named classes, so --names says nothing.")
        return {}
    there, counts = np.unique(labels, return_counts=True)
    meaning = meanings(there.tolist(), manifest.labels, told, "--names")
    missing = {name: n for name, n in zip(there.tolist(), counts.tolist(), strict=True) if not meaning[name]}
    if missing:
        listed = ", ".join(f"{name} ({n:,} cells)" for name, n in missing.items())
        notes.append(
            f"No class of the classifier stands for {listed}: these cells do not judge it. Its classes are "
            f"{', '.join(manifest.labels)}; --names FILE.json tells which mean a label."
        )
    return {name: classes for name, classes in meaning.items() if classes}
