"""What a server says of its models: `ServedModel`, and the vocabulary of one.

In: answers of ``/v1/models``. Out: steps that end with plain data. It opens no connection.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from scgpt_infer.client.errors import ProtocolError
from scgpt_infer.client.messages import Reply, Request, Steps
from scgpt_infer.client.retrying import answered
from scgpt_infer.client.terms import Terms
from scgpt_runtime.errors import OptionError
from scgpt_runtime.vocab import GeneMode, Vocabulary

__all__ = ["ServedModel", "Shelf", "called", "document", "model", "models", "vocabulary"]

Shelf = dict[str, tuple[str, Vocabulary]]
"""Vocabularies by the name of their model, with the marks by which a server knows them."""

_SAME = 304


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server answers with.

    Attributes
    ----------
    name
        What requests call it.
    vector_id
        Of the vectors that it makes.
    dim
        Width of a vector.
    key
        Name of its vectors under ``obsm``.
    tasks
        What can be asked of it.
    labels
        Types that it may tell.
    takes_zeros
        Whether a gene that a cell has with the value 0 is a token, so that zeros are sent too.
    run
        What decides its answers: provider, precision, seed and so on.
    """

    name: str
    vector_id: str
    dim: int
    key: str
    tasks: tuple[str, ...]
    labels: tuple[str, ...] = field(repr=False)
    takes_zeros: bool
    run: Mapping[str, str | int | float] = field(repr=False)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Read what a server says.

        Raises
        ------
        ProtocolError
            Something of it is missing.
        """
        try:
            return cls(
                told["name"],
                told["vector_id"],
                int(told["dim"]),
                told["key"],
                tuple(told["tasks"]),
                tuple(told["labels"]),
                bool(told["takes_zeros"]),
                dict(told["run"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(
                f"The server does not tell of its model what this client asks for ({error!r}). Use a client and a "
                "server of the same version."
            ) from error

    @property
    def path(self) -> str:
        """Its name in an address."""
        return quote(self.name, safe="")

    @property
    def genes(self) -> GeneMode:
        """How it looks names of genes up."""
        return "alias" if self.run.get("genes") == "alias" else "exact"


def models(terms: Terms) -> Steps[list[dict[str, Any]]]:
    """What the server says of all its models, the first that of requests that name none."""
    told = document((yield from answered(Request("GET", "/v1/models"), terms.patience)))
    found = told.get("models")
    if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
        raise ProtocolError("The list of models cannot be read. Use a client and a server of the same version.")
    return found


def model(terms: Terms, name: str | None = None) -> Steps[ServedModel]:
    """A model that answers; None: that of the terms, else the server's first."""
    name = name or terms.model
    if name is None:
        every = yield from models(terms)
        if not every:
            raise ProtocolError("The server has no model. Load one, or name one of another server.")
        name = str(every[0]["name"])
    reply = yield from answered(Request("GET", f"/v1/models/{quote(name, safe='')}"), terms.patience)
    return ServedModel.of(document(reply))


def vocabulary(terms: Terms, of: ServedModel, shelf: Shelf) -> Steps[Vocabulary]:
    """The genes that a model knows: those on the shelf, where the server still has the same."""
    mark, known = shelf.get(of.name, ("", None))
    headers = {} if known is None else {"If-None-Match": mark}
    reply = yield from answered(Request("GET", f"/v1/models/{of.path}/vocabulary", headers=headers), terms.patience)
    if known is None or reply.status != _SAME:
        known = Vocabulary.from_json(reply.body)
        shelf[of.name] = reply.headers.get("etag", ""), known
    return known


def called(terms: Terms, task: str, name: str | None, body: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Have a task done that is no matter of single cells; ends with its document.

    Raises
    ------
    OptionError
        The body has something that JSON cannot tell.
    """
    model = name or terms.model
    told = {**({} if model is None else {"model": model}), **body}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        written = json.dumps(told, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(
            f"What {task} was asked cannot be told as JSON: {error}. Expected texts, finite numbers, lists and objects."
        ) from error
    request = Request("POST", f"/v1/{quote(task, safe='')}", headers=headers, body=written)
    return document((yield from answered(request, terms.patience)))


def document(reply: Reply) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises
    ------
    ProtocolError
        It is none.
    """
    try:
        told = json.loads(reply.body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ProtocolError("The answer is no JSON object; is this the address of a server of scgpt-infer?")
    return told


def _plain(value: object) -> object:
    """Numbers and arrays of numpy as JSON has them."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}"[:200])
