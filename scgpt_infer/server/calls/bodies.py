"""The bodies of requests for tasks that are no matter of single cells: a `msgspec.Struct` each, and what holds cells.

In: what JSON gives. Out: the same as objects, or what is wrong with it and where. Options have the names that they have
in Python. It knows what can be asked, not how it is answered.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from scgpt_infer.server.refusals import NotFound, Unprocessable

__all__ = [
    "BODIES",
    "Body",
    "CellAsked",
    "GenesAsked",
    "GrnAsked",
    "ImputeAsked",
    "IntegrateAsked",
    "ModalCellAsked",
    "MultiomicAsked",
    "PerturbAsked",
    "body_of",
    "refused",
]

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Seed: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Statistics: TypeAlias = Literal["cell", "first"]
Values: TypeAlias = dict[str, float]


class CellAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell.

    Attributes
    ----------
    genes
        Gene to value, or names of genes beside ``values``; names of the vocabulary or Ensembl ids. A gene that stands
        twice in a list counts twice.
    values
        A value for each name; None where ``genes`` has them.
    cell
        Its name; None: its number among the cells, from 0.
    obs
        What else is known of it, by the name of the column: its batch, its condition.
    """

    genes: Values | list[str]
    values: list[float] | None = None
    cell: str | None = None
    obs: dict[str, str] = {}


class ModalCellAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell of which several modalities were measured.

    Attributes
    ----------
    modalities
        Modality to what was measured of it, feature to value; or three lists of one length in its place:
    features, values, feature_types
        Names of features, their values, and the modality of each.
    cell, obs
        As in `CellAsked`.
    """

    modalities: dict[str, Values] | None = None
    features: list[str] | None = None
    values: list[float] | None = None
    feature_types: list[str] | None = None
    cell: str | None = None
    obs: dict[str, str] = {}


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each request may say.

    Attributes
    ----------
    model
        By name; None: the first that is served.

    Notes
    -----
    ``measured``, where a body has it, are genes that were looked for in all cells: a gene that none of the cells
    expresses is told by this alone.
    """

    model: str | None = None


class _Batched(Body, frozen=True, kw_only=True):
    """Where the batch of each cell stands; the fields of `scgpt_infer.integration.IntegrateOptions`."""

    batch: str | None = None
    batch_map: dict[str, str] = {}
    batch_fallback: str | None = None
    batch_statistics: Statistics = "cell"


class ImputeAsked(_Batched, frozen=True, kw_only=True):
    """Values of genes in cells; see `scgpt_infer.imputation.ImputeOptions`."""

    cells: list[CellAsked]
    measured: list[str] = []
    genes: list[str]
    predict_from: Literal["tokens", "embedding"] | None = None
    hide: Literal["together", "each", "none"] | None = None
    units: Literal["values", "expected", "bins"] = "values"


class PerturbAsked(Body, frozen=True, kw_only=True):
    """Mean profiles after perturbations; see `scgpt_infer.perturbation.PerturbOptions`."""

    cells: list[CellAsked]
    measured: list[str] = []
    perturbations: list[str]
    control: tuple[str, str] | None = None
    only: list[str] = []
    values: Literal["auto", "counts", "log1p"] = "auto"


class IntegrateAsked(_Batched, frozen=True, kw_only=True):
    """Vectors of cells of several batches; see `scgpt_infer.integration.IntegrateOptions`."""

    cells: list[CellAsked]
    measured: list[str] = []


class MultiomicAsked(_Batched, frozen=True, kw_only=True):
    """Vectors of cells by several modalities; see `scgpt_infer.multiomics.MultiomicOptions`."""

    cells: list[ModalCellAsked]
    modalities: dict[str, str] = {}
    predict: list[str] = []
    predict_from: Literal["embedding", "tokens"] = "embedding"
    alone: bool = False


class GenesAsked(Body, frozen=True, kw_only=True):
    """Vectors of genes, the model's own or those in cells; see `scgpt_infer.gene_vectors.GeneOptions`."""

    cells: list[CellAsked] | None = None
    measured: list[str] = []
    only: list[str] = []
    by: str | None = None
    min_cells: Count = 1


class GrnAsked(_Batched, frozen=True, kw_only=True):
    """A network of genes: from attention where ``targets`` or ``condition`` is told, else from embeddings of genes; see
    `scgpt_infer.networks.AttentionOptions` and `scgpt_infer.networks.EmbeddingNetworkOptions`. None: their default.
    """

    cells: list[CellAsked] | None = None
    measured: list[str] = []
    only: list[str] = []
    variable: Count | None = None
    neighbours: Count | None = None
    threshold: float | None = None
    resolution: float | None = None
    min_genes: Count | None = None
    leiden_seed: Seed | None = None
    by: str | None = None
    targets: list[str] = []
    condition: str | None = None
    control: str | None = None
    against: str | None = None
    top: Count | None = None
    compat: bool | None = None


BODIES: Mapping[str, type[Body]] = {
    "impute": ImputeAsked,
    "perturb": PerturbAsked,
    "integrate": IntegrateAsked,
    "multiomic": MultiomicAsked,
    "genes": GenesAsked,
    "grn": GrnAsked,
}
"""Task to its body."""


def body_of(task: str, said: Mapping[str, Any]) -> Body:
    """A body as an object.

    Parameters
    ----------
    task
        One of `BODIES`.
    said
        As JSON gives it.

    Raises
    ------
    Unprocessable
        A member is missing, is not known, or has another type; the message tells its place.
    NotFound
        There is no such task.
    """
    if task not in BODIES:
        raise NotFound(f"There is no task {task!r} here; there are {', '.join(BODIES)}.")
    try:
        return msgspec.convert(said, BODIES[task])
    except msgspec.ValidationError as error:
        raise refused(task, error) from None


def refused(task: str, error: msgspec.ValidationError) -> Unprocessable:
    """The refusal of a body that has not the form of a task."""
    told = ", ".join(field.name for field in msgspec.structs.fields(BODIES[task]))
    return Unprocessable(f"The body is not what {task} takes: {error}. It takes {told}.")
