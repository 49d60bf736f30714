"""A checkpoint becomes all that is the same for every precision: traced graphs, golden cells, the reference's answers.

In: a loaded `Checkpoint` and options. Out: a `Prepared`. It writes nothing.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import nn

from scgpt_export.calibration import CalibrationCells, calibration_tokens, observe, record
from scgpt_export.checkpoint import Checkpoint
from scgpt_export.cuda import cuda_graph, fits
from scgpt_export.generator import Generator
from scgpt_export.genes import build_vocabulary
from scgpt_export.golden_cells import as_golden, golden_block, golden_tokens, short_cells
from scgpt_export.graphs import (
    AttentionGraph,
    ClassifyGraph,
    EmbedGraph,
    ExpressionGraph,
    GenesGraph,
    MvcGraph,
    TokensGraph,
)
from scgpt_export.modality_graphs import answers_from_cell, multiomic_head
from scgpt_export.multiomic import MultiOmicScGPT
from scgpt_export.options import ExportOptions
from scgpt_export.parity import Answers, reference_answers
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_export.rewrites import rewrite
from scgpt_export.static import Range
from scgpt_export.trace import Signature, signature, trace
from scgpt_export.values import ZERO_SHOT_BINS, checked_bins
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import CUDA_DIALECTS, Calibration, TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, taking_part

__all__ = [
    "CELLS",
    "OF_TOKENS",
    "PORTABLE",
    "Graph",
    "Prepared",
    "graph_of",
    "prepare",
    "signatures_of",
    "tokenizer_settings",
]

Graph = tuple[str, str]
"""A task and a dialect."""

PORTABLE = "portable"

CELLS = ("embed", "tokens")
"""Tasks that turn cells into something; the others are heads on top of them, and the embeddings of genes."""

OF_TOKENS = (*CELLS, "attention")
"""Tasks whose graphs take tokens."""

_TRACED = (PORTABLE, "cuda-lengths", "cuda-packed")


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is the same for every precision: the reference's answers, the traced graphs, ranges of activations.

    Attributes
    ----------
    expected
        What the reference says of the golden cells, by task.
    signatures
        Of every graph that can be sealed.
    traced
        Models of those that are not made of another's (`scgpt_export.routes`).
    ranges, calibration
        Of activations, and where they come from; empty without calibration cells.
    """

    checkpoint: Checkpoint
    model: ScGPT | Generator
    settings: TokenizerSettings
    vocabulary: Vocabulary
    tokens: TokenBlock
    golden: Golden
    expected: Answers
    signatures: dict[Graph, Signature]
    traced: dict[Graph, ir.Model]
    ranges: tuple[Range, ...] = ()
    calibration: tuple[Calibration, ...] = ()


def prepare(
    checkpoint: Checkpoint, options: ExportOptions, say: Callable[[str], None], among: tuple[str, ...] | None = None
) -> Prepared:
    """Ask the reference about the golden cells, and trace a graph for everything the checkpoint can answer.

    With ``among``, for those of its tasks alone; ``embed`` is one of them.
    """
    say("reading weights into the reference model")
    model = checkpoint.model()
    settings = tokenizer_settings(checkpoint, options)
    vocabulary = build_vocabulary(checkpoint.tokens)
    cells = options.calibration
    of_tokens = None if checkpoint.modalities is None else checkpoint.modalities.of_tokens
    binned = checkpoint.binning_genes
    told = None if cells is None else calibration_tokens(cells, vocabulary, settings, binned, of_tokens)
    genes = np.flatnonzero(taking_part(vocabulary, binned))
    say("asking the reference model about the golden cells")
    block = golden_block(genes, settings, options.golden_seed)
    tokens = golden_tokens(block, genes, settings, model.config.n_tokens, of_tokens)
    signatures = signatures_of(model.config, settings, options.precisions)
    if among is not None:
        signatures = {graph: shape for graph, shape in signatures.items() if graph[0] in among}
    tasks = tuple(task for task, dialect in signatures if dialect == PORTABLE)
    if among is None and model.config.mvc and "mvc" not in tasks:
        say(f"mvc is left out: with {model.config.pooling} it asks for the modalities that the cell embedding pooled")
    answered = tuple(task for task in tasks if task != "attention")
    expected = reference_answers(model, tokens, settings, answered, of_tokens)
    if "attention" in tasks:
        expected |= reference_answers(model, short_cells(tokens), settings, ("attention",))
    golden = as_golden(block, tokens, [outputs[0] for outputs in expected["embed"]])
    traced = {}
    for (task, dialect), shape in signatures.items():
        if dialect in _TRACED:
            say(f"tracing {task}" + (f" for {dialect}" if dialect != PORTABLE else ""))
            traced[task, dialect] = trace(graph_of(model, settings, task, dialect), shape)
    prepared = Prepared(checkpoint, model, settings, vocabulary, tokens, golden, expected, signatures, traced)
    return prepared if cells is None or told is None else _calibrated(prepared, cells, told, say)


def _calibrated(
    prepared: Prepared, cells: CalibrationCells, tokens: TokenBlock, say: Callable[[str], None]
) -> Prepared:
    """The same with the ranges that activations take on these cells."""
    say(f"taking the ranges of activations on {tokens.n_cells:,} cells")
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as folder:
        n_batches = prepared.model.config.n_batches
        ranges = observe(prepared.traced["embed", PORTABLE], tokens, prepared.settings, n_batches, Path(folder))
    return replace(prepared, ranges=ranges, calibration=(record(cells, tokens, ranges),))


def tokenizer_settings(checkpoint: Checkpoint, options: ExportOptions) -> TokenizerSettings:
    """Tokenizer settings for a checkpoint: zero-shot conventions, or fine-tuned ones where it was fine-tuned.

    The original bins with 51 bins whatever ``args.json`` says, in zero-shot use; fine-tuned models were
    given their own number. A category encoder's table fixes the codes of mask and padding.
    """
    args, config = checkpoint.args, checkpoint.config
    fine_tuned = checkpoint.fine_tuned
    n_bins = checked_bins(args) if fine_tuned else ZERO_SHOT_BINS
    binned = args.get("input_style", "binned") == "binned"
    return TokenizerSettings(
        cls_id=checkpoint.cls_id,
        pad_id=config.pad_id,
        max_length=options.max_length or int(args.get("max_seq_len", 1200)),
        n_bins=n_bins,
        value_style="binned" if binned else "raw",
        cls_value=checkpoint.cls_value,
        mask_value=float(args.get("mask_value", -1)),
        pad_value=config.pad_value,
        seed=options.seed,
        include_zeros=checkpoint.include_zeros,
    )


def signatures_of(
    config: ModelConfig, settings: TokenizerSettings, precisions: tuple[str, ...]
) -> dict[Graph, Signature]:
    """The tasks that the checkpoint has weights for, and the shape of their graphs in each dialect."""
    tasks = [*OF_TOKENS, "genes", "expression"]
    if config.n_cls > 1:  # scGPT builds every model with a classifier of one class, which is trained for nothing
        tasks.append("classify")
    if config.dab:
        tasks.append("discriminate")
    if answers_from_cell(config):
        tasks.append("mvc")
    graphs = [(task, PORTABLE) for task in tasks]
    if {"fp16", "bf16"} & {*precisions}:
        graphs += [(task, dialect) for task in CELLS for dialect in CUDA_DIALECTS if fits(config, task, dialect)]
    return {
        (task, dialect): signature(
            task,
            dialect,
            dim=config.dim,
            n_heads=config.n_heads,
            n_genes=config.n_tokens,
            binned=settings.value_style == "binned",
            n_classes=config.n_cls,
            batch=config.norm == "dsbn" if task in OF_TOKENS else config.batch_labels,
            explicit_zero=config.explicit_zero,
            n_batches=config.n_batches,
            modalities=config.multiomic is not None and config.multiomic.n_modalities > 0,
        )
        for task, dialect in graphs
    }


def graph_of(model: ScGPT, settings: TokenizerSettings, task: str, dialect: str = PORTABLE) -> nn.Module:
    """The module of a task's graph in a dialect, rewritten, to be traced."""
    graph: nn.Module
    if task == "attention":
        graph = AttentionGraph(model, settings)
    elif task in CELLS:
        graph = (EmbedGraph if task == "embed" else TokensGraph)(model, settings)
        if dialect != PORTABLE:
            return cuda_graph(graph, dialect)
    elif task == "genes":
        graph = GenesGraph(model)
    elif task == "classify" and model.cls_decoder is not None:
        graph = ClassifyGraph(model.cls_decoder)
    elif task == "discriminate" and model.grad_reverse_discriminator is not None:
        graph = ClassifyGraph(model.grad_reverse_discriminator)
    elif isinstance(model, MultiOmicScGPT):
        graph = multiomic_head(model, task)
    elif task == "mvc" and model.mvc_decoder is not None:
        graph = MvcGraph(model, model.mvc_decoder)
    else:
        graph = ExpressionGraph(model)
    rewrite(graph)
    return graph
