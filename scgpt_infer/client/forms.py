"""How cells travel: as Arrow where pyarrow is installed, else as tensors of the Open Inference Protocol.

In: cells, what is asked and of which model. Out: a `Request`; of its `Reply`, rows. It sends nothing.
"""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.client import arrow, kserve
from scgpt_infer.client.messages import Reply, Request
from scgpt_infer.client.models import ServedModel
from scgpt_infer.client.question import Question
from scgpt_infer.writers.sink import Part, Record
from scgpt_runtime.cells import CellBlock

__all__ = ["part_of", "request_of"]


def request_of(piece: CellBlock, genes: NDArray[np.object_], question: Question, model: ServedModel) -> Request:
    """Cells as a request.

    Parameters
    ----------
    piece
        The cells.
    genes
        (n_columns,) name of each column of the matrix.
    question, model
        What is asked, and of whom.
    """
    if find_spec("pyarrow") is None:
        body, json_bytes = kserve.body_of(piece, genes, question.task, question.options)
        headers = {kserve.JSON_BYTES: str(json_bytes), "Content-Type": "application/octet-stream"}
        return Request("POST", f"/v2/models/{model.path}/infer", headers=headers, body=body)
    query = {"model": model.name, **{name: str(value) for name, value in question.options.items()}}
    if question.task == "annotate":
        query["with_vectors"] = "true"
    headers = {"Content-Type": arrow.MEDIA, "Accept": arrow.MEDIA}
    return Request("POST", f"/v1/{question.task}", query, headers, arrow.body_of(piece, genes))


def part_of(reply: Reply, first_row: int, question: Question, model: ServedModel) -> tuple[Part, Record]:
    """The rows of an answer, and the facts of its run as far as it tells them.

    Raises
    ------
    ProtocolError
        It is no such answer.
    """
    columns = question.columns(model.labels)
    if arrow.MEDIA in reply.headers.get("content-type", ""):
        return arrow.answer_of(reply.body, first_row, columns)
    return kserve.answer_of(reply.body, reply.headers.get(kserve.JSON_BYTES.lower()), first_row, columns), {}
