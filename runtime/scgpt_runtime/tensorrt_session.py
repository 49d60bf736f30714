"""Batch -> the model's answer, by TensorRT: one graph, an engine for each bucket of lengths and each GPU.

In: arrays by input name, or a batch. Out: arrays by output name. An engine is compiled when the first batch of its
bucket comes, or taken from the cache. It knows nothing of blocks, rows or tasks.
"""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.answering import answered, check_fed
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.failures import Failure, device_lost, meaning, memory_ran_out
from scgpt_runtime.providers import ProviderChoice, onnxruntime
from scgpt_runtime.records import TensorSpec
from scgpt_runtime.tensorrt import Bucket, bucket_for, library_version
from scgpt_runtime.tensorrt_engine import NAME, Recipe, open_engine
from scgpt_runtime.widening import widened

__all__ = ["TensorRTSession"]

_log = logging.getLogger(__name__)


class TensorRTSession:
    """A graph that TensorRT compiles, one engine for each bucket of lengths.

    Attributes
    ----------
    inputs
        Names, dtypes and shapes of what it is fed, as the bundle's graph states them.
    """

    def __init__(self, recipe: Recipe, inputs: tuple[TensorSpec, ...], devices: tuple[int, ...], longest: int) -> None:
        self._recipe, self.inputs, self._longest = recipe, inputs, longest
        self._guard = threading.Lock()
        self._opening: dict[tuple[int, Bucket], threading.Lock] = {}
        self._engines: dict[tuple[int, Bucket], Any] = {}
        self._flying = Counter(dict.fromkeys(devices, 0))
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        choice: ProviderChoice,
        cache_dir: Path | None,
        bundle_key: str,
        longest: int = 1200,
        say: Callable[[str], None] = _log.warning,
    ) -> Self:
        """Make ready to compile a graph; nothing is compiled before the first batch.

        Parameters
        ----------
        path
            A ``.onnx`` file of dialect ``portable``.
        choice
            Precision and GPUs.
        cache_dir
            Where engines are kept, in a private folder ``tensorrt``; None: they are compiled at each start.
        bundle_key
            Digest of the whole bundle: an engine holds its weights.
        longest
            Most tokens of a cell.
        say
            Told when an engine is being compiled, which takes long, and when it is done.

        Raises
        ------
        ProviderError
            TensorRT is not there.
        BundleError
            The file is no ONNX graph.
        """
        version = library_version()
        if choice.precision == "fp32":
            # TensorRT rounds the factors of fp32 products to TF32 unless this says no, and ONNX Runtime has no option.
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        model, inputs, fed = widened(path.read_bytes())
        home = None if cache_dir is None else cache_dir / "tensorrt"
        recipe = Recipe(model, path, choice.precision, fed, bundle_key, version, home, say)
        return cls(recipe, inputs, choice.devices or (0,), longest)

    @property
    def provider(self) -> str:
        """Provider that runs, with the version of ONNX Runtime, as parity records name it."""
        return f"{NAME} {onnxruntime().__version__}"

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer a batch of cells."""
        return answered(self, batch)

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph on the GPU that has least to do, in parts if there are more cells than the engine takes.

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
        DeviceMemoryError, DeviceLostError
            Memory of the GPU ran out, or it stopped working.
        ProviderError
            TensorRT cannot compile or run the graph.
        InternalError
            The graph and what it was fed do not fit.
        """
        check_fed(self._recipe.path, self.inputs, arrays)
        fed = {spec.name: arrays[spec.name].astype(spec.dtype, copy=False) for spec in self._recipe.inputs}
        cells, length = arrays["ids"].shape
        bucket = bucket_for(length, self._longest)
        with self._least_busy() as device:
            session = self._engine(device, bucket)
            parts = [
                self._run(session, device, {name: array[start : start + bucket.cells] for name, array in fed.items()})
                for start in range(0, cells, bucket.cells)
            ]
        names = [found.name for found in session.get_outputs()]
        return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}

    def close(self) -> None:
        """Let go of engines and the memory of the GPUs."""
        with self._guard:
            self._closed = True
            self._engines.clear()

    def _run(self, session: Any, device: int, fed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            answers: list[NDArray[Any]] = session.run(None, fed)
        except Exception as error:
            said, gpu = str(error), f"GPU {device}"
            if meaning(said) is Failure.MEMORY:
                shapes = ", ".join(f"{name} {array.shape}" for name, array in fed.items())
                raise memory_ran_out(gpu, f"one batch ({shapes})", said) from error
            if meaning(said) is Failure.LOST:
                raise device_lost(gpu, said) from error
            if "TensorRT EP" in said:
                raise ProviderError(f"TensorRT failed on {self._recipe.path}: {said}. Take --provider cuda.") from error
            raise InternalError(f"ONNX Runtime failed on {self._recipe.path}: {said}.") from error
        return answers

    @contextmanager
    def _least_busy(self) -> Iterator[int]:
        with self._guard:
            device = min(self._flying, key=self._flying.__getitem__)
            self._flying[device] += 1
        try:
            yield device
        finally:
            with self._guard:
                self._flying[device] -= 1

    def _engine(self, device: int, bucket: Bucket) -> Any:
        """The open engine, compiled by the first thread that wants it while others that want it wait."""
        key = (device, bucket)
        with self._guard:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            if self._closed:
                raise InternalError(f"The session of {self._recipe.path} was used after it was closed.")
            if key not in self._engines:
                self._engines[key] = open_engine(self._recipe, device, bucket)
            return self._engines[key]
