"""Where the tensors of a run lie: all inputs in one piece of memory, behind them all outputs.

In: what a graph's inputs and outputs are, and arrays for the inputs. Out: places, by offset. It touches no device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.device_memory import Bytes
from scgpt_runtime.records import TensorSpec

__all__ = ["Place", "Shape", "laid_out"]

_ALIGNED = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies in a lane's buffers."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """Offset of the first byte behind it."""
        return self.start + self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def of(self, buffer: Bytes) -> NDArray[Any]:
        """The tensor, without a copy."""
        return buffer[self.start : self.stop].view(self.dtype).reshape(self.shape)


@dataclass(slots=True)
class Shape:
    """A set of input shapes that the lane has seen, so many times: inputs in one piece, behind them the outputs."""

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    seen: int = 0
    recorded: int = 0
    address: int = 0
    binding: Any = None
    options: Any = None

    @property
    def size(self) -> int:
        """Bytes of all tensors, with the gaps between them."""
        return max(place.stop for place in (*self.inputs, *self.outputs))


def laid_out(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> Shape:
    """Places of all tensors: those of the outputs follow from the axes that the inputs name."""
    sizes: dict[str, int] = {}
    for spec in inputs:
        sizes.update(
            {
                axis: size
                for axis, size in zip(spec.shape, arrays[spec.name].shape, strict=True)
                if isinstance(axis, str)
            }
        )
    placed: list[list[Place]] = []
    start = 0
    for specs in (inputs, outputs):
        placed.append([])
        for spec in specs:
            shape = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape)
            place = Place(spec.name, np.dtype(spec.dtype), shape, start)
            placed[-1].append(place)
            start = -(-place.stop // _ALIGNED) * _ALIGNED
    return Shape(tuple(placed[0]), tuple(placed[1]))
