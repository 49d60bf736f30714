"""The original scGPT, its own files, embedding a file of cells on a CPU: sides "as shipped" and "tuned".

In: a checkpoint, an ``.h5ad``. Out: another with ``obsm["X_scGPT"]``, and marks. scGPT's model, collator and
task code run as they are; what had to be done around them is in `around` and is told with the results.

``python -m benchmarks.peers.original --package FOLDER ...``; the driver calls it.
"""

import json
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.marks import Marks
from benchmarks.peers.side import parser
from benchmarks.peers.standins import standing_in

__all__ = ["main"]

Wrapped = Callable[..., Any]


def main(arguments: list[str]) -> None:
    """Embed a file."""
    options = parser(__doc__)
    options.add_argument("--package", type=Path, required=True, help="folder that holds the package scgpt")
    options.add_argument("--slow-path", action="store_true", help="turn PyTorch's nested path off: the tuned side")
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--tokens", type=Path, help="where to keep the tokens that it drew")
    asked = options.parse_args(arguments)
    marks = Marks(asked.started)
    task = around(asked.package, marks)
    if asked.slow_path:
        _turn_fast_path_off(marks)
    tokens = watch(task, marks)
    embedded = task.embed_data(
        asked.cells,
        asked.checkpoint,
        gene_col="index",
        batch_size=asked.batch_size,
        device="cpu",
        use_fast_transformer=False,
    )
    embedded.write_h5ad(asked.output)
    if asked.tokens is not None:
        vocabulary = json.loads((asked.checkpoint / "vocab.json").read_text(encoding="utf-8"))
        keep(tokens, vocabulary["<pad>"], asked.tokens)
    marks.write(asked.report)


def around(package: Path, marks: Marks) -> Any:
    """Import scGPT's task from a folder, with all that stands around it; gives the module ``scgpt.tasks.cell_emb``."""
    warnings.simplefilter("ignore")  # deprecations of the eight libraries that it imports
    # Its data set is a class inside a function, which only forked workers can take with them.
    multiprocessing.set_start_method("fork", force=True)
    sys.path.insert(0, str(package))
    with standing_in() as names:
        scgpt = import_module("scgpt")
        cell_emb = import_module("scgpt.tasks.cell_emb")
    home = Path(str(scgpt.__file__)).parent
    if package.resolve() not in home.resolve().parents:
        raise SystemExit(f"scgpt was found in {home}, expected in {package}.")
    marks.facts["scgpt"] = str(getattr(scgpt, "__version__", "unknown"))
    marks.facts["stand-ins"] = ", ".join(names)
    return cell_emb


def model_of(task: Any, checkpoint: Path) -> Any:
    """The original's model with a checkpoint's weights, made as ``embed_data`` makes it."""
    import torch

    args = json.loads((checkpoint / "args.json").read_text(encoding="utf-8"))
    vocabulary = task.GeneVocab.from_file(checkpoint / "vocab.json")
    model = task.TransformerModel(
        ntoken=len(vocabulary),
        d_model=args["embsize"],
        nhead=args["nheads"],
        d_hid=args["d_hid"],
        nlayers=args["nlayers"],
        nlayers_cls=args["n_layers_cls"],
        n_cls=1,
        vocab=vocabulary,
        dropout=args["dropout"],
        pad_token=args["pad_token"],
        pad_value=args["pad_value"],
        do_mvc=True,
        use_fast_transformer=False,
    )
    task.load_pretrained(model, torch.load(checkpoint / "best_model.pt", map_location="cpu"), verbose=False)
    return model.eval()


def _turn_fast_path_off(marks: Marks) -> None:
    import torch

    torch.backends.mha.set_fastpath_enabled(False)
    marks.facts["tuned"] = "torch.backends.mha.set_fastpath_enabled(False)"


def watch(task: Any, marks: Marks) -> list[tuple[Any, Any]]:
    """Mark each batch that the model has encoded, and keep its tokens; nothing that is computed changes."""
    tokens: list[tuple[Any, Any]] = []
    encode: Wrapped = task.TransformerModel._encode
    from_file: Wrapped = task.GeneVocab.from_file

    def marked(model: Any, ids: Any, values: Any, *rest: Any, **named: Any) -> Any:
        hidden = encode(model, ids, values, *rest, **named)
        tokens.append((ids, values))
        marks.answered(len(ids))
        return hidden

    def timed(path: Path) -> Any:
        with marks.set_apart("vocabulary"):
            return from_file(path)

    task.TransformerModel._encode = marked
    task.GeneVocab.from_file = timed
    return tokens


def keep(tokens: list[tuple[Any, Any]], pad_id: int, path: Path) -> None:
    """Save what the original drew: (n_cells, longest) ids, -1 behind a cell's tokens, and values."""
    width = max(ids.shape[1] for ids, _ in tokens)
    all_ids = np.concatenate([_wide(ids.numpy(), width, pad_id) for ids, _ in tokens])
    all_ids[all_ids == pad_id] = -1
    all_values = np.concatenate([_wide(values.numpy(), width, -2) for _, values in tokens])
    np.savez(path, ids=all_ids, values=all_values)


def _wide(rows: Any, width: int, fill: int) -> Any:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=fill)


if __name__ == "__main__":
    main(sys.argv[1:])
