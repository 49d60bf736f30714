"""Batch -> the model's answer: one ONNX Runtime session for one graph.

In: arrays by input name, or a `Batch`. Out: arrays by output name. It knows nothing of blocks, rows or tasks.
Several threads may run one session at once; they share its weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from scgpt_runtime.answering import GraphRunner, answered
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.failures import Failure, meaning, memory_ran_out
from scgpt_runtime.providers import ONNXRUNTIME_NAMES, ProviderChoice, onnxruntime
from scgpt_runtime.records import TensorSpec

__all__ = ["GraphRunner", "Session", "plain_options", "specs_of"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_FATAL_ONLY = 4
"""Log severity: whatever goes wrong is raised, so nothing is printed."""


class Session:
    """An opened graph.

    Attributes
    ----------
    inputs, outputs
        Names, dtypes and shapes as the graph states them.
    """

    def __init__(self, session: Any, path: Path) -> None:
        self._session: Any = session
        self._path = path
        self.inputs, self.outputs = specs_of(session)

    @classmethod
    def open(cls, path: Path, choice: ProviderChoice) -> Self:
        """Open a graph by path, so that its weights are mapped from the file instead of read.

        Parameters
        ----------
        path
            A ``.onnx`` file.
        choice
            Provider and threads; the precision is the graph's own.

        Raises
        ------
        ProviderError
            The installed ONNX Runtime cannot run the graph, or not with this provider.
        """
        runtime, name = onnxruntime(), ONNXRUNTIME_NAMES[choice.provider]
        try:
            session = runtime.InferenceSession(str(path), sess_options=_options(choice), providers=[name])
        except Exception as error:  # its exceptions share no base class of their own
            raise ProviderError(
                f"ONNX Runtime {runtime.__version__} cannot open {path} with provider {choice.provider}: {error}. "
                "Upgrade ONNX Runtime, or export the bundle again."
            ) from error
        running = session.get_providers()
        if name not in running:
            raise ProviderError(
                f"Provider {choice.provider} was chosen, but ONNX Runtime opened the graph with {', '.join(running)}."
            )
        return cls(session, path)

    @property
    def provider(self) -> str:
        """Provider that runs, with the version of ONNX Runtime, as parity records name it."""
        return f"{self._open().get_providers()[0]} {onnxruntime().__version__}"

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer a batch of cells."""
        return answered(self, batch)

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once.

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
        session = self._open()
        try:
            answers = session.run(None, dict(arrays))
        except Exception as error:
            if meaning(str(error)) is Failure.MEMORY:
                shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
                raise memory_ran_out("this machine", f"one batch ({shapes})", str(error)) from error
            raise InternalError(f"ONNX Runtime failed on {self._path}: {error}.") from error
        return {spec.name: answer for spec, answer in zip(self.outputs, answers, strict=True)}

    def _open(self) -> Any:
        if self._session is None:
            raise InternalError(f"The session of {self._path} was used after it was closed.")
        return self._session

    def close(self) -> None:
        """Let go of the weights and buffers."""
        self._session = None


def plain_options(threads: int) -> Any:
    """Session options of ONNX Runtime, whatever the provider: all decided here, none read from a bundle.

    Parameters
    ----------
    threads
        Threads that work on one operator.
    """
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Every batch has its own shape, and a memory pattern is kept for each shape that was ever seen.
    options.enable_mem_pattern = False
    return options


def _options(choice: ProviderChoice) -> Any:
    # One pool serves all instances, and each caller works beside it.
    options = plain_options(choice.cores - choice.instances + 1)
    # Threads that wait for work spin for a millisecond by default. With other work on the cores, our own tokenizer's
    # too, that costs a quarter to a third of the speed; 50 microseconds still bridge the gaps inside a graph.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    return options


def specs_of(session: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an ONNX Runtime session, as its graph states them."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return tuple(_spec(found) for found in inputs), tuple(_spec(found) for found in outputs)


def _spec(found: Any) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in found.shape)
    return TensorSpec(found.name, _DTYPES.get(found.type, found.type), shape)
