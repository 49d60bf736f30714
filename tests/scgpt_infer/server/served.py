"""A front end of a few routes on a port of this machine, for clients that open sockets of their own."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.routing import BaseRoute, Router

from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.keys import Keys


@contextmanager
def served(routes: Sequence[BaseRoute], keys: Keys | None = None) -> Iterator[str]:
    """Serve routes while the block runs; gives HOST:PORT."""
    app = Entry(Router(routes, redirect_slashes=False), 8, keys)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()
