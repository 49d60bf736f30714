"""One lane to a device: a thread with its own ONNX Runtime session, stream and buffers. Arrays in, arrays out.

In: how a session is opened, and memory. Out: a graph's answers. What it does on a GPU and on a processor differs in
the memory alone. It knows neither batches nor bundles.

A thread of its own, because a graph that CUDA has recorded belongs to the thread that recorded it. A session of its
own, because what one run leaves behind in a session's memory is what the next one writes over.
"""

import ctypes
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from scgpt_runtime.device_memory import Bytes, DeviceMemory
from scgpt_runtime.errors import InternalError, ProviderError, ScgptInferError
from scgpt_runtime.failures import (
    Failure,
    device_lost,
    meaning,
    memory_ran_out,
    not_set_up,
    recorded_elsewhere,
    told,
)
from scgpt_runtime.layout import Shape, laid_out
from scgpt_runtime.providers import onnxruntime
from scgpt_runtime.records import TensorSpec
from scgpt_runtime.session import specs_of
from scgpt_runtime.turns import Turns, Worker

__all__ = ["MOST_RECORDED", "Lane", "Opener"]

Opener = Callable[[DeviceMemory, bool], Any]
"""Opens an ONNX Runtime session on the stream of a memory, ready to record graphs or not; called in a lane's thread."""

MOST_RECORDED = 64
"""Shapes that a lane records: each keeps buffers, and a few hundred kernels with their arguments."""

_MOST_SHAPES = 256
_JOIN_SECONDS = 5.0
_PAUSES = (0.05, 0.2, 0.8)
"""Seconds between tries while others in this process record a CUDA graph, which takes them about so long."""

_TURNS = Turns()
"""One for the process, as CUDA's rule is; in one that was forked, whoever held it is not there to let go."""


def _renew_turns() -> None:
    global _TURNS
    _TURNS = Turns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_turns)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Buffers:
    """What a lane holds beside its session: memory that all shapes share, and what it knows of each shape."""

    staging: Bytes | None = None
    shared: int = 0
    shared_size: int = 0
    own: list[int] = field(default_factory=list)
    shapes: dict[tuple[tuple[int, ...], ...], Shape] = field(default_factory=dict)


class Lane:
    """A way to a device. Calls of `answer` are done one after the other.

    Parameters
    ----------
    opener
        Opens the session.
    memory
        The device's; made for this lane alone.
    graph, device
        Both for people: the file, and such as ``GPU 0 (NVIDIA H100 80GB HBM3)``.
    records
        Record a CUDA graph for each shape that comes again, and replay it: one launch instead of hundreds.
    most_recorded
        Shapes that may be recorded.
    """

    def __init__(
        self,
        opener: Opener,
        memory: DeviceMemory,
        graph: str,
        device: str,
        records: bool,
        most_recorded: int = MOST_RECORDED,
    ) -> None:
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.provider = ""
        self._opener, self._memory, self._graph, self._device = opener, memory, graph, device
        self._records, self._most_recorded = records, most_recorded
        self._session: Any = None
        self._buffers = _Buffers()
        self._recording = self._stuck = self._lost = False
        self._worker = Worker(f"scgpt-infer lane of {device}")

    def open(self) -> None:
        """Open the session in the lane's thread.

        Raises
        ------
        ProviderError
            The device cannot be used, or has no room for the graph.
        """
        self._worker.do(self._start)

    def answer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph on arrays that fit its inputs.

        Raises
        ------
        DeviceMemoryError, DeviceLostError, ProviderError, InternalError
            The run failed; after the first, the lane goes on with fresh buffers.
        """
        return self._worker.do(self._answer, arrays)

    @property
    def here(self) -> bool:
        """Whether this process opened it; in one that was forked it has no thread, and never answers."""
        return self._worker.here

    @property
    def recording(self) -> bool:
        """Whether it was asked to record CUDA graphs, and still does: one that fails to record goes on without."""
        return self._records

    def close(self, seconds: float = _JOIN_SECONDS) -> None:
        """Let go of all, in the lane's thread, after the run that it is at; that is waited for so many seconds."""
        if self.here:
            self._worker.end(self._end, seconds)
        else:  # all is the parent's, and its end here would call into a device that this process has never had
            _keep(self)

    def _start(self) -> None:
        try:
            _patiently(self._memory.start)
            _patiently(self._open)
        except ScgptInferError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise self._refused(error) from error

    def _open(self) -> None:
        self._session = self._opener(self._memory, self._records)
        self.inputs, self.outputs = specs_of(self._session)
        self.provider = f"{self._session.get_providers()[0]} {onnxruntime().__version__}"

    def _refused(self, error: Exception) -> ScgptInferError:
        """The error for a session that does not open."""
        said, found = str(error), meaning(str(error))
        if found is Failure.MEMORY:
            return memory_ran_out(self._device, self._graph, said)
        if found in (Failure.INSTALLATION, Failure.LOST):  # it never worked, so nothing was lost
            return not_set_up(self._device, said)
        if found is Failure.CAPTURE:
            return recorded_elsewhere(self._device, said)
        return ProviderError(
            f"ONNX Runtime {onnxruntime().__version__} cannot open {self._graph} on {self._device}: {told(said)}. "
            "Take --provider cpu, or export the bundle again."
        )

    def _answer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        pauses = iter(_PAUSES)
        while True:
            try:
                return self._run(arrays)
            except ScgptInferError:
                raise
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                failure, said = self._meaning(error)
                if failure is Failure.OTHER:
                    where = f"{self._graph} on {self._device}, {_shapes(arrays)}"
                    raise InternalError(f"ONNX Runtime failed on {where}: {told(said)}.") from error
            # Outside of the handler: the traceback holds the session, which may have to go.
            if failure is not Failure.CAPTURE:
                raise self._failed(failure, said, arrays)
            if self._recording:
                _log.warning("%s records no CUDA graphs any more, and goes on without: %s.", self._device, told(said))
                self._records = False
                self._let_go(broken=True)
            elif (pause := next(pauses, None)) is not None:
                time.sleep(pause)
            else:
                raise recorded_elsewhere(self._device, said)

    def _meaning(self, error: Exception) -> tuple[Failure, str]:
        """What an error means; where its text may not tell, the device is asked whether it is still there.

        The text is not to be trusted on memory either: ONNX Runtime's allocator says that it failed, whatever CUDA
        said. A session that is taken down on a device that is lost would end the process.
        """
        said = str(error)
        found = meaning(said)
        if found in (Failure.OTHER, Failure.MEMORY):
            try:
                with _TURNS.together():
                    self._memory.wait()
            except Exception as sticky:
                said = str(sticky)
                found = meaning(said)
        return found, said

    def _failed(self, failure: Failure, said: str, arrays: Mapping[str, NDArray[Any]]) -> ScgptInferError:
        if failure is Failure.MEMORY:
            try:
                self._let_go()  # what a large run has taken stands in the way of a smaller one
            except Exception as error:  # memory that cannot even be given back
                failure, said = Failure.LOST, str(error)
            else:
                return memory_ran_out(self._device, f"one batch ({_shapes(arrays)})", said)
        if failure is Failure.LOST:
            self._lost = True
            self._let_go(broken=True)
            return device_lost(self._device, said)
        return not_set_up(self._device, said)

    def _run(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self._recording = False
        shape = self._shape(arrays)
        number = self._number(shape)
        self._recording = new = number > 0 and not shape.recorded
        with _TURNS.alone() if new else _TURNS.together():
            if self._session is None:
                self._reopen()
            staging = self._staging(shape.size)
            for place in shape.inputs:
                place.of(staging)[...] = arrays[place.name]
            if shape.binding is None or new:
                self._bind(shape, number)
            filled, answered = shape.inputs[-1].stop, shape.outputs[0].start
            self._memory.copy_in(shape.address, staging[:filled])
            self._session.run_with_iobinding(shape.binding, shape.options)
            self._memory.copy_out(staging[answered : shape.size], shape.address + answered)
            self._memory.wait()
            shape.recorded = number
            shape.seen += 1
        return {place.name: place.of(staging).copy() for place in shape.outputs}

    def _reopen(self) -> None:
        try:
            if self._stuck:  # the stream may record for ever; it is left to the session that is left, too
                self._memory.start()
                self._stuck = False
            self._open()
        except ScgptInferError:
            raise
        except Exception as error:
            if meaning(str(error)) in (Failure.LOST, Failure.CAPTURE):
                raise  # as in any run: it has worked before
            raise self._refused(error) from error

    def _number(self, shape: Shape) -> int:
        """Under which number a run is recorded or replayed; 0: neither."""
        if shape.recorded or not self._records:
            return shape.recorded
        taken = max((known.recorded for known in self._buffers.shapes.values()), default=0)
        # Packed batches have few shapes, each of which comes again; others have to show that they do.
        recurs = shape.seen > 0 or any(spec.name == "offsets" for spec in self.inputs)
        return taken + 1 if recurs and taken < self._most_recorded else 0

    def _shape(self, arrays: Mapping[str, NDArray[Any]]) -> Shape:
        """What is known of the shapes of these arrays."""
        known = self._buffers.shapes
        key = tuple(arrays[spec.name].shape for spec in self.inputs)
        if key not in known:
            if len(known) >= _MOST_SHAPES:
                self._buffers.shapes = known = {key: shape for key, shape in known.items() if shape.recorded}
            known[key] = laid_out(self.inputs, self.outputs, arrays)
        return known[key]

    def _staging(self, size: int) -> Bytes:
        """Memory of the host that is large enough for all shapes so far."""
        held = self._buffers.staging
        if held is None or len(held) < size:
            if held is not None:
                self._buffers.staging = None
                self._memory.free_staging(held)
            self._buffers.staging = held = self._memory.staging(_rounded(size))
        return held

    def _bind(self, shape: Shape, number: int) -> None:
        """Tell ONNX Runtime where the tensors lie: where a run is recorded, in memory that never moves."""
        shape.binding, shape.options = None, _run_options(number)
        shape.address = self._own(shape.size) if number else self._shared(shape.size)
        binding = self._session.io_binding()
        where = self._memory.kind, self._memory.device
        for bind, places in ((binding.bind_input, shape.inputs), (binding.bind_output, shape.outputs)):
            for place in places:
                bind(place.name, *where, place.dtype.type, place.shape, shape.address + place.start)
        shape.binding = binding

    def _own(self, size: int) -> int:
        """Memory of the device for one shape alone."""
        self._buffers.own.append(self._memory.take(size))
        return self._buffers.own[-1]

    def _shared(self, size: int) -> int:
        """Memory of the device for all shapes that are not recorded."""
        held = self._buffers
        if held.shared_size < size:
            for shape in held.shapes.values():
                if not shape.recorded:
                    shape.binding, shape.address = None, 0
            if held.shared:
                address, held.shared, held.shared_size = held.shared, 0, 0
                self._memory.give_back(address)
            held.shared = self._memory.take(_rounded(size))
            held.shared_size = _rounded(size)
        return held.shared

    def _let_go(self, broken: bool = False) -> None:
        """Drop session and buffers, bindings first: a session frees what a binding still names.

        Parameters
        ----------
        broken
            The session must not be taken down: its end would call into a device that is lost, or into a recording
            that failed, and that would end the process. All is left to the end of the process instead.
        """
        held, self._buffers = self._buffers, _Buffers()
        with _TURNS.together():
            for shape in held.shapes.values():
                shape.binding = None
            if broken and self._session is not None:
                _keep(self._session)
            self._session = None
            if broken:
                self._stuck = True
                return
            for address in (*held.own, *([held.shared] if held.shared else [])):
                self._memory.give_back(address)
            if held.staging is not None:
                self._memory.free_staging(held.staging)

    def _end(self) -> None:
        self._let_go(broken=self._lost)
        if not self._stuck:  # a session that is kept still has the stream
            with _TURNS.together():
                self._memory.end()


def _patiently(call: Callable[[], None]) -> None:
    """Call something of a device's, and again after each pause while others in this process record a CUDA graph."""
    for pause in _PAUSES:
        try:
            with _TURNS.together():
                return call()
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if meaning(str(error)) is not Failure.CAPTURE:
                raise
        time.sleep(pause)
    with _TURNS.together():
        return call()


def _keep(what: Any) -> None:
    """Keep something until the process has ended: even the interpreter's end does not take it down."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def _run_options(number: int) -> Any:
    """How a run is done: recorded or replayed under a number, or neither; whoever asks for the answer waits."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number or -1))
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _rounded(size: int) -> int:
    """A power of two: buffers grow a few times, not with each batch."""
    return 1 << (size - 1).bit_length()


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
