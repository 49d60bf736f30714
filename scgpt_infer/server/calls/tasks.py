"""Each task's answer to its body: a function a task, behind `TASKS`.

In: an open bundle, a body, options of the server. Out: the JSON document that the command line would write. The
functions of Python's interface do the work.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.calls.bodies import (
    Body,
    GenesAsked,
    GrnAsked,
    ImputeAsked,
    IntegrateAsked,
    MultiomicAsked,
    PerturbAsked,
)
from scgpt_infer.server.calls.cells import cells_of, modal_cells_of
from scgpt_infer.server.refusals import Unprocessable
from scgpt_runtime.bundle import Bundle

if TYPE_CHECKING:
    from scgpt_infer.integration import IntegrateOptions

__all__ = ["TASKS"]

_OF_EMBEDDINGS = ("neighbours", "threshold", "resolution", "min_genes", "leiden_seed", "by")
_OF_ATTENTION = ("control", "against", "top", "compat", "batch")


def _impute(bundle: Bundle, asked: ImputeAsked, options: EmbedOptions) -> str:
    from scgpt_infer.imputation import ImputeOptions, impute_json

    how = ImputeOptions(asked.predict_from, asked.hide, asked.units, batches=_batches(asked))
    return impute_json(cells_of(asked.cells, asked.measured), model=bundle, genes=asked.genes, how=how, options=options)


def _perturb(bundle: Bundle, asked: PerturbAsked, options: EmbedOptions) -> str:
    from scgpt_infer.perturbation import PerturbOptions, perturb_json

    how = PerturbOptions(tuple(asked.perturbations), asked.control, only=tuple(asked.only), values=asked.values)
    return perturb_json(cells_of(asked.cells, asked.measured), model=bundle, how=how, options=options)


def _integrate(bundle: Bundle, asked: IntegrateAsked, options: EmbedOptions) -> str:
    from scgpt_infer.integration import integrate_json

    return integrate_json(cells_of(asked.cells, asked.measured), model=bundle, how=_batches(asked), options=options)


def _multiomic(bundle: Bundle, asked: MultiomicAsked, options: EmbedOptions) -> str:
    from scgpt_infer.multiomics import MultiomicOptions, multiomic_json

    predict = tuple(asked.predict)
    how = MultiomicOptions(asked.modalities, predict, asked.predict_from, asked.alone, _batches(asked))
    return multiomic_json(modal_cells_of(asked.cells), model=bundle, how=how, options=options)


def _genes(bundle: Bundle, asked: GenesAsked, options: EmbedOptions) -> str:
    from scgpt_infer.gene_vectors import GeneOptions, context_free, in_cells

    how = GeneOptions(tuple(asked.only), asked.by, asked.min_cells)
    if asked.cells is None:
        return context_free(bundle, how, options).to_json()
    return in_cells(cells_of(asked.cells, asked.measured), bundle, how, options).to_json()


def _grn(bundle: Bundle, asked: GrnAsked, options: EmbedOptions) -> str:
    from scgpt_infer.networks import AttentionOptions, EmbeddingNetworkOptions, grn
    from scgpt_infer.networks.document import json_text

    by_attention = bool(asked.targets) or asked.condition is not None
    strange = [name for name in (_OF_EMBEDDINGS if by_attention else _OF_ATTENTION) if getattr(asked, name) is not None]
    if strange:
        why = "is not for networks from attention, which condition and targets ask for"
        other = "is for networks from attention alone, which condition or targets asks for"
        raise Unprocessable(f"{', '.join(strange)} {why if by_attention else other}. Leave it out.")
    names = ("variable", *(("condition", *_OF_ATTENTION[:-1]) if by_attention else _OF_EMBEDDINGS))
    given: dict[str, Any] = {name: found for name in names if (found := getattr(asked, name)) is not None}
    how: AttentionOptions | EmbeddingNetworkOptions
    if by_attention:
        how = AttentionOptions(tuple(asked.targets), only=tuple(asked.only), batches=_batches(asked), **given)
    else:
        how = EmbeddingNetworkOptions(tuple(asked.only), **given)
    cells = None if asked.cells is None else cells_of(asked.cells, asked.measured)
    return json_text(grn(cells, model=bundle, how=how, options=options))


def _batches(asked: ImputeAsked | IntegrateAsked | MultiomicAsked | GrnAsked) -> "IntegrateOptions":
    from scgpt_infer.integration import IntegrateOptions

    return IntegrateOptions(asked.batch, asked.batch_map, asked.batch_fallback, asked.batch_statistics)


_Task = Callable[[Bundle, Body, EmbedOptions], str]

TASKS = cast(
    "Mapping[str, _Task]",  # each takes the body that `bodies.BODIES` has under the same name
    {
        "impute": _impute,
        "perturb": _perturb,
        "integrate": _integrate,
        "multiomic": _multiomic,
        "genes": _genes,
        "grn": _grn,
    },
)
"""Task to what answers it."""
