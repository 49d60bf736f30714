"""How a bundle shall stand in a model repository: `TritonOptions`, checked when it is made."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from scgpt_runtime.errors import OptionError

__all__ = ["Kind", "TritonOptions"]

Kind = Literal["auto", "gpu", "cpu"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_AT_LEAST = {"max_batch": 1, "max_delay_us": 0, "max_queue": 0, "instances": 1, "threads": 1}
_LEAST_WAIT = 1e-3
_COMPILED = ("fp32", "fp16")


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """How a model repository is written.

    Attributes
    ----------
    name
        Of the model that makes vectors; others are called after it. Empty: the bundle's.
    precision
        Of the graphs.
    tasks
        Graphs that are written. Empty: ``embed``, and ``classify`` where the bundle has it.
    max_batch
        Most cells of a batch. A batch is as wide as its longest cell.
    max_delay_us
        Microseconds that a request waits for others of its shape.
    queue_seconds
        A request that has waited longer is refused; it may ask for less.
    max_queue
        Most requests that wait; one more is refused. 0: no limit.
    instances
        Batches that are answered at a time, on each GPU or on the processors.
    kind
        What runs the graphs; ``auto``: GPUs where the server finds some.
    threads
        Threads of one instance on processors. None: all cores.
    tensorrt
        Have TensorRT compile the graphs.
    tensorrt_cache
        Folder on the server that keeps what was compiled. Empty: compiled at each start.

    Raises
    ------
    OptionError
        A value is not allowed, or two do not go together.
    """

    name: str = ""
    precision: str = "fp32"
    tasks: tuple[str, ...] = ()
    max_batch: int = 16
    max_delay_us: int = 2000
    queue_seconds: float = 30.0
    max_queue: int = 0
    instances: int = 1
    kind: Kind = "auto"
    threads: int | None = None
    tensorrt: bool = False
    tensorrt_cache: str = ""

    def __post_init__(self) -> None:
        for field, least in _AT_LEAST.items():
            found = getattr(self, field)
            if found is not None and found < least:
                raise OptionError(f"{field} is {found!r}; expected at least {least}.")
        if not self.queue_seconds >= _LEAST_WAIT:
            raise OptionError(f"queue_seconds is {self.queue_seconds!r}; expected at least {_LEAST_WAIT:g}.")
        if self.kind not in get_args(Kind):
            raise OptionError(f"kind is {self.kind!r}; expected {', '.join(get_args(Kind))}.")
        if self.tensorrt and self.kind == "cpu":
            raise OptionError("TensorRT compiles for GPUs, and kind is 'cpu'. Leave one of them out.")
        if self.tensorrt and self.precision not in _COMPILED:
            raise OptionError(
                f"TensorRT is given a graph of {' or '.join(_COMPILED)}; precision is {self.precision!r}."
            )
        if self.tensorrt_cache and not self.tensorrt:
            raise OptionError("A folder for compiled engines (--tensorrt-cache) needs --tensorrt.")
        if self.name:
            check_name(self.name)


def check_name(name: str) -> str:
    """A model's name that is a folder's name and part of a URL as it is.

    Raises
    ------
    OptionError
        It is none.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"{name!r} is no name for a model in a repository: expected letters, digits, '_', '.' and '-'. "
            "Give one with --name."
        )
    return name
