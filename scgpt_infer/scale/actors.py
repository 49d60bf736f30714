"""Workers as actors of a Ray cluster: `Actors`, words as the results of a stream.

One actor for a GPU or a group of cores. Those that the cluster has no room for yet wait, which makes its autoscaler add
machines; they join when they come up. Only paths, ranges and marks go through Ray.
"""

import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scgpt_infer.scale.errand import Errand
from scgpt_infer.scale.messages import Ended, Failed, FromWorker, Lost, ToWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.scale.worker import Inbox, work
from scgpt_runtime.errors import MissingDependencyError, OptionError
from scgpt_runtime.machine import cores

__all__ = ["Actors", "Worker", "cluster_seats", "connected", "has_gpus"]

_OBJECTS_BYTES = 100 << 20
"""Room for objects in a local cluster: words are all that goes through it."""

_KNOCK_S = 10.0


class Worker:
    """What a Ray actor is made of: the body of a worker in a thread, its words as a stream."""

    def __init__(self, errand: Errand, seat: Seat) -> None:
        self._errand, self._seat, self._inbox = errand, seat, Inbox()

    def give(self, word: ToWorker) -> None:
        """Take a word of the crew."""
        self._inbox.put(word)

    def words(self) -> Iterator[FromWorker]:
        """Work, and give each word as it is said."""
        said: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        body = (self._errand, self._seat, self._inbox, said.put)
        threading.Thread(target=work, args=body, name="scgpt-infer work", daemon=True).start()
        word: FromWorker | None = None
        while not isinstance(word, (Ended, Failed)):
            word = said.get()
            yield word


class Actors:
    """Starts workers in a cluster that `connected` has reached; a `Transport`.

    Parameters
    ----------
    gpu
        Whether each has a GPU.
    """

    def __init__(self, gpu: bool) -> None:
        self._gpu, self._ray = gpu, _ray()
        self._actors: dict[int, Any] = {}
        self._streams: dict[Any, int] = {}

    def start(self, number: int, errand: Errand, seat: Seat) -> None:
        """See `Transport`."""
        room = {"num_cpus": seat.threads or 1, "num_gpus": int(self._gpu)}
        actor = self._ray.remote(Worker).options(**room, max_concurrency=2, max_restarts=0).remote(errand, seat)
        self._actors[number] = actor
        self._streams[actor.words.options(num_returns="streaming").remote()] = number

    def give(self, number: int, word: ToWorker) -> None:
        """See `Transport`."""
        if number in self._actors:
            self._actors[number].give.remote(word)

    def next(self, timeout: float) -> tuple[int, FromWorker] | None:
        """See `Transport`."""
        stream = self._speaking(timeout)
        if stream is None:
            return None
        number = self._streams.pop(stream)
        try:
            word: FromWorker = self._ray.get(next(stream))
        except StopIteration:
            word = Lost("its actor has ended.")
        except self._ray.exceptions.RayError as error:
            word = Lost(_reason(error))
        if isinstance(word, (Ended, Failed, Lost)):
            self._ray.kill(self._actors.pop(number))
        else:
            self._streams[stream] = number  # now the last one: nobody is talked down
        return number, word

    def _speaking(self, timeout: float) -> Any | None:
        """Of the streams in which a word waits, the one that was heard longest ago."""
        streams = list(self._streams)
        if not streams:
            time.sleep(timeout)
            return None
        if not self._ray.wait(streams, timeout=timeout)[0]:
            return None
        ready = set(self._ray.wait(streams, num_returns=len(streams), timeout=0)[0])  # Ray has an order of its own
        return next((stream for stream in streams if stream in ready), None)

    def close(self) -> None:
        """See `Transport`."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._streams.clear()


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A Ray cluster; where this process is in one already, that one.

    Parameters
    ----------
    address
        Of a cluster; ``auto`` for the one that this machine belongs to or ``RAY_ADDRESS`` names, else a new one of this
        machine alone, which ends with the context; ``local`` for a new one in any case.

    Raises
    ------
    OptionError
        There is no cluster at the address.
    MissingDependencyError
        Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    if address.startswith("ray://"):
        raise OptionError(
            f"The address {address} is that of a Ray client, which cannot pass streams on. Run the command on a "
            "machine of the cluster: ray job submit -- scgpt-infer embed ... --ray"
        )
    try:
        _knock(address)
        with _signals_kept():
            _init(ray, address)
    except (OSError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"No Ray cluster answers at {address}: {error}. Expected HOST:PORT, auto or local; a bare --ray goes last."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_seats(workers: int | None, threads: int | None, instances: int | None, gpu: bool) -> list[Seat]:
    """Seats in the cluster; those that it has no room for yet, too.

    Parameters
    ----------
    workers
        How many; None: as many as fit now.
    threads
        Cores of all of them; where their number is not given, of each.
    instances
        Batches at a time of each.
    gpu
        Whether each has a GPU.

    Raises
    ------
    OptionError
        It has no room now, and it was not said how many workers there shall be.
    """
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    what = "GPU" if gpu else "CPU"
    sizes = [int(node.get(what, 0)) for node in nodes if node.get(what, 0) >= 1]
    if not sizes and (workers is None or (threads is None and not gpu)):
        raise OptionError(
            f"The Ray cluster has no {what} now. If it grows when asked, say for how many: --workers N"
            f"{'' if gpu else ' --threads CORES-IN-ALL'}."
        )
    if gpu:
        return [Seat("auto", threads, instances)] * (workers or sum(sizes))
    each = min(sizes) if threads is None else max(1, threads // (workers or 1))
    count = workers or max(1, sum(size // each for size in sizes))
    if workers is not None and threads is None:
        each = max(1, min(each, sum(sizes) // workers))
    return [Seat("auto", each, instances)] * count


def has_gpus() -> bool:
    """Whether the cluster has GPUs."""
    return bool(_ray().cluster_resources().get("GPU", 0) >= 1)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Give SIGTERM back to whom it belonged: Ray makes it an end at once, where a job would finish its parts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _knock(address: str) -> None:
    """Raise at once where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()


def _init(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address != "local":
        try:
            ray.init(address=address, **quiet)
            return
        except ConnectionError:
            if address != "auto":
                raise
    own = {"include_dashboard": False, "object_store_memory": _OBJECTS_BYTES, "num_cpus": cores().usable}
    ray.init(address="local", **own, **quiet)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "Ray is not installed: pip install 'scgpt-infer[ray]'. Workers on this machine need none: --workers N."
        ) from error
    return ray


def _reason(error: Exception) -> str:
    """The words of an error of Ray's that say what happened, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("The actor is dead because")), lines[0] if lines else "")
    where = [line for line in lines if line.startswith(("pid:", "ip:"))]
    return f"{told.partition(' Some common causes')[0]} ({', '.join(where) or type(error).__name__})."
