"""Batch -> the model's answer: one OpenVINO model for one graph, with a request for each instance.

In: arrays by input name, or a `Batch`. Out: arrays by output name. It knows nothing of blocks, rows or tasks.
All instances share one copy of the weights.
"""

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.answering import answered, check_fed
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.failures import memory_ran_out
from scgpt_runtime.providers import ProviderChoice, installed, openvino_computes, openvino_core
from scgpt_runtime.records import TensorSpec

__all__ = ["OpenVINOSession"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINOSession:
    """An opened graph.

    Attributes
    ----------
    inputs, outputs
        Names, dtypes and shapes as the graph states them.
    """

    def __init__(self, model: Any, path: Path, instances: int) -> None:
        self._model: Any = model
        self._path = path
        self._requests: queue.LifoQueue[Any] = queue.LifoQueue()  # the last one used has warm buffers
        for _ in range(instances):
            self._requests.put(model.create_infer_request())
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)

    @classmethod
    def open(cls, path: Path, choice: ProviderChoice) -> Self:
        """Compile a graph by path, so that its weights are mapped from the file instead of read.

        Parameters
        ----------
        path
            A ``.onnx`` file.
        choice
            Precision, instances and threads.

        Raises
        ------
        MissingDependencyError
            OpenVINO is not installed.
        ProviderError
            OpenVINO cannot compile the graph, or not in this precision.
        """
        core, settings = openvino_core(), _settings(choice)
        try:
            model = core.compile_model(str(path), "CPU", settings)
            running = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        except RuntimeError as error:
            raise ProviderError(
                f"OpenVINO {_version()} cannot compile {path}: {_first_line(error)}. Take --provider cpu."
            ) from error
        if running != settings["INFERENCE_PRECISION_HINT"]:
            raise ProviderError(
                f"Precision {choice.precision} was chosen, but OpenVINO computes in {running} on this processor."
            )
        return cls(model, path, choice.instances)

    @property
    def provider(self) -> str:
        """OpenVINO with its version, as parity records name a provider."""
        return f"OpenVINO {_version()}"

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer a batch of cells."""
        return answered(self, batch)

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once, on the next instance that is free.

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
            Memory ran out.
        InternalError
            The graph and what it was fed do not fit.
        """
        if self._model is None:
            raise InternalError(f"The session of {self._path} was used after it was closed.")
        check_fed(self._path, self.inputs, arrays)
        request = self._requests.get()
        if request is None:  # closed meanwhile: pass it on to whoever waits, too
            self._requests.put(None)
            raise InternalError(f"The session of {self._path} was closed while it was used.")
        try:
            # Inputs are lent for the call; outputs are copied, since the request's buffers serve the next batch.
            answers = request.infer(dict(arrays), share_inputs=True, share_outputs=True)
            return {spec.name: np.array(answers[place]) for place, spec in enumerate(self.outputs)}
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error):
                shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
                raise memory_ran_out("this machine", f"one batch ({shapes})", _first_line(error)) from error
            raise InternalError(f"OpenVINO failed on {self._path}: {_first_line(error)}.") from error
        finally:
            if self._model is not None:
                self._requests.put(request)

    def close(self) -> None:
        """Let go of the weights and buffers; whoever waits for an instance gets an error."""
        if self._model is None:
            return
        self._model = None
        while not self._requests.empty():
            self._requests.get_nowait()
        self._requests.put(None)


def _settings(choice: ProviderChoice) -> dict[str, Any]:
    """How to compile: all decided here, none read from a bundle."""
    # int8 graphs say themselves what is int8; the rest of them is computed in bf16 where the processor can.
    hint = _HINTS.get(choice.precision) or _beside_int8()
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "NUM_STREAMS": choice.instances,
        "INFERENCE_NUM_THREADS": choice.instances * choice.threads,
        # Pinned threads of two processes would share the first cores and leave the others idle.
        "ENABLE_CPU_PINNING": False,
    }


def _beside_int8() -> str:
    return "bf16" if "bf16" in openvino_computes() else "f32"


def _version() -> str:
    return installed().get("openvino", "")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _spec(port: Any) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else str(axis) for axis in port.get_partial_shape())
    return TensorSpec(port.any_name, np.dtype(port.element_type.to_dtype()).name, shape)
