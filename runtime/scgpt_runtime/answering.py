"""The seam between batches and whatever runs a graph: `GraphRunner`, and how a batch is fed to one.

It knows no library that runs graphs.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.records import TensorSpec

__all__ = ["GraphRunner", "answered"]


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


def answered(runner: GraphRunner, batch: AnyBatch) -> dict[str, NDArray[Any]]:
    """Feed a batch to a graph: what the graph asks for of what the batch holds. Rows that are no cells are cut off."""
    wanted = {spec.name for spec in runner.inputs}
    answers = runner.feed({name: array for name, array in batch.arrays.items() if name in wanted})
    return {name: answer[: len(batch.cells)] for name, answer in answers.items()}
