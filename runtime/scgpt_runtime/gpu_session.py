"""Batch -> the model's answer on GPUs: ONNX Runtime's CUDA provider, in lanes that share the work.

In: arrays by input name, or a batch. Out: arrays by output name. It knows nothing of blocks, rows or tasks. With a
choice for provider ``cpu`` the same code runs on the processor: that is how it is tested where there is no GPU.
"""

import atexit
import logging
import os
import queue
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from scgpt_runtime.answering import answered, check_fed
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.device_memory import CudaMemory, DeviceMemory, HostMemory
from scgpt_runtime.errors import DeviceLostError, InternalError, ProviderError
from scgpt_runtime.gpus import gpus
from scgpt_runtime.lanes import MOST_RECORDED, Lane, Opener
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.providers import ON_GPU, ONNXRUNTIME_NAMES, ProviderChoice, obstacle, onnxruntime
from scgpt_runtime.session import plain_options

__all__ = ["GpuSession", "cuda_options"]

_CUDNN_ATTENTION = "8"
"""Bit of the option ``sdpa_kernel``: attention with key lengths is cuDNN's, or it is slow."""

_FUSIONS_LEFT_OUT = ["MatMulAddFusion"]
"""It makes a Gemm of a product and its bias, which gains nothing on a GPU: fusion adds a pass, one that spreads the
bias over the output before the product is added to it. In ONNX Runtime 1.26 it is wrong besides: its Gemm spreads the
bias by a buffer of ones that moves (freed, and taken anew) whenever more rows come, and a CUDA graph that was recorded
before goes on reading where it was, without any error."""

_log = logging.getLogger(__name__)
_at_work: "weakref.WeakSet[Lane]" = weakref.WeakSet()
_on_gpu_in: set[int] = set()
"""Processes that went to a GPU: this one, and those that it was forked from."""

Memories = Callable[[int], DeviceMemory]


class GpuSession:
    """An opened graph, once in each lane. One that is dropped without `close` lets go by itself, a little later.

    Attributes
    ----------
    inputs, outputs
        Names, dtypes and shapes as the graph states them.
    """

    def __init__(self, lanes: list[Lane], path: Path) -> None:
        self._lanes, self._path = lanes, path
        # Lanes of several GPUs alternate, and the one that has rested longest is next: all GPUs are fed alike.
        self._free: queue.Queue[Lane | None] = queue.Queue()
        for lane in lanes:
            self._free.put(lane)
        self._lost: str | None = None
        self._closed = False
        self.inputs, self.outputs = lanes[0].inputs, lanes[0].outputs
        # Not at exit: `_close_all` waits for lanes then, and here nobody must wait, whatever thread it happens in.
        self._dropped = weakref.finalize(self, _let_end, lanes)
        self._dropped.atexit = False

    @classmethod
    def open(
        cls,
        path: Path,
        choice: ProviderChoice,
        *,
        records: bool | None = None,
        most_recorded: int = MOST_RECORDED,
        memories: Memories | None = None,
    ) -> Self:
        """Open a graph in as many lanes as the choice has instances.

        Parameters
        ----------
        path
            A ``.onnx`` file.
        choice
            Provider ``cuda`` or, for a rehearsal, ``cpu``; lane i runs on ``devices[i % len(devices)]``.
        records
            Record CUDA graphs for shapes that come again; None: where the dialect is one of CUDA's own, all of whose
            nodes run on the GPU.
        most_recorded
            Shapes that a lane records.
        memories
            Makes the memory of a device; None: what belongs to the provider.

        Raises
        ------
        ProviderError
            A GPU cannot be used, ONNX Runtime cannot run the graph on it, or this process was forked from one that
            had used a GPU.
        DeviceMemoryError
            A GPU has no room for the graph.
        MissingDependencyError
            A package is not installed.
        """
        if choice.provider in ON_GPU:
            _check_gpu(path, choice)
        make = memories or (CudaMemory if choice.provider in ON_GPU else HostMemory)
        records = choice.dialect in CUDA_DIALECTS if records is None else records
        opener = _opener(path, choice)
        names = _names(choice)
        lanes: list[Lane] = []
        try:
            for number in range(choice.instances):
                device = list(names)[number % len(names)]
                lanes.append(Lane(opener, make(device), str(path), names[device], records, most_recorded))
                _at_work.add(lanes[-1])
                lanes[-1].open()
        except BaseException:
            for lane in lanes:
                lane.close()
            raise
        return cls(lanes, path)

    @property
    def provider(self) -> str:
        """Provider that runs, with the version of ONNX Runtime, as parity records name it."""
        return self._lanes[0].provider

    @property
    def recording(self) -> bool:
        """Whether all lanes were asked to record CUDA graphs, and still do."""
        return all(lane.recording for lane in self._lanes)

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer a batch of cells."""
        return answered(self, batch)

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once, in the next lane that is free.

        Parameters
        ----------
        arrays
            Input name to array, dtypes as in `inputs`.

        Returns
        -------
        dict
            Output name to array.

        Raises
        ------
        DeviceMemoryError
            The batch does not fit; the session goes on.
        DeviceLostError
            A GPU stopped working; each later call raises the same.
        ProviderError
            This process was forked from the one that opened the session.
        InternalError
            The graph and what it was fed do not fit.
        """
        if not self._lanes[0].here:
            raise ProviderError(
                f"{self._path} was opened before this process was forked, and would wait for threads that are not "
                "here. Open it in each worker, and start workers afresh: multiprocessing.set_start_method('spawn')."
            )
        check_fed(self._path, self.inputs, arrays)
        lane = self._free.get()
        if lane is None:  # closed meanwhile: pass it on to whoever waits, too
            self._free.put(None)
            raise InternalError(f"The session of {self._path} was used after it was closed.")
        try:
            if self._lost is not None:
                raise DeviceLostError(self._lost)
            return lane.answer(arrays)
        except DeviceLostError as error:
            self._lost = str(error)
            raise
        finally:
            self._free.put(None if self._closed else lane)

    def close(self) -> None:
        """Let go of the GPUs, each lane after the batch it is at; whoever waits for a lane gets an error.

        In a process that was forked from the one that opened it nothing happens: all is the parent's.
        """
        if self._closed:
            return
        self._closed = True
        self._dropped.detach()
        if self._lanes[0].here:
            while not self._free.empty():
                self._free.get_nowait()
            self._free.put(None)
        for lane in self._lanes:
            lane.close()


def cuda_options(device: int, stream: int, dialect: str, records: bool) -> dict[str, str]:
    """Options of ONNX Runtime's CUDA provider, all decided here; each exists in 1.26 and 1.31.

    Parameters
    ----------
    device
        The GPU, by CUDA's number.
    stream
        Address of the stream that all work of the session goes to.
    dialect
        Dialect of the graph.
    records
        Whether CUDA graphs are recorded.
    """
    options = {
        "device_id": str(device),
        "has_user_compute_stream": "1",
        "user_compute_stream": str(stream),
        "do_copy_in_default_stream": "1",
        "enable_cuda_graph": "1" if records else "0",
        # fp32 products would be rounded to 10 bits of mantissa otherwise.
        "use_tf32": "0",
        # LayerNorm sums in fp32; 1.26 would sum in fp16.
        "enable_skip_layer_norm_strict_mode": "1",
        # The default doubles what it takes each time, which a second lane or another program on the GPU would miss.
        "arena_extend_strategy": "kSameAsRequested",
    }
    return options | ({"sdpa_kernel": _CUDNN_ATTENTION} if dialect == "cuda-lengths" else {})


def _check_gpu(path: Path, choice: ProviderChoice) -> None:
    """Raise where a GPU cannot be used; the fork first, after which the driver says what misleads."""
    if _on_gpu_in - {os.getpid()}:
        raise ProviderError(
            f"{path} cannot be opened on a GPU here: this process was forked from one that had used a GPU, and CUDA "
            "does not start again after that. Start workers afresh: multiprocessing.set_start_method('spawn')."
        )
    problem = obstacle(choice.provider)
    if problem:
        raise ProviderError(problem)
    _on_gpu_in.add(os.getpid())


def _opener(path: Path, choice: ProviderChoice) -> Opener:
    """How a lane opens its session."""
    runtime, name = onnxruntime(), ONNXRUNTIME_NAMES[choice.provider]

    def open_one(memory: DeviceMemory, records: bool) -> Any:
        on_gpu = memory.kind == "cuda"
        options = cuda_options(memory.device, memory.stream, choice.dialect, records) if on_gpu else {}
        # Without fallback: a GPU that fails must never become a processor without a word.
        session = runtime.InferenceSession(
            str(path),
            sess_options=_options(choice),
            providers=[(name, options)],
            enable_fallback=0,
            disabled_optimizers=_FUSIONS_LEFT_OUT,
        )
        if session.get_providers()[0] != name:
            running = ", ".join(session.get_providers())
            raise ProviderError(
                f"Provider {choice.provider} was chosen, but ONNX Runtime opened the graph with {running}."
            )
        return session

    return open_one


def _options(choice: ProviderChoice) -> Any:
    options = plain_options(choice.threads)
    if choice.provider in ON_GPU and choice.dialect in CUDA_DIALECTS:
        # A graph made for CUDA has no node for the processor: one that lands there is an error, not a slow run.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _names(choice: ProviderChoice) -> dict[int, str]:
    """Devices of a choice as people know them."""
    if choice.provider not in ON_GPU:
        return dict.fromkeys(choice.devices or (0,), "this processor")
    known = {gpu.index: f" ({gpu.name})" for gpu in gpus()}
    return {device: f"GPU {device}{known.get(device, '')}" for device in choice.devices or (0,)}


def _let_end(lanes: list[Lane]) -> None:
    """End lanes of a session that nobody has any more, without waiting."""
    for lane in lanes:
        lane.close(0)


@atexit.register
def _close_all() -> None:
    """A thread inside CUDA when the interpreter ends would take the process down with it."""
    for lane in list(_at_work):
        lane.close()
