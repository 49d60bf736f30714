"""A plain ``torch.onnx.export`` of the original's own model, run by ONNX Runtime in fp32, without our rewrites.

``python -m benchmarks.peers.onnx_plain export PACKAGE CHECKPOINT MODEL.onnx`` is done once and not timed;
``python -m benchmarks.peers.onnx_plain --model MODEL.onnx ...`` is the side. The driver calls both.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.marks import Marks
from benchmarks.peers.side import parser
from benchmarks.peers.tokens import LEVELS, read, rectangles, write

__all__ = ["export", "main"]

NAMES = ("ids", "values", "padding")


def export(package: Path, checkpoint: Path, output: Path) -> None:
    """Export the original's encoder up to the vector of ``<cls>``, any number of cells of any length."""
    import torch

    from benchmarks.peers.original import around, model_of

    task = around(package, Marks(0.0))
    model = model_of(task, checkpoint)

    class Cls(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, values: Any, padding: Any) -> Any:
            return self.model._encode(ids, values, src_key_padding_mask=padding)[:, 0]

    torch.backends.mha.set_fastpath_enabled(False)  # the fused layers have no ONNX form
    cells, length = torch.export.Dim("cells"), torch.export.Dim("length")
    example = (torch.full((2, 9), 5), torch.ones(2, 9), torch.zeros(2, 9, dtype=torch.bool))
    with torch.no_grad():
        torch.onnx.export(
            Cls().eval(),
            example,
            output,
            input_names=list(NAMES),
            output_names=["cell"],
            dynamo=True,
            dynamic_shapes={name: {0: cells, 1: length} for name in NAMES},
        )


def run(arguments: list[str]) -> None:
    """Embed a file."""
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--batch-size", type=int, default=1)
    given = options.parse_args(arguments)
    marks = Marks(given.started)
    import onnxruntime

    session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    data, tokens = read(given.cells, given.checkpoint)
    dim = json.loads((given.checkpoint / "args.json").read_text(encoding="utf-8"))["embsize"]
    vectors: NDArray[np.float32] = np.empty((len(tokens.lengths), dim), np.float32)
    for batch in rectangles(tokens, given.batch_size):
        fed = {"ids": batch.ids, "values": LEVELS[batch.codes], "padding": batch.padding}
        (vectors[batch.cells],) = session.run(["cell"], fed)
        marks.answered(len(batch.cells))
    write(data, vectors, given.output)
    marks.facts["runs"] = f"ONNX Runtime {onnxruntime.__version__}, batches of {given.batch_size}"
    marks.write(given.report)


def main(arguments: list[str]) -> None:
    """Export or run."""
    if arguments[:1] == ["export"]:
        package, checkpoint, output = arguments[1:]
        export(Path(package), Path(checkpoint), Path(output))
    else:
        run(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
