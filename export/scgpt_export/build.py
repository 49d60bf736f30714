"""The recipe from a checkpoint to a sealed bundle, top to bottom: graphs, trace, passes, weights, parity, seal.

In: a loaded `Checkpoint` and options. Out: a bundle folder and a report. A precision whose figures are
outside their limits is left out; when none is left, nothing is sealed.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from torch import nn

from scgpt_export.calibration import CalibrationCells, calibration_tokens, observe, record
from scgpt_export.checkpoint import Checkpoint
from scgpt_export.genes import build_vocabulary
from scgpt_export.golden_cells import as_golden, golden_block, golden_tokens
from scgpt_export.graphs import ClassifyGraph, EmbedGraph, ExpressionGraph, MvcGraph, TokensGraph
from scgpt_export.parity import Answers, Graphs, measure, reference_answers, within
from scgpt_export.passes import PRECISIONS, sequence
from scgpt_export.provenance import built_with, told_args, weights_digest
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_export.rewrites import rewrite
from scgpt_export.static import Range
from scgpt_export.store import WeightStore
from scgpt_export.trace import OPSET, Signature, signature, trace
from scgpt_export.values import ZERO_SHOT_BINS, checked_bins
from scgpt_runtime.bundle import seal
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import OptionError, OutputError, ParityError
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import (
    STATIC,
    Calibration,
    GraphRecord,
    Manifest,
    ParityRecord,
    TokenizerSettings,
    vector_id,
)
from scgpt_runtime.vocab import Vocabulary, is_special

__all__ = ["ExportOptions", "ExportReport", "Prepared", "assemble", "check", "export", "prepare", "tokenizer_settings"]

_PORTABLE, _STATIC = "portable", "openvino"
"""Dialects. Static int8 is for OpenVINO: without it, dynamic int8 is closer and asks for no calibration."""

_REQUIRED = ("embed", "tokens")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export may be told.

    Attributes
    ----------
    precisions
        Which to seal, of fp32, fp16 and int8.
    name
        Name of the model; the bundle folder's name where empty.
    key
        ``obsm`` key of its embeddings.
    licence, provenance
        Free text for the manifest.
    max_length
        Longest cell in tokens; the checkpoint's ``max_seq_len`` or 1,200 where None.
    seed
        Seed of the tokenizer's draws.
    golden_seed
        Seed of the cells that prove the bundle.
    calibration
        Cells that tell the ranges of activations; with them an int8 bundle also gets a graph for OpenVINO.
    """

    precisions: tuple[str, ...] = ("fp32", "fp16")
    name: str = ""
    key: str = "X_scGPT"
    licence: str = ""
    provenance: str = ""
    max_length: int | None = None
    seed: int = 0
    golden_seed: int = 0
    calibration: CalibrationCells | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was sealed, and what was not.

    Attributes
    ----------
    manifest
        As sealed.
    left_out
        Figures outside their limits: of a whole precision (``embed``, ``tokens``) or of one head in it.
    """

    manifest: Manifest
    left_out: tuple[ParityRecord, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is the same for every precision: the reference's answers, the traced graphs, ranges of activations."""

    checkpoint: Checkpoint
    model: ScGPT
    settings: TokenizerSettings
    vocabulary: Vocabulary
    tokens: TokenBlock
    golden: Golden
    expected: Answers
    signatures: dict[str, Signature]
    traced: dict[str, ir.Model]
    ranges: tuple[Range, ...] = ()
    calibration: tuple[Calibration, ...] = ()


def export(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Make a bundle.

    Parameters
    ----------
    checkpoint
        As loaded.
    output
        Folder to make; must not exist.
    options
        Defaults where None.
    say
        Told of each step, for people.

    Returns
    -------
    What was sealed and what was left out.

    Raises
    ------
    OptionError
        A precision that is not known.
    OutputError
        The folder exists already, or cannot be written.
    ParityError
        No precision is within its limits; nothing is sealed.
    """
    options = options or ExportOptions()
    check(output, options)
    return assemble(prepare(checkpoint, options, say), output, options, say)


def check(output: Path, options: ExportOptions) -> None:
    """Refuse what cannot be exported, before any work; errors as for `export`."""
    unknown = [name for name in options.precisions if name not in PRECISIONS]
    if unknown or not options.precisions:
        raise OptionError(
            f"Found precision {', '.join(unknown) or 'none'}; a bundle can be sealed in {', '.join(PRECISIONS)}. "
            "Choose one or more of these."
        )
    if options.calibration is not None and "int8" not in options.precisions:
        raise OptionError(
            f"Calibration cells are for int8, and the precisions are {', '.join(options.precisions)}. Add int8 to "
            "them, or calibrate nothing."
        )
    if output.exists():
        raise OutputError(f"{output} exists already. Name a folder that does not, or remove it first.")
    if not output.parent.is_dir():
        raise OutputError(f"There is no folder {output.parent} to put {output.name} into. Make it first.")


def prepare(checkpoint: Checkpoint, options: ExportOptions, say: Callable[[str], None]) -> Prepared:
    """Ask the reference about the golden cells, and trace a graph for everything the checkpoint can answer."""
    say("reading weights into the reference model")
    model = checkpoint.model()
    settings = tokenizer_settings(checkpoint, options)
    vocabulary = build_vocabulary(checkpoint.tokens)
    cells = options.calibration
    told = None if cells is None else calibration_tokens(cells, vocabulary, settings, checkpoint.binning_genes)
    seen = set(checkpoint.binning_genes or checkpoint.tokens)
    genes = [i for i, name in enumerate(checkpoint.tokens) if name in seen and not is_special(name)]
    say("asking the reference model about the golden cells")
    block = golden_block(np.array(genes, np.int64), settings, options.golden_seed)
    tokens = golden_tokens(block, settings, model.config.n_tokens)
    signatures = _signatures(model.config, settings)
    expected = reference_answers(model, tokens, settings, tuple(signatures))
    golden = as_golden(block, tokens, [outputs[0] for outputs in expected["embed"]])
    traced = {}
    for task, shape in signatures.items():
        say(f"tracing {task}")
        traced[task] = trace(_module(model, settings, task), shape)
    prepared = Prepared(checkpoint, model, settings, vocabulary, tokens, golden, expected, signatures, traced)
    return prepared if cells is None or told is None else _calibrated(prepared, cells, told, say)


def _calibrated(
    prepared: Prepared, cells: CalibrationCells, tokens: TokenBlock, say: Callable[[str], None]
) -> Prepared:
    """The same with the ranges that activations take on these cells."""
    say(f"taking the ranges of activations on {tokens.n_cells:,} cells")
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as folder:
        n_batches = prepared.model.config.n_batches
        ranges = observe(prepared.traced["embed"], tokens, prepared.settings, n_batches, Path(folder))
    return replace(prepared, ranges=ranges, calibration=(record(cells, tokens, ranges),))


def assemble(prepared: Prepared, output: Path, options: ExportOptions, say: Callable[[str], None]) -> ExportReport:
    """Measure every precision and seal those that hold; errors as for `export`."""
    with _staging(output) as stage:
        figures, left_out = _measure_all(prepared, options.precisions, stage, say)
        unsealed = _written(prepared, figures, stage, output.name, options)
        say(f"sealing {output}")
        manifest = seal(stage / "bundle", unsealed)
        (stage / "bundle").rename(output)
    return ExportReport(manifest, tuple(left_out))


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
    )


def _signatures(config: ModelConfig, settings: TokenizerSettings) -> dict[str, Signature]:
    """The tasks that the checkpoint has weights for, and the shape of their graphs."""
    tasks = ["embed", "tokens", "expression"]
    if config.n_cls > 1:  # scGPT builds every model with a classifier of one class, which is trained for nothing
        tasks.append("classify")
    if config.mvc:
        tasks.append("mvc")
    return {
        task: signature(
            task,
            dim=config.dim,
            n_genes=config.n_tokens,
            binned=settings.value_style == "binned",
            n_classes=config.n_cls,
            batch=config.norm == "dsbn" if task in _REQUIRED else config.batch_labels,
            explicit_zero=config.explicit_zero,
        )
        for task in tasks
    }


def _module(model: ScGPT, settings: TokenizerSettings, task: str) -> nn.Module:
    graph: nn.Module
    if task == "embed":
        graph = EmbedGraph(model, settings)
    elif task == "tokens":
        graph = TokensGraph(model, settings)
    elif task == "classify" and model.cls_decoder is not None:
        graph = ClassifyGraph(model.cls_decoder)
    elif task == "mvc" and model.mvc_decoder is not None:
        graph = MvcGraph(model, model.mvc_decoder)
    else:
        graph = ExpressionGraph(model)
    rewrite(graph)
    return graph


def _measure_all(
    prepared: Prepared, precisions: tuple[str, ...], stage: Path, say: Callable[[str], None]
) -> tuple[list[ParityRecord], list[ParityRecord]]:
    """Write and measure every precision on its own. Gives the figures to seal and those that are outside."""
    figures: list[ParityRecord] = []
    outside: list[ParityRecord] = []
    for precision in precisions:
        for dialect in (_PORTABLE, _STATIC) if precision == "int8" and prepared.ranges else (_PORTABLE,):
            records = _measured(prepared, precision, dialect, stage)
            for found in records:
                verdict = "" if within(found) else " (outside: left out)"
                figure = f"{found.measure} {found.worst:.1e}, limit {found.limit:.2g}"
                say(f"parity {_called(found)} {found.task}: {figure}{verdict}")
            failed = [found for found in records if not within(found)]
            outside += failed
            if any(found.task in _REQUIRED for found in failed):
                break  # static int8 is sealed beside the dynamic one or not at all
            figures += [found for found in records if within(found)]
    if not figures:
        worst = ", ".join(f"{_called(r)} {r.task} {r.worst:.1e} (limit {r.limit:.0e})" for r in outside)
        raise ParityError(f"No precision is within its limit, so nothing is sealed: {worst}.")
    return figures, outside


def _called(found: ParityRecord) -> str:
    return found.precision if found.dialect == _PORTABLE else f"{found.precision} for {found.dialect}"


def _measured(prepared: Prepared, precision: str, dialect: str, stage: Path) -> list[ParityRecord]:
    """Figures of all tasks in a precision, its graphs written where nothing else is and removed again."""
    folder = stage / "measured"
    folder.mkdir()
    store = WeightStore(folder)
    tasks = tuple(prepared.traced) if dialect == _PORTABLE else ("embed",)
    paths = {task: store.write(_converted(prepared, task, precision, dialect), f"{task}.onnx") for task in tasks}
    expected = {task: prepared.expected[task] for task in tasks}
    n_batches = prepared.model.config.n_batches
    figures = measure(Graphs(precision, paths, dialect), prepared.tokens, prepared.settings, expected, n_batches)
    shutil.rmtree(folder)
    return figures


def _converted(prepared: Prepared, task: str, precision: str, dialect: str) -> ir.Model:
    """A copy of a traced model in another precision.

    Heads of an int8 bundle stay float32: they are a few percent of the work and would double the error.
    """
    copy = prepared.traced[task].clone()
    ranges = prepared.ranges if dialect == _STATIC else ()
    sequence("fp32" if precision == "int8" and task not in _REQUIRED else precision, ranges)(copy)
    return copy


def _written(
    prepared: Prepared, figures: list[ParityRecord], stage: Path, name: str, options: ExportOptions
) -> Manifest:
    """Write everything but the manifest into the stage's bundle folder, and say what the manifest shall hold."""
    bundle = stage / "bundle"
    (bundle / "graphs").mkdir(parents=True)
    store = WeightStore(bundle / "graphs")
    graphs = []
    for found in figures:
        task, precision, dialect = found.task, found.precision, found.dialect
        path = f"{task}.{precision}.{dialect}.onnx"
        store.write(_converted(prepared, task, precision, dialect), path)
        shape = prepared.signatures[task]
        graphs.append(GraphRecord(task, precision, dialect, f"graphs/{path}", OPSET, shape.inputs, shape.outputs))
    prepared.golden.save(bundle / "golden.npz")
    vocabulary = prepared.vocabulary.to_json()
    (bundle / "vocab.json").write_text(vocabulary, encoding="utf-8", newline="\n")
    checkpoint, config = prepared.checkpoint, prepared.model.config
    embed = sorted((r for r in figures if r.task == "embed"), key=lambda r: r.worst)
    precisions = tuple(found.precision for found in embed if found.dialect == _PORTABLE)
    calibration = prepared.calibration if any(found.dialect == _STATIC for found in embed) else ()
    unsealed = Manifest(
        name=options.name or name,
        args=told_args(checkpoint),
        source=checkpoint.source,
        weights=weights_digest(checkpoint),
        dim=config.dim,
        pooling=config.pooling,
        tokenizer=prepared.settings,
        genes=dict(prepared.vocabulary.versions),
        precisions=precisions,
        vector_ids={},
        graphs=tuple(graphs),
        parity=tuple(figures),
        built_with=built_with(),
        licence=options.licence,
        provenance=options.provenance,
        key=options.key,
        labels=checkpoint.labels,
        batches=checkpoint.batches,
        modalities=checkpoint.modalities,
        binning_genes=checkpoint.binning_genes,
        calibration=calibration,
    )
    digest = hashlib.sha256(vocabulary.encode()).hexdigest()
    ids = {
        name: vector_id(unsealed.weights, digest, config.pooling, prepared.settings, "exact", unsealed.arithmetic(name))
        for name in (*precisions, *([STATIC] if calibration else []))
    }
    return replace(unsealed, vector_ids=ids)


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """A folder beside the output that is gone afterwards, so that the final name never holds half a bundle."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error}. Nothing was left there.") from error
