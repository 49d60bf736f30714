"""What is asked of an imputation: `ImputeOptions`, checked when it is made, and `settled` for a bundle.

It opens no model and reads no cells.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from scgpt_infer.abilities import require
from scgpt_infer.integration import IntegrateOptions
from scgpt_runtime.errors import BundleError, OptionError
from scgpt_runtime.manifest import Manifest

__all__ = ["Hide", "ImputeOptions", "PredictFrom", "Units", "needs_batch", "settled", "tells_zeros"]

PredictFrom = Literal["tokens", "embedding"]
Hide = Literal["together", "each", "none"]
Units = Literal["values", "expected", "bins"]

HEADS: dict[PredictFrom, tuple[str, str]] = {"tokens": ("tokens", "expression"), "embedding": ("embed", "mvc")}
"""Graphs that each way of predicting needs."""


@dataclass(frozen=True, slots=True)
class ImputeOptions:
    """How values are predicted.

    Attributes
    ----------
    predict_from
        ``tokens``: by the expression head, at masked tokens of the genes; ``embedding``: by the decoder from the cell
        embedding (MVC). None: from tokens where the model can, else from the embedding.
    hide
        What the model is not shown. ``together``: all genes that are asked for, at once; ``each``: one at a time, in as
        many passes; ``none``: nothing, from the embedding alone. None: ``together`` from tokens, ``none`` from the
        embedding.
    units
        ``values``: on the cell's own scale, that of the matrix that was read; ``expected``: the same with zeros weighed
        in, for models that tell how probable they are; ``bins``: as the model tells them.
    cells
        Names of the cells that are wanted; empty: all.
    batches
        Where the batch of each cell stands, for a model that has batch labels.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    predict_from: PredictFrom | None = None
    hide: Hide | None = None
    units: Units = "values"
    cells: tuple[str, ...] = ()
    batches: IntegrateOptions = field(default_factory=IntegrateOptions)

    def __post_init__(self) -> None:
        allowed = {"predict_from": (None, *get_args(PredictFrom)), "hide": (None, *get_args(Hide))}
        for name, words in (allowed | {"units": get_args(Units)}).items():
            if (found := getattr(self, name)) not in words:
                raise OptionError(f"{name} is {found!r}; expected {' or '.join(word for word in words if word)}.")
        if self.predict_from == "tokens" and self.hide == "none":
            raise OptionError(
                "From tokens a value is predicted where it is masked, so something is hidden: --hide together or each. "
                "--from embedding (predict_from='embedding') can do with nothing hidden."
            )


def settled(how: ImputeOptions, manifest: Manifest) -> ImputeOptions:
    """The options with nothing left open, for a bundle that can do what they ask.

    Raises
    ------
    BundleError
        The bundle lacks a head, or its heads ask for what a file of counts does not tell.
    OptionError
        Bins are asked of a model that has none.
    """
    require(manifest, "impute")
    tasks = {graph.task for graph in manifest.graphs}
    able: list[PredictFrom] = [name for name, needed in HEADS.items() if tasks.issuperset(needed)]
    source = how.predict_from or able[0]
    if source not in able:
        raise BundleError(
            f"The model {manifest.name} cannot impute from {source}: it has no {HEADS[source][1]} head. It can impute "
            f"from {able[0]} (--from, predict_from)."
        )
    _check_feed(manifest, source, how.batches)
    if how.units == "expected" and not tells_zeros(manifest, HEADS[source][1]):
        raise OptionError(
            f"The model {manifest.name} does not tell how probable it is that a gene is expressed, so there is no "
            "expected value: take --units values or bins (units)."
        )
    if how.units != "values" and manifest.tokenizer.value_style != "binned":
        raise OptionError(
            f"The model {manifest.name} has no bins: its values are those of the matrix. Leave units out."
        )
    hide = how.hide or ("together" if source == "tokens" else "none")
    return replace(how, predict_from=source, hide=hide)


def tells_zeros(manifest: Manifest, head: str) -> bool:
    """Whether a head tells the probability that a gene is expressed at all."""
    return any(spec.name == "nonzero" for graph in manifest.graphs if graph.task == head for spec in graph.outputs)


def needs_batch(manifest: Manifest, source: PredictFrom) -> bool:
    """Whether a cell's batch has a part in what is predicted from this source."""
    graphs = [graph for graph in manifest.graphs if graph.task in HEADS[source]]
    return any(spec.name == "batch" for graph in graphs for spec in graph.inputs)


def _check_feed(manifest: Manifest, source: PredictFrom, batches: IntegrateOptions) -> None:
    if manifest.modalities:
        raise BundleError(
            f"The model {manifest.name} is of several modalities: take scgpt-infer multiomic with --predict "
            "(scgpt_infer.multiomic), which predicts features of any of them."
        )
    needed = needs_batch(manifest, source)
    if needed and batches.batch is None:
        raise OptionError(
            f"The model {manifest.name} has batch labels, so it needs the batch of each cell. Name its column of obs "
            f"(--batch, batches=IntegrateOptions(batch=...)). The model knows {', '.join(manifest.batches)}."
        )
    if batches.batch is not None and not needed:
        raise OptionError(
            f"The model {manifest.name} has no batch labels, so its values do not depend on a cell's batch. Leave "
            "--batch, --batch-map and --batch-fallback out."
        )
