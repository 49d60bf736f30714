"""Cells in, vectors out: `Engine.open` takes a bundle, `Engine.run` takes blocks and gives results.

A graph that answers each token gives hidden states, or one row a cell where a `Fold` makes that of them. The engine
owns the open graph and the settings in force. It knows nothing of files of cells, gene names or formats.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime import pipeline
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.batching import BatchPlan, batches, plan_for, unpacked
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch, CellBlock, Result, TokenBlock
from scgpt_runtime.choosing import Asked
from scgpt_runtime.errors import DeviceMemoryError, InternalError, OptionError
from scgpt_runtime.feeds import check_answers, check_feed, shapes_of_rows, tells_ends, tells_tokens
from scgpt_runtime.folds import Fold
from scgpt_runtime.instances import Instances
from scgpt_runtime.manifest import GraphRecord, Manifest, TokenizerSettings, vector_id
from scgpt_runtime.opening import open_best
from scgpt_runtime.providers import ON_GPU, ProviderChoice
from scgpt_runtime.records import Sample, Ties
from scgpt_runtime.runners import graph_for, open_head
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import taking_part

__all__ = ["Engine", "EngineOptions"]

Genes = Literal["exact", "alias"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to run; None and ``auto`` mean what the bundle was sealed with, or what suits this machine.

    Attributes
    ----------
    provider, precision, device
        See `scgpt_runtime.choosing.candidates`.
    threads
        Cores in all.
    instances
        Batches that are answered at a time, the cores shared out among them.
    batch_tokens
        Padded tokens in a batch.
    max_length, seed, ties, sample
        Override the same fields of `TokenizerSettings`; each gives vectors another id.
    genes
        How names were matched, ``exact`` or ``alias``; part of the id.
    """

    provider: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    instances: int | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    seed: int | None = None
    ties: str | None = None
    sample: str | None = None
    genes: str = "exact"


class Engine:
    """A bundle's graph, open and ready. A context manager.

    Attributes
    ----------
    bundle
        The bundle that it runs.
    choice
        Provider, precision, instances and threads, and why.
    settings
        Tokenizer settings in force.
    vector_id
        Id of the vectors that it makes.
    vocabulary
        The genes that the model knows.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphRecord,
        session: GraphRunner,
        choice: ProviderChoice,
        settings: TokenizerSettings,
        *,
        genes: str = "exact",
        batch_tokens: int | None = None,
        fold: Fold | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.choice = choice
        self.settings = settings
        self._plan = plan_for(choice, settings, batch_tokens, masked=tells_ends(graph))
        self._halving = threading.Lock()
        self._fold = fold
        self._of_tokens = fold is None and tells_tokens(graph)
        self._outputs = shapes_of_rows(graph) if fold is None else fold.outputs(manifest.dim)
        self.vocabulary = bundle.vocabulary()
        self.vector_id = vector_id(
            manifest.weights,
            bundle.sha256("vocab.json"),
            _pooling(manifest, self._of_tokens, fold),
            settings,
            genes,
            manifest.arithmetic(choice.arithmetic),
        )
        self._among = taking_part(self.vocabulary, manifest.binning_genes)
        modalities = bundle.modalities()
        self._modalities = None if modalities is None else modalities.of_tokens
        self._session: GraphRunner | None = session
        self._timings = pipeline.Timings()

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        options: EngineOptions = EngineOptions(),
        task: str = "embed",
        cache_dir: Path | None = None,
        say: Callable[[str], None] = _log.info,
        fold: Fold | None = None,
        labelled: bool = False,
    ) -> Self:
        """Open a bundle's graph with what suits this machine.

        Parameters
        ----------
        bundle
            An opened bundle.
        options
            How to run.
        task
            A task whose graph takes tokens: ``embed``, ``tokens`` for the hidden states of all of them, or ``perturb``,
            whose answers are taken batch by batch (`answers`).
        cache_dir
            Where measurements and proofs are remembered. None: ``auto`` follows the rule without measuring, and
            what has to be proven is proven at each start.
        say
            Told when a measurement begins.
        fold
            Makes one row a cell of the answers for its tokens; None: a `Result` has a row for each token.
        labelled
            Whether cells will have batch labels (`TokenBlock.labels`), which some graphs ask for.

        Raises
        ------
        OptionError
            An option has a value that cannot be used.
        BundleError
            The bundle has no graph for the task, or one that this version cannot feed.
        ProviderError
            The provider or precision cannot be had here, or answers wrongly.
        """
        settings = _overridden(bundle.manifest.tokenizer, options)
        if options.genes not in get_args(Genes):
            raise OptionError(f"genes is {options.genes!r}; expected exact or alias.")
        if options.batch_tokens is not None and options.batch_tokens < 1:
            raise OptionError(f"batch_tokens is {options.batch_tokens}; expected 1 or more.")
        of_task = [graph for graph in bundle.manifest.graphs if graph.task == task]
        if not of_task:
            bundle.graph(task, options.precision)  # raises, and lists the tasks there are
        for graph in of_task:
            check_feed(graph, labelled=labelled)
            check_answers(graph, fold)
        asked = Asked(options.provider, options.precision, options.device, options.threads, options.instances)
        longest = max(settings.max_length, options.batch_tokens or 0)
        choice, session = open_best(bundle, asked, task, cache_dir, longest, say)
        graph = graph_for(bundle, task, choice)
        budget = options.batch_tokens
        return cls(bundle, graph, session, choice, settings, genes=options.genes, batch_tokens=budget, fold=fold)

    def run(
        self,
        blocks: Iterable[CellBlock],
        columns: NDArray[np.int64],
        tick: Callable[[int], None] = lambda cells: None,
        change: Callable[[CellBlock, TokenBlock], TokenBlock] | None = None,
    ) -> Iterator[Result]:
        """Answer blocks of cells.

        Parameters
        ----------
        blocks
            Row ranges of the fixed grid, `RANGE_ROWS` each but the last; read ahead in another thread.
        columns
            (n_columns,) int64 token id of each column of the matrix, -1 where it has none.
        tick
            Told of each number of cells that is answered, batch by batch: a block may take minutes.
        change
            Makes of a block's tokens those that the model is asked about: with batch labels, flags or masks, or others.
            Runs in the thread that reads ahead.

        Yields
        ------
        Result
            One for each block, in order. A bad cell has NaN and its fault.
        """
        columns = self._taking_part(columns)
        self._open_session()

        def tokenise(block: CellBlock) -> TokenBlock:
            tokens = self._tokens(block, columns)
            return tokens if change is None else change(block, tokens)

        steps = pipeline.Steps(
            tokenise=tokenise,
            pack=self.batches,
            infer=self.infer,
            outputs=self._outputs,
            of_tokens=self._of_tokens,
            instances=self.choice.instances,
            tick=tick,
        )
        return pipeline.run(blocks, steps, self._timings)

    def tokenise(self, block: CellBlock, columns: NDArray[np.int64]) -> TokenBlock:
        """The tokens of a block, as `run` makes them.

        Parameters
        ----------
        block, columns
            See `run`.
        """
        return self._tokens(block, self._taking_part(columns))

    def _tokens(self, block: CellBlock, columns: NDArray[np.int64]) -> TokenBlock:
        return tokenize(block, columns, self.settings, len(self.vocabulary), modalities=self._modalities)

    def _taking_part(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """A column map without the genes that binning does not see."""
        columns = np.ascontiguousarray(columns, np.int64)
        n_tokens = len(self.vocabulary)
        if columns.ndim != 1 or (len(columns) and not -1 <= columns.min() <= columns.max() < n_tokens):
            raise InternalError(f"A column map points outside the vocabulary of {n_tokens} tokens.")
        return np.where((columns >= 0) & self._among[columns], columns, -1)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Output name to the shape of one cell's answer."""
        return dict(self._outputs)

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch, padding included; where memory has run out, less than was asked for."""
        return self._plan.budget

    @property
    def length_step(self) -> int:
        """Lengths of batches are multiples of this; more than 1 where what runs keeps something for each length."""
        return self._plan.step

    def narrow(self, instances: int) -> None:
        """Answer at most so many batches at a time from now on: fewer workspaces fill. Answers stay as they are."""
        self.choice = dataclasses.replace(self.choice, instances=min(instances, self.choice.instances))

    def keep_to(self, batch_tokens: int) -> None:
        """Take no larger batches from now on: a budget that was halved before is not tried again. 0: as they are."""
        if 0 < batch_tokens < self._plan.budget:
            self._plan = dataclasses.replace(self._plan, budget=batch_tokens)

    def batches(self, tokens: TokenBlock) -> list[AnyBatch]:
        """Cells of a block as batches that suit what runs, longest cells first."""
        return batches(tokens, self.settings, self._plan)

    def infer(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer one batch in the caller's thread, on an instance that is free.

        A batch that does not fit into memory is answered in parts, and the budget of all that follow is halved.

        Raises
        ------
        DeviceMemoryError
            Not even one cell fits.
        DeviceLostError
            A GPU stopped working.
        """
        plan = self._plan
        if batch.n_tokens <= plan.budget or len(batch.cells) == 1:
            try:
                answers = self._open_session().run(batch)
                return answers if self._fold is None else self._fold(batch, answers)
            except DeviceMemoryError as error:
                self._halve(batch, plan, error)
        return self._in_parts(batch)

    def _halve(self, batch: AnyBatch, tried: BatchPlan, error: DeviceMemoryError) -> None:
        """Halve the budget until a batch is above it, unless another instance has done so since it was tried."""
        with self._halving:
            if self._plan.budget < tried.budget:
                return
            if len(batch.cells) == 1 and tried.budget <= batch.lengths[0]:
                elsewhere = ", --provider cpu none of the GPU's" if self.choice.provider in ON_GPU else ""
                raise DeviceMemoryError(
                    f"A single cell of {batch.lengths[0]} tokens does not fit. {error} A lower --precision needs less"
                    f"{elsewhere}."
                ) from error
            budget = tried.budget // 2
            while len(batch.cells) > 1 and budget >= batch.n_tokens:
                budget //= 2
            self._plan = dataclasses.replace(tried, budget=budget)
            _log.warning("%s Goes on with %d tokens in a batch instead of %d.", error, budget, tried.budget)

    def _in_parts(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer a batch as several that keep to the budget in force."""
        parts = batches(unpacked(batch), self.settings, self._plan)
        answered = [(part.cells, self.infer(part)) for part in parts]
        whole: dict[str, NDArray[Any]] = {}
        for cells, answers in answered:
            for name, rows in answers.items():
                if name not in whole:  # the longest cells come first, so there is room for the tokens of all
                    whole[name] = np.empty((len(batch.cells), *rows.shape[1:]), rows.dtype)
                whole[name][cells, : rows.shape[1]] = rows
        return whole

    def answers(self, stream: Iterable[AnyBatch]) -> Iterator[tuple[AnyBatch, dict[str, NDArray[Any]]]]:
        """Answer batches on all instances; each is given with its answer as it finishes, in any order."""
        with Instances[None](self.infer, self.choice.instances) as instances:
            for done in instances.answers((None, batch) for batch in stream):
                yield done.batch, done.answers

    def head(self, task: str) -> GraphRunner:
        """Open a head of the bundle, such as ``classify``, for the answers of this engine."""
        return open_head(self.bundle, task, self.choice.sealed)

    @property
    def provider(self) -> str:
        """Execution provider that runs, with the version of its library."""
        return self._open_session().provider

    @property
    def timings(self) -> dict[str, float]:
        """Seconds so far by stage: read, tokenise, queue (all instances waited for tokens), infer (their mean)."""
        return dict(self._timings.seconds)

    def _open_session(self) -> GraphRunner:
        if self._session is None:
            raise InternalError("The engine was used after it was closed.")
        return self._session

    def close(self) -> None:
        """Let go of the graph. Closing twice does nothing."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _overridden(settings: TokenizerSettings, options: EngineOptions) -> TokenizerSettings:
    """Sealed settings with the options laid over them."""
    if options.max_length is not None and options.max_length < 2:
        raise OptionError(f"max_length is {options.max_length}; expected 2 or more: <cls> and a gene.")
    if options.seed is not None and not 0 <= options.seed < 2**64:
        raise OptionError(f"seed is {options.seed}; expected 0 to 2^64 - 1.")
    for name, found, allowed in (("ties", options.ties, Ties), ("sample", options.sample, Sample)):
        if found is not None and found not in get_args(allowed):
            raise OptionError(f"{name} is {found!r}; expected {' or '.join(get_args(allowed))}.")
    laid = {"max_length": options.max_length, "seed": options.seed, "ties": options.ties, "sample": options.sample}
    changes: dict[str, Any] = {name: value for name, value in laid.items() if value is not None}
    return dataclasses.replace(settings, **changes)


def _pooling(manifest: Manifest, of_tokens: bool, fold: Fold | None) -> str:
    """What is made of hidden states, for the id of vectors."""
    if of_tokens:
        return "tokens"
    return manifest.pooling if fold is None else fold.pooling
