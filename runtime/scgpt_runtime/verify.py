"""A bundle proves its embeddings on this machine: golden cells, tokenised and embedded here, against its own record.

Hidden states and heads were measured where the bundle was exported; their figures are in the manifest.

In: an opened bundle. Out: one `VerifyResult` for each way to run it. It needs neither torch nor the checkpoint.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import ProviderError, ScgptInferError
from scgpt_runtime.feeds import check_feed
from scgpt_runtime.golden import Golden
from scgpt_runtime.profiles import MEASURE, main_task
from scgpt_runtime.proof import LIMITS, golden_labels, worst_answer, worst_of
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.runners import graph_for, open_graph
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import taking_part

__all__ = ["VerifyResult", "verify"]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What one precision of a bundle gave on this machine.

    Attributes
    ----------
    precision
        The precision.
    provider
        Execution provider with the version of its library; on a GPU, with the dialect of the graph.
    tokens_equal
        Whether every token is the one that was sealed.
    worst
        Largest `measure` of a cell to the reference; infinite where a cell has no answer.
    limit
        What `worst` may be at most.
    cells
        Number of golden cells.
    error
        Why nothing was answered; empty where something was.
    measure
        ``1-cosine`` of vectors, or what a generator's profiles are judged by (`scgpt_runtime.profiles`).
    """

    precision: str
    provider: str
    tokens_equal: bool
    worst: float
    limit: float
    cells: int
    error: str = ""
    measure: str = "1-cosine"

    @property
    def passed(self) -> bool:
        """Whether the bundle gives on this machine what it was sealed with."""
        return self.tokens_equal and self.worst <= self.limit


def verify(
    bundle: Bundle,
    provider: str = "auto",
    precision: str | None = None,
    cache_dir: Path | None = None,
    device: str = "auto",
) -> list[VerifyResult]:
    """Run a bundle's golden cells on this machine.

    Parameters
    ----------
    bundle
        An opened bundle.
    provider
        Provider to prove; ``auto``: all that run here.
    precision
        One precision; None: every one that is sealed, and bf16 where it is computed.
    cache_dir
        Where a provider that compiles keeps what it has compiled; None: nowhere.
    device
        Which GPUs, as `scgpt_runtime.choosing.Asked` takes them; their lanes are proven one by one.

    Returns
    -------
    list of VerifyResult
        One for each provider and precision.

    Raises
    ------
    ProviderError
        The provider or precision cannot be had here. Where several are proven, what fails is one of the results.
    BundleError
        The graph asks for what golden cells do not have.
    """
    for graph in bundle.manifest.graphs:
        if graph.task == "embed":
            check_feed(graph, labelled=bool(bundle.manifest.batches))
    golden = bundle.golden()
    task, equal = main_task(golden), _tokens_equal(bundle, golden)
    asked = dict.fromkeys((*bundle.manifest.precisions, "bf16")) if precision is None else (precision,)
    choices: list[ProviderChoice] = []
    refused: list[ProviderError] = []
    for name in asked:
        try:
            choices += candidates(bundle.manifest, Asked(provider, name, device), task)
        except ProviderError as error:
            refused.append(error)
    if not choices:
        raise refused[0]
    if len(choices) == 1:
        return [_verify_one(bundle, golden, equal, choices[0], cache_dir)]
    return [_or_failed(bundle, golden, equal, choice, cache_dir) for choice in choices]


def _tokens_equal(bundle: Bundle, golden: Golden) -> bool:
    if golden.profiles is not None:  # every gene is a token and carries its value
        return np.array_equal(golden.token_ids, golden.ids) and np.array_equal(golden.data, golden.values)
    vocabulary = bundle.vocabulary()
    columns = np.where(taking_part(vocabulary, bundle.manifest.binning_genes), np.arange(len(vocabulary)), -1)
    modalities = bundle.modalities()
    of_tokens = None if modalities is None else modalities.of_tokens
    tokens = tokenize(golden.block(), columns, bundle.manifest.tokenizer, len(vocabulary), modalities=of_tokens)
    pairs = ((tokens.ids, golden.ids), (tokens.values, golden.values), (tokens.offsets, golden.offsets))
    return all(found.dtype == sealed.dtype and np.array_equal(found, sealed) for found, sealed in pairs)


def _or_failed(
    bundle: Bundle, golden: Golden, tokens_equal: bool, choice: ProviderChoice, cache_dir: Path | None
) -> VerifyResult:
    """What came of one of several: that it does not run must not hide the others."""
    try:
        return _verify_one(bundle, golden, tokens_equal, choice, cache_dir)
    except ScgptInferError as error:
        limit, running = LIMITS[choice.precision], f"{choice.provider} {choice.dialect}"
        return VerifyResult(choice.precision, running, tokens_equal, math.inf, limit, golden.n_cells, str(error))


def _verify_one(
    bundle: Bundle, golden: Golden, tokens_equal: bool, choice: ProviderChoice, cache_dir: Path | None
) -> VerifyResult:
    if golden.profiles is not None:
        return _verify_profiles(bundle, golden, tokens_equal, choice, cache_dir)
    graph, runner = graph_for(bundle, "embed", choice), open_graph(bundle, "embed", choice, cache_dir)
    with Engine(bundle, graph, runner, choice, bundle.manifest.tokenizer) as engine:
        columns = np.arange(len(engine.vocabulary), dtype=np.int64)
        labels = golden_labels(golden, len(bundle.manifest.batches))
        (result,) = engine.run([golden.block()], columns, change=lambda block, tokens: replace(tokens, labels=labels))
        running = f"{engine.provider} {choice.dialect}" if choice.devices else engine.provider
        (vectors,) = result.outputs.values()
        worst = worst_of(golden, vectors)
        if choice.devices:  # what a GPU answers when it replays is another matter
            worst = max(worst, worst_answer(bundle, choice, runner))
    return VerifyResult(choice.precision, running, tokens_equal, worst, LIMITS[choice.precision], golden.n_cells)


def _verify_profiles(
    bundle: Bundle, golden: Golden, tokens_equal: bool, choice: ProviderChoice, cache_dir: Path | None
) -> VerifyResult:
    """What the graph of a perturbation generator gives."""
    runner = open_graph(bundle, main_task(golden), choice, cache_dir)
    try:
        running, worst = runner.provider, worst_answer(bundle, choice, runner)
    finally:
        runner.close()
    limit = LIMITS[choice.precision]
    return VerifyResult(choice.precision, running, tokens_equal, worst, limit, golden.n_cells, measure=MEASURE)
