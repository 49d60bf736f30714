"""A graph of a bundle on its own: the graph's file, and beside it the weights that it refers to and no others.

In: a graph of a bundle, whose data files hold the weights of all graphs. Out: files in a folder. The graph stays as it
is but for the places of its weights and, where asked for, the type of its inputs. It knows nothing of Triton.
"""

from dataclasses import dataclass, field
from pathlib import Path

from scgpt_runtime.errors import InternalError
from scgpt_runtime.external import external_places
from scgpt_runtime.records import GraphRecord, TensorSpec
from scgpt_runtime.widening import widened

__all__ = ["copy_graph"]

_ALIGNMENT = 4096
"""A page, so that each weight can be mapped into memory in place, as in the bundle."""


@dataclass(slots=True)
class _DataFile:
    """A data file that is being written: where what lay in the bundle's has come to lie."""

    source: Path
    target: Path
    places: dict[tuple[int, int], int] = field(default_factory=dict)
    end: int = 0

    def place(self, offset: int, length: int) -> int:
        """New offset of some bytes of the source; they are copied the first time."""
        if (offset, length) not in self.places:
            start = -(-self.end // _ALIGNMENT) * _ALIGNMENT
            with self.source.open("rb") as source, self.target.open("ab") as target:
                source.seek(offset)
                target.write(b"\0" * (start - self.end))
                target.write(source.read(length))
            self.places[offset, length], self.end = start, start + length
        return self.places[offset, length]


def copy_graph(bundle: Path, graph: GraphRecord, folder: Path, *, int32: bool = False) -> tuple[TensorSpec, ...]:
    """Write ``model.onnx`` and its weights.

    Parameters
    ----------
    bundle
        Folder of an opened bundle, so that paths in its graphs are known to stay inside.
    graph
        One of its graphs.
    folder
        Where the files go; must exist.
    int32
        Whether unsigned inputs become int32, for an engine that takes no others.

    Returns
    -------
    Inputs of what was written.
    """
    path = bundle / graph.path
    copy, inputs = bytearray(path.read_bytes()), graph.inputs
    if int32:
        changed, _, inputs = widened(bytes(copy))
        copy = bytearray(changed)
    files: dict[str, _DataFile] = {}
    places = external_places(memoryview(copy))
    # In the order of the bundle's files no weight comes to lie behind where it was, so its place needs no more digits.
    for told in sorted(places, key=_offset):
        location = bytes(told["location"]).decode()
        source, target = path.parent / location, folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        data = files.setdefault(location, _DataFile(source, target))
        offset = _offset(told)
        length = int(bytes(told["length"])) if "length" in told else source.stat().st_size - offset
        _write_over(told, data.place(offset, length))
    (folder / "model.onnx").write_bytes(copy)
    return inputs


def _offset(told: dict[str, memoryview]) -> int:
    return int(bytes(told["offset"])) if "offset" in told else 0


def _write_over(told: dict[str, memoryview], offset: int) -> None:
    """Put a new offset where the old one stands; zeros in front of a number change nothing."""
    if "offset" not in told and offset == 0:
        return
    text = str(offset).zfill(len(told.get("offset", b""))).encode()
    if len(text) != len(told.get("offset", b"")):
        raise InternalError(f"A weight at {_offset(told)} would have to move back to {offset}.")
    told["offset"][:] = text
