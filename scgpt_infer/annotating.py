"""Where the labels of cells come from, and what a run that gave them tells: `open_labels`, `Labels`, `Annotated`.

In: a bundle and `AnnotateOptions`. Out: a task for a `Job`, and the figures of the finished job. It opens no model.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.answers import Answers
from scgpt_infer.job import Job
from scgpt_infer.keeping import Filler
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress
from scgpt_infer.summary import Summary
from scgpt_infer.tasks.annotate import UNKNOWN, Annotation, Classifier, Labeller
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, OptionError
from scgpt_runtime.runners import open_head

if TYPE_CHECKING:
    from anndata import AnnData

    from scgpt_infer.evaluation import Evaluation

__all__ = ["AnnotateOptions", "Annotated", "Labels", "open_labels"]

_ALL = WorkOptions()

CLASSIFIER_UNKNOWN_BELOW = 0.5
"""Where a classifier's best class has less than even odds, a cell is called unknown."""

Weights = Literal["majority", "distance"]


@dataclass(frozen=True, slots=True)
class AnnotateOptions:
    """How cells get their labels.

    Attributes
    ----------
    reference
        A reference index, or scGPT's published atlas folder. None: the model's classifier.
    k
        Nearest reference cells that vote. None: 10, as in scGPT's reference mapping; 50 for its atlas.
    weights
        ``majority``: each of them has one vote; ``distance``: nearer ones count more.
    top
        Candidates that are told of each cell.
    unknown_below
        A cell whose best label has less confidence is called unknown. None: 0.5 for a classifier, 0 (never) for a
        reference.
    prefix
        What the names of the columns begin with in ``obs``.
    recompute
        Run the model although vectors that it would make lie with the cells already.
    with_vectors
        Put the vectors into tables and JSON too; ``.h5ad`` has them always.
    truth
        Column of ``obs`` with the right labels: the answers are judged by it.
    by
        Columns of ``obs``: figures for each of their values.
    names
        True label to the model's label, or labels, that are right for it, where they differ.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    reference: Path | None = None
    k: int | None = None
    weights: Weights = "majority"
    top: int = 3
    unknown_below: float | None = None
    prefix: str = "scgpt_"
    recompute: bool = False
    with_vectors: bool = False
    truth: str | None = None
    by: tuple[str, ...] = ()
    names: Mapping[str, str | Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("top", self.top), ("k", self.k)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if self.unknown_below is not None and not 0 <= self.unknown_below <= 1:
            raise OptionError(f"unknown_below is {self.unknown_below!r}; expected a confidence from 0 to 1.")
        if self.weights not in ("majority", "distance"):
            raise OptionError(f"weights is {self.weights!r}; expected majority or distance.")
        if not self.prefix.isprintable() or "/" in self.prefix:
            raise OptionError(f"prefix is {self.prefix!r}; expected the beginning of a column's name, such as scgpt_.")
        if self.reference is None and (self.k is not None or self.weights != "majority"):
            raise OptionError("k and weights are for a reference (--reference), and none was named.")
        if self.truth is None and (self.by or self.names):
            raise OptionError("by and names are for judging answers: name the column of the right labels (--truth).")

    def check_work(self, work: WorkOptions) -> None:
        """Make sure that a job does all that is asked of how it is done.

        Raises
        ------
        OptionError
            It heeds not all of it, or a share of the cells should be judged.
        """
        work.check("annotate", "shard", "workers", "ray", "strict")
        if work.shard is not None and self.truth is not None:
            raise OptionError(
                f"Nothing can be judged of shard {work.shard} alone. Leave truth (--truth) out, merge the shards, and "
                "judge with scgpt_infer.evaluation.evaluate."
            )

    def fitting(self, options: EmbedOptions) -> EmbedOptions:
        """The options of a run whose vectors can be compared with the reference's, as far as they leave a choice."""
        if self.reference is None or options.precision != "auto":
            return options
        from scgpt_infer.reference import precision_of

        return replace(options, precision=precision_of(self.reference))


@dataclass(frozen=True, slots=True)
class Annotated:
    """What a run that told cell types says of itself.

    Attributes
    ----------
    summary
        Of the run.
    labels_from
        What knew the labels, in words.
    counts
        Cells by label, the most frequent first.
    unknown_below
        Confidence below which a cell was called unknown.
    evaluation
        How right the labels are; None where no truth was named.
    """

    summary: Summary
    labels_from: str
    counts: dict[str, int]
    unknown_below: float
    evaluation: "Evaluation | None"

    def to_json(self) -> str:
        """One JSON object: the summary's, with what is known of the labels."""
        told: dict[str, Any] = json.loads(self.summary.to_json())
        told |= {"labels_from": self.labels_from, "labels": self.counts, "unknown_below": self.unknown_below}
        told["evaluation"] = None if self.evaluation is None else json.loads(self.evaluation.to_json())
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)


@dataclass(frozen=True, slots=True)
class Labels:
    """What knows the labels, open. A context manager.

    Attributes
    ----------
    labeller
        What knows them.
    told
        What it is, in words.
    how
        The options that it was opened with.
    unknown_below
        In force.
    takes_unit_vectors
        Whether vectors at unit length do; a fine-tuned classifier needs them as the model gives them.
    check
        Raises when vectors of this id cannot be labelled.
    close
        Lets go of it.
    """

    labeller: Labeller
    told: str
    how: AnnotateOptions
    unknown_below: float
    takes_unit_vectors: bool
    check: Callable[[str], None]
    close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def job(self, source: CellSource, answers: Answers, options: EmbedOptions) -> Job:
        """The job of labelling the cells of a source.

        Raises
        ------
        ReferenceMismatchError
            The reference has vectors that cannot be compared with these.
        """
        self.check(str(answers.facts.record(0, 0)["vector_id"]))
        task = Annotation(self.labeller, self.how.top, self.unknown_below, answers.vectors)
        asked = {"recompute": self.how.recompute}  # the plan tells the facts of the task; the rest changes no row
        return Job(source, answers, task, options, self.how.prefix, self.how.with_vectors, asked=asked)

    def into_memory(self, job: Job, cells: "AnnData | Path | str", inplace: bool) -> "AnnData":
        """Do the job in memory."""
        if self.how.truth is not None:
            raise OptionError("truth is for files. Here, judge with scgpt_infer.evaluation.evaluate.")
        return job.into_memory(cells, inplace)[0]

    def into_file(
        self,
        job: Job,
        path: Path,
        progress: Progress | None,
        work: WorkOptions = _ALL,
        filler: Filler | None = None,
    ) -> Annotated:
        """Do the job into a file, and judge it where the right labels are known."""
        truth = _Truth.of(job, self.how, self.labeller.labels)  # what is wrong with it shows before the work
        label, confidence = job.task.columns[:2]
        kept = MemorySink.of(job.n_cells, None, (label, confidence))
        summary = job.into_file(path, progress, kept, work, filler)
        codes, sure = kept.columns[label.name], kept.columns[confidence.name]
        judged = None if truth is None else truth.judged(codes, label.words, sure)
        return Annotated(summary, self.told, _counted(codes, label.words), self.unknown_below, judged)


def open_labels(bundle: Bundle, how: AnnotateOptions, cache_dir: Path | None = None) -> Labels:
    """Open what knows the labels.

    Parameters
    ----------
    bundle
        The model, whose classifier it is without a reference.
    how
        Which, and how.
    cache_dir
        Where digests of files are remembered that were checked.

    Raises
    ------
    BundleError
        The bundle has no classifier.
    """
    if how.reference is not None:
        return _of_reference(how.reference, how, cache_dir)
    manifest = bundle.manifest
    if not manifest.labels or all(graph.task != "classify" for graph in manifest.graphs):
        tasks = ", ".join(sorted({graph.task for graph in manifest.graphs}))
        lacks = "names for the classes of its classifier" if "classify" in tasks else "classifier"
        raise BundleError(
            f"The model {manifest.name} has no {lacks}, so it cannot annotate by itself; it holds {tasks}. Give "
            "labelled cells: scgpt-infer learn teaches it a classifier, scgpt-infer index makes a --reference of them."
        )
    head = open_head(bundle, "classify")
    taught = manifest.taught is not None
    told = f"the {'taught' if taught else 'fine-tuned'} classifier of {manifest.name}, {len(manifest.labels)} classes"
    facts: dict[str, str | int | float] = {
        "from": "taught classifier" if taught else "classifier",
        "classifier": manifest.name,
        "classifier_sha256": _digest(bundle),
        "classes": len(manifest.labels),
    }
    below = CLASSIFIER_UNKNOWN_BELOW if how.unknown_below is None else how.unknown_below
    labeller = Classifier(head, manifest.labels, facts)
    return Labels(labeller, told, how, below, taught, lambda vector_id: None, head.close)


def _digest(bundle: Bundle) -> str:
    """Digest of all that decides a classifier's answers to a vector."""
    graphs = {graph.path for graph in bundle.manifest.graphs if graph.task == "classify"}
    told = [bundle.manifest.weights, *sorted(map(bundle.sha256, graphs)), *bundle.manifest.labels]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _of_reference(path: Path, how: AnnotateOptions, cache_dir: Path | None) -> Labels:
    from scgpt_infer.reference import ReferenceLabeller, open_reference

    index = open_reference(path, cache_dir)
    labeller = ReferenceLabeller(index, how.k, how.weights)
    told = f"the {labeller.k} nearest of {index.n_cells:,} cells in {path}, by {how.weights}"
    return Labels(labeller, told, how, how.unknown_below or 0.0, True, index.check, index.close)


@dataclass(frozen=True, slots=True)
class _Truth:
    """The right labels, and what the figures are broken down by."""

    true: NDArray[np.str_]
    groups: dict[str, NDArray[np.str_]]
    names: Mapping[str, Sequence[str]]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, job: Job, how: AnnotateOptions, labels: tuple[str, ...]) -> "_Truth | None":
        if how.truth is None:
            return None
        n_cells = job.n_cells
        groups = {name: job.source.cell_column(name)[:n_cells] for name in how.by}
        names = {name: (right,) if isinstance(right, str) else tuple(right) for name, right in how.names.items()}
        truth = cls(job.source.cell_column(how.truth)[:n_cells], groups, names, labels)
        truth.judged(np.full(n_cells, -1, np.int32), (), np.full(n_cells, np.nan, np.float32))
        return truth

    def judged(self, codes: NDArray[np.int32], words: Sequence[str], sure: NDArray[np.float32]) -> "Evaluation":
        from scgpt_infer.evaluation import evaluate

        told = np.array([*words, ""], str)[codes]  # -1 is the last one
        return evaluate(
            self.true,
            told,
            labels=self.labels,
            confidence=sure,
            groups=self.groups,
            words=self.names,
            unknown=UNKNOWN,
        )


def _counted(codes: NDArray[np.int32], words: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(codes[codes >= 0], minlength=len(words)).tolist()
    pairs = sorted(zip(words, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return {word: count for word, count in pairs if count}
