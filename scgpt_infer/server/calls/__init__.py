"""Tasks that are no matter of single cells: imputing, perturbing, integrating, several modalities, genes, networks.

In: an open bundle and the body of a request. Out: a JSON document of `scgpt_infer.schema`, byte for byte the one that
the command line writes for the same cells. It knows no HTTP and no processes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.calls.bodies import BODIES, body_of
from scgpt_runtime.bundle import Bundle

__all__ = ["BODIES", "answer"]

_OF_FILES: dict[str, Any] = {
    **dict.fromkeys(("layer", "modality", "cells_in", "where", "organism", "gene_col", "limit", "key")),
    "obs_only": False,
    "in_place": False,
}
"""Options of how files are read and written, which a request has none of."""


def answer(bundle: Bundle, task: str, body: Mapping[str, Any], options: EmbedOptions) -> bytes:
    """Do a task.

    Parameters
    ----------
    bundle
        Open. One that keeps its graphs open (`Bundle.keeping`) opens none of them for each call.
    task
        A name of `BODIES`.
    body
        As JSON gives it; see `scgpt_infer.server.calls.bodies`.
    options
        How the model is run.

    Returns
    -------
    bytes
        The document, as UTF-8.

    Raises
    ------
    NotFound, Unprocessable
        There is no such task, or the body is not one of this task.
    ScgptInferError
        As the function of the task raises it: `InputError` where the cells or options cannot be, others where the
        device fails.
    """
    from scgpt_infer.server.calls.tasks import TASKS  # late: front ends read bodies and need no pandas

    asked = body_of(task, body)
    return TASKS[task](bundle, asked, replace(options, **_OF_FILES)).encode()
