"""Routes of the tasks that are no matter of single cells: ``POST /v1/impute``, ``/v1/perturb`` and so on.

In: JSON, as `scgpt_infer.server.calls.bodies` says. Out: a JSON document of `scgpt_infer.schema`, which the model's
process makes.
"""

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server.bodies.body import once
from scgpt_infer.server.bodies.media import chosen, kind_of
from scgpt_infer.server.calls.bodies import BODIES
from scgpt_infer.server.calls.reading import read
from scgpt_infer.server.front.aside import aside
from scgpt_infer.server.front.body import body_of
from scgpt_infer.server.front.deadline import within_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.leaving import unless_gone
from scgpt_infer.server.refusals import Unprocessable

__all__ = ["routes"]

_FORMS: Final = ("application/json",)
_ID: Final = b'"vector_id": "'


def routes(door: Door) -> list[BaseRoute]:
    """One for each task."""
    return [Route(f"/v1/{task}", partial(_answered, door, task), methods=["POST"], name=task) for task in BODIES]


async def _answered(door: Door, task: str, request: Request) -> Response:
    form = chosen(request.headers.get("accept", ""), _FORMS)
    kind_of(request.headers.get("content-type", ""), _FORMS)
    query = once(request.query_params.multi_items())
    for name in query:
        if name != "model":
            raise Unprocessable(f"{task} has no option {name!r} in its query; it has model. Others go into the body.")
    settings = door.settings
    text = await body_of(request, settings)
    # What is read of it takes several times its memory, and is not kept while the call waits.
    told = await aside(len(text), lambda: read(task, text, settings.max_cells, settings.max_genes).model)
    model = query.get("model") if told is None else told
    if model == "":
        raise Unprocessable("model is ''; expected the name of a model (/v1/models).")
    here = door.desk.here(model)
    request.state.model = here.name
    if task not in here.abilities:
        able = ", ".join(here.abilities) or "nothing"
        raise Unprocessable(f"The model {here.name} cannot {task}: its bundle lacks what that takes. It can {able}.")
    within = within_of(request)
    document = await unless_gone(request, door.desk.call(here, task, text, request.state.client, within))
    return Response(document, media_type=form, headers=_headers(document))


def _headers(document: bytes) -> dict[str, str]:
    """The id of the vectors that the answer follows from, which is one of its last facts."""
    start = document.rfind(_ID)
    if start < 0:
        return {}
    start += len(_ID)
    return {"X-Vector-Id": document[start : document.index(b'"', start)].decode("ascii")}
