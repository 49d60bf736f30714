"""Weights of all graphs of a bundle, each tensor once, in one data file a dtype.

In: ONNX models with weights in memory. Out: the same graphs on disk, their larger weights pointing
into ``weights.<dtype>.bin`` beside them. Equal tensors of two graphs, or of two precisions, share one place.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

__all__ = ["WeightStore"]

# A page, so that a runtime can map each tensor into memory in place.
_ALIGNMENT = 4096
# Smaller tensors stay inside the graph: a page each would cost more than it saves.
_SMALLEST = 1024


@dataclass(slots=True)
class WeightStore:
    """Writes graphs into a folder and their weights into data files beside them.

    Attributes
    ----------
    folder
        Where graphs and data files go; must exist.
    """

    folder: Path
    _places: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
    _ends: dict[str, int] = field(default_factory=dict)

    def write(self, model: ir.Model, name: str) -> Path:
        """Write a graph; its larger weights go to the data files.

        Parameters
        ----------
        model
            Its weights point to the data files afterwards.
        name
            File name of the graph.

        Returns
        -------
        Path of the graph.
        """
        for value in model.graph.initializers.values():
            if value.const_value is not None and value.const_value.nbytes >= _SMALLEST:
                value.const_value = self._place(value.const_value)
        path = self.folder / name
        ir.save(model, path)
        return path

    def _place(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        content = tensor.tobytes()
        dtype = tensor.dtype.numpy().name
        key = (dtype, hashlib.sha256(content).hexdigest())
        if key not in self._places:
            self._places[key] = self._append(f"weights.{dtype}.bin", content)
        location, offset, length = self._places[key]
        return ir.ExternalTensor(
            location,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
            base_dir=self.folder,
        )

    def _append(self, location: str, content: bytes) -> tuple[str, int, int]:
        end = self._ends.get(location, 0)
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        with (self.folder / location).open("ab") as file:
            file.write(b"\0" * (offset - end))
            file.write(content)
        self._ends[location] = offset + len(content)
        return location, offset, len(content)
