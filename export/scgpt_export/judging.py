"""Every precision and dialect against the reference: what may be sealed, with its figures, and what may not.

In: what was prepared. Out: a `Judgement`. Each precision decides for itself, by its portable graphs; a dialect beside
them is sealed with figures of its own or not at all.

What no processor can run is sealed without a figure, and has to prove itself on the golden cells where it is opened:
``cuda-packed``, whose operator has no such kernels, and bf16.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from scgpt_export.golden_cells import short_cells
from scgpt_export.parity import Graphs, measure, within
from scgpt_export.passes import sequence
from scgpt_export.prepare import CELLS, PORTABLE, Prepared
from scgpt_export.store import WeightStore
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import ParityError
from scgpt_runtime.manifest import CUDA_DIALECTS, ParityRecord

__all__ = ["STATIC_DIALECT", "Judgement", "Variant", "converted", "judge", "variants"]

STATIC_DIALECT = "openvino"
"""Static int8 is for OpenVINO: without it, dynamic int8 is closer and asks for no calibration."""

_MADE_OF = {"cuda-flash": "cuda-lengths", "cuda-exact": "cuda-lengths", STATIC_DIALECT: PORTABLE}


@dataclass(frozen=True, slots=True)
class Variant:
    """Graphs that are sealed together or left out together, but for heads.

    Attributes
    ----------
    precision, dialect
        Of all of them.
    tasks
        What they answer.
    """

    precision: str
    dialect: str
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.precision if self.dialect == PORTABLE else f"{self.precision} for {self.dialect}"

    @property
    def measurable(self) -> bool:
        """Whether a processor can run it."""
        return self.precision != "bf16" and self.dialect != "cuda-packed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of it.

    Attributes
    ----------
    sealed
        Variants that hold, with those of their tasks that do.
    figures
        Within their limits.
    outside
        Figures that are not.
    """

    sealed: tuple[Variant, ...]
    figures: tuple[ParityRecord, ...]
    outside: tuple[ParityRecord, ...]


def variants(prepared: Prepared, precision: str) -> list[Variant]:
    """What a precision can be sealed as, the one that decides about the others first."""
    made = []
    if precision != "bf16":
        tasks = tuple(task for task, name in prepared.traced if name == PORTABLE)
        if precision == "int8":  # networks are made of the order of scores, which 8 bits do not keep
            tasks = tuple(task for task in tasks if task != "attention")
        made.append(Variant(precision, PORTABLE, tasks))
    if precision == "int8" and prepared.ranges:
        made.append(Variant(precision, STATIC_DIALECT, ("embed",)))
    if precision in ("fp16", "bf16"):
        for dialect in CUDA_DIALECTS:
            tasks = tuple(task for task, name in prepared.signatures if name == dialect)
            if tasks and (precision, dialect) != ("bf16", "cuda-packed"):  # its operator has no kernels for bf16
                made.append(Variant(precision, dialect, tasks))
    return made


def judge(prepared: Prepared, precisions: tuple[str, ...], stage: Path, say: Callable[[str], None]) -> Judgement:
    """Measure all that can be measured.

    Parameters
    ----------
    prepared
        Graphs, golden cells and what the reference says of them.
    precisions
        Wanted.
    stage
        A folder for what is thrown away again.
    say
        Told of each figure.

    Raises
    ------
    ParityError
        No figure is within its limit.
    """
    sealed: list[Variant] = []
    figures: list[ParityRecord] = []
    outside: list[ParityRecord] = []
    for precision in precisions:
        for variant in variants(prepared, precision):
            records = _measured(prepared, variant, stage) if variant.measurable else []
            _tell(variant, records, say)
            failed = [found.task for found in records if not within(found)]
            outside += [found for found in records if found.task in failed]
            if not {*failed} & {*CELLS, "perturb"}:
                sealed.append(Variant(precision, variant.dialect, tuple(t for t in variant.tasks if t not in failed)))
                figures += [found for found in records if found.task not in failed]
            elif variant.dialect == PORTABLE:
                break
    if not figures:
        worst = ", ".join(f"{r.precision} {r.task} {r.worst:.1e} (limit {r.limit:.0e})" for r in outside)
        raise ParityError(f"No precision is within its limit, so nothing is sealed: {worst}.")
    if not any(variant.precision == "fp32" for variant in sealed):
        sealed = [variant for variant in sealed if variant.precision != "bf16"]  # its heads are those of fp32
    return Judgement(tuple(sealed), tuple(figures), tuple(outside))


def converted(prepared: Prepared, task: str, variant: Variant) -> ir.Model:
    """A copy of a traced model as a variant has it.

    Heads of an int8 bundle stay float32: they are a few percent of the work and would double the error.
    """
    copy = prepared.traced[task, _MADE_OF.get(variant.dialect, variant.dialect)].clone()
    ranges = prepared.ranges if variant.dialect == STATIC_DIALECT else ()
    as_is = variant.precision == "int8" and task not in CELLS
    sequence("fp32" if as_is else variant.precision, variant.dialect, ranges)(copy)
    return copy


def _tell(variant: Variant, records: list[ParityRecord], say: Callable[[str], None]) -> None:
    for found in records:
        verdict = "" if within(found) else " (outside: left out)"
        figure = f"{found.measure} {found.worst:.1e}, limit {found.limit:.2g}"
        say(f"parity {variant.name} {found.task}: {figure}{verdict}")
    if not records:
        say(f"parity {variant.name}: not measured, no processor can run it; it proves itself where it is opened")


def _measured(prepared: Prepared, variant: Variant, stage: Path) -> list[ParityRecord]:
    """Figures of all tasks of a variant, its graphs written where nothing else is and removed again."""
    folder = stage / "measured"
    folder.mkdir()
    store = WeightStore(folder)
    paths = {task: store.write(converted(prepared, task, variant), f"{task}.onnx") for task in variant.tasks}
    figures: list[ParityRecord] = []
    for tasks, tokens in _rounds(prepared, variant):
        graphs = Graphs(variant.precision, {task: paths[task] for task in tasks}, variant.dialect)
        expected = {task: prepared.expected[task] for task in tasks}
        n_batches, told = prepared.model.config.n_batches, prepared.checkpoint.modalities
        of_tokens = None if told is None else told.of_tokens
        figures += measure(graphs, tokens, prepared.settings, expected, n_batches, of_tokens)
    shutil.rmtree(folder)
    return figures


def _rounds(prepared: Prepared, variant: Variant) -> list[tuple[tuple[str, ...], TokenBlock]]:
    """Tasks that are measured together, and the cells that they are measured on.

    ``tokens`` of a CUDA dialect differs from its ``embed`` by the last layer, and so does ``attention``: short cells
    show it, and cost a tenth of all.
    """
    if variant.dialect in CUDA_DIALECTS:
        return [(("embed",), prepared.tokens), (("tokens",), short_cells(prepared.tokens))]
    others = tuple(task for task in variant.tasks if task != "attention")
    rounds = [(others, prepared.tokens)]
    return rounds if others == variant.tasks else [*rounds, (("attention",), short_cells(prepared.tokens))]
