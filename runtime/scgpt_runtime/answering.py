"""The seam between batches and whatever runs a graph: `GraphRunner`, and how a batch is fed to one.

It knows no library that runs graphs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import InternalError
from scgpt_runtime.records import TensorSpec

__all__ = ["GraphRunner", "Lent", "answered", "check_fed"]


class GraphRunner(Protocol):
    """Anything that answers batches, several at a time; a test needs no weights for one.

    Attributes
    ----------
    inputs
        Names, dtypes and shapes of what it is fed.
    """

    inputs: tuple[TensorSpec, ...]

    @property
    def provider(self) -> str:
        """What runs, for people."""
        ...

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """The model's answer, output name to array whose first axis is the cells of the batch."""
        ...

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's answer to arrays by input name, output name to array."""
        ...

    def close(self) -> None:
        """Let go of memory and devices."""
        ...


class Lent:
    """A runner that somebody else closes: closing this does nothing.

    Several may have the same one at once: whoever asks for more than a runner does at a time has to wait.
    """

    def __init__(self, runner: GraphRunner) -> None:
        self._runner = runner
        self.inputs = runner.inputs

    @property
    def provider(self) -> str:
        """What runs."""
        return self._runner.provider

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """The answer of the runner."""
        return self._runner.run(batch)

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The answer of the runner."""
        return self._runner.feed(arrays)

    def close(self) -> None:
        """Nothing: whoever lent it keeps it open."""


def answered(runner: GraphRunner, batch: AnyBatch) -> dict[str, NDArray[Any]]:
    """Feed a batch to a graph: what the graph asks for of what the batch holds. Rows that are no cells are cut off."""
    wanted = {spec.name for spec in runner.inputs}
    answers = runner.feed({name: array for name, array in batch.arrays.items() if name in wanted})
    return {name: answer[: len(batch.cells)] for name, answer in answers.items()}


def check_fed(path: Path, inputs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Make sure that a graph is fed what it asks for: some libraries convert, or read on, without a word.

    Parameters
    ----------
    path
        The graph, for the message.
    inputs
        What it asks for. A free axis of one name has one size in all inputs; one that is called ``?`` has any.
    arrays
        What it is to be fed, by name.

    Raises
    ------
    InternalError
        An input is missing, or has another dtype or shape.
    """
    sizes: dict[str, int] = {}
    for spec in inputs:
        found = arrays.get(spec.name)
        if found is None or found.dtype != spec.dtype or not _fits(spec.shape, found.shape, sizes):
            told = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise InternalError(f"{path} wants {spec.name} as {spec.dtype} {spec.shape}, not {told}.")


def _fits(axes: tuple[int | str, ...], shape: tuple[int, ...], sizes: dict[str, int]) -> bool:
    """Whether a shape is one that a graph's axes allow, given the sizes of axes so far."""
    if len(axes) != len(shape):
        return False
    return all(
        axis == "?" or (sizes.setdefault(axis, size) if isinstance(axis, str) else axis) == size
        for axis, size in zip(axes, shape, strict=True)
    )
