"""``/v1/models/{name}/vocabulary``: the genes that a model knows, as its bundle has them.

With it a client finds the column of gene names and reports what is known as the library does, before it sends a cell.
"""

import asyncio
import gzip
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server.desk import Here
from scgpt_infer.server.front.door import Door

__all__ = ["routes"]

_LEVEL = 6


def routes(door: Door) -> list[BaseRoute]:
    """The route of this module."""
    return [Route("/v1/models/{name}/vocabulary", _Vocabularies(door).vocabulary)]


@dataclass(frozen=True, slots=True)
class _Vocabularies:
    """The last digest and vocabulary of each model by name, packed when it is first asked for."""

    door: Door
    packed: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    async def vocabulary(self, request: Request) -> Response:
        """``vocab.json`` of a model; 304 for a client that has it already."""
        here = self.door.desk.here(request.path_params["name"])
        headers = {"ETag": f'"{_digest(here)}"', "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        packed = await asyncio.to_thread(self._packed, here)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, headers={**headers, "Content-Encoding": "gzip"}, media_type="application/json")
        return Response(
            await asyncio.to_thread(gzip.decompress, packed), headers=headers, media_type="application/json"
        )

    def _packed(self, here: Here) -> bytes:
        known = self.packed.get(here.name)
        if known is None or known[0] != _digest(here):
            known = _digest(here), gzip.compress(here.vocabulary.to_json().encode(), _LEVEL, mtime=0)
            self.packed[here.name] = known
        return known[1]


def _digest(here: Here) -> str:
    return next(file.sha256 for file in here.manifest.files if file.path == "vocab.json")
