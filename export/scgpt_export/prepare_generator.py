"""A perturbation generator's checkpoint becomes all that is the same for every precision.

In: a loaded `Checkpoint` of a generator and options. Out: a `Prepared`, as `scgpt_export.prepare` makes it of other
models: golden cells with flags, what the reference predicts of them, traced graphs. It writes nothing.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from scgpt_export.checkpoint import Checkpoint
from scgpt_export.generator import Generator
from scgpt_export.genes import build_vocabulary
from scgpt_export.graphs import ClassifyGraph
from scgpt_export.options import ExportOptions
from scgpt_export.parity import Answers, one_thread
from scgpt_export.perturbing import FromCellGraph, PerturbGraph, gene_table
from scgpt_export.prepare import PORTABLE, Prepared
from scgpt_export.trace import signature, trace
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import OptionError
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import taking_part

__all__ = ["PRECISIONS", "prepare_generator"]

PRECISIONS = ("fp32", "fp16")
"""What a generator can be sealed in. What it is asked for is a small difference between two large numbers."""

_SIZES = (1, 2, 9, 9, 40, 150, 150, 150, 400, 900, 2000)
"""Genes of the golden cells; equal ones are answered together."""

_EXPRESSED = 0.3
_PERTURBED = 3


def prepare_generator(checkpoint: Checkpoint, options: ExportOptions, say: Callable[[str], None]) -> Prepared:
    """Ask the reference about golden cells, and trace a graph for everything the checkpoint can answer.

    Raises
    ------
    OptionError
        A precision that a generator is not sealed in.
    """
    _check(options)
    say("reading weights into the reference model")
    model = checkpoint.generator()
    settings = _settings(checkpoint, options)
    vocabulary = build_vocabulary(checkpoint.tokens)
    genes = np.flatnonzero(taking_part(vocabulary, checkpoint.binning_genes))
    say("asking the reference model about the golden cells")
    tokens = _golden_tokens(genes, options.golden_seed, model.config.n_tokens)
    graphs = _graphs(model)
    expected = _answers(model, tokens, tuple(graphs))
    golden = _as_golden(tokens, expected)
    signatures, traced = {}, {}
    for task, graph in graphs.items():
        say(f"tracing {task}")
        shape = signature(
            task,
            dim=model.config.dim,
            n_heads=model.config.n_heads,
            n_genes=model.config.n_tokens,
            binned=False,
            n_classes=model.config.n_cls,
            batch=False,
            explicit_zero=model.config.explicit_zero,
        )
        signatures[task, PORTABLE], traced[task, PORTABLE] = shape, trace(graph, shape)
    return Prepared(checkpoint, model, settings, vocabulary, tokens, golden, expected, signatures, traced)


def _check(options: ExportOptions) -> None:
    others = [name for name in options.precisions if name not in PRECISIONS]
    if others:
        raise OptionError(
            f"Found precision {', '.join(others)}; a perturbation generator can be sealed in {', '.join(PRECISIONS)}. "
            "Leave the others out."
        )


def _settings(checkpoint: Checkpoint, options: ExportOptions) -> TokenizerSettings:
    """Values as they come and every gene a token: the original feeds log-normalised expression, whatever
    ``args.json`` of the model that it started from says of bins.
    """
    args, config = checkpoint.args, checkpoint.config
    return TokenizerSettings(
        cls_id=checkpoint.cls_id,
        pad_id=config.pad_id,
        max_length=options.max_length or int(args.get("max_seq_len", 1200)),
        value_style="raw",
        cls_value=0.0,
        pad_value=config.pad_value,
        seed=options.seed,
        include_zeros=True,
    )


def _graphs(model: Generator) -> dict[str, nn.Module]:
    """The tasks that the checkpoint has weights for, as modules."""
    graphs: dict[str, nn.Module] = {"perturb": PerturbGraph(model), "genes": gene_table(model)}
    if model.cls_decoder is not None and model.config.n_cls > 1:  # a classifier of one class is trained for nothing
        graphs["classify"] = ClassifyGraph(model.cls_decoder)
    if model.mvc_decoder is not None:
        graphs["mvc"] = FromCellGraph(model, model.mvc_decoder)
    return graphs


def _golden_tokens(genes: NDArray[np.int64], seed: int, n_tokens: int) -> TokenBlock:
    """Random cells: log1p values in some genes, zero in the others, up to three genes perturbed."""
    random = np.random.default_rng(seed)
    sizes = [min(size, len(genes)) for size in _SIZES]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    total = int(offsets[-1])
    ids = np.concatenate([np.sort(random.permutation(genes)[:size]) for size in sizes])
    expressed = random.random(total) < _EXPRESSED
    expressed[offsets[:-1]] = True  # no cell is empty
    values = np.where(expressed, np.log1p(random.negative_binomial(1, 0.2, total) + random.random(total)), 0)
    flags = np.zeros(total, np.uint8)
    for start, stop in pairwise(offsets):
        flags[random.integers(start, stop, random.integers(0, _PERTURBED + 1))] = 1
    return TokenBlock(
        ids=ids.astype(np.uint16) if n_tokens <= 0xFFFF else ids.astype(np.uint32),
        values=values.astype(np.float32),
        offsets=offsets,
        faults=np.zeros(len(sizes), np.uint8),
        first_row=0,
        flags=flags,
    )


def _answers(model: Generator, tokens: TokenBlock, tasks: tuple[str, ...]) -> Answers:
    """What the reference says of each cell, alone."""
    answers: Answers = {task: [] for task in tasks}
    with torch.no_grad(), one_thread():
        for start, stop in pairwise(tokens.offsets):
            found = _answer(model, *_inputs(tokens, slice(int(start), int(stop))))
            for task in tasks:
                answers[task].append([output[0].numpy() for output in found[task] if output is not None])
    return answers


def _inputs(tokens: TokenBlock, inside: slice) -> tuple[torch.Tensor, ...]:
    """Ids, values and flags of a cell as the reference takes them, (1, tokens) each."""
    if tokens.flags is None:
        raise OptionError("These cells have no flags: a generator is asked about cells that have.")
    arrays = (tokens.ids[inside].astype(np.int64), tokens.values[inside], tokens.flags[inside].astype(np.int64))
    return tuple(torch.from_numpy(array)[None] for array in arrays)


def _answer(
    model: Generator, ids: torch.Tensor, values: torch.Tensor, flags: torch.Tensor
) -> dict[str, tuple[torch.Tensor | None, ...]]:
    """Everything that the model has an answer to, by task."""
    hidden = model.encode(ids, values, flags, torch.zeros_like(ids, dtype=torch.bool))
    cell = model.pool(hidden, values)
    found: dict[str, tuple[torch.Tensor | None, ...]] = {
        "perturb": (*model.decoder(hidden, values), cell),
        "genes": (model.encoder(ids),),
    }
    if model.cls_decoder is not None:
        found["classify"] = (model.cls_decoder(cell),)
    if model.mvc_decoder is not None:
        found["mvc"] = model.mvc_decoder(cell, model.encoder(ids))
    return found


def _as_golden(tokens: TokenBlock, expected: Answers) -> Golden:
    """Golden cells with the profiles that the reference predicts, and its vectors, L2-normalised."""
    vectors = np.stack([outputs[-1] for outputs in expected["perturb"]])
    return Golden(
        indptr=tokens.offsets,
        token_ids=tokens.ids,
        data=tokens.values.astype(np.float32),
        ids=tokens.ids,
        values=tokens.values,
        offsets=tokens.offsets,
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        flags=tokens.flags,
        profiles=np.concatenate([outputs[0] for outputs in expected["perturb"]]),
    )
