"""Cells of an .h5ad through Triton Inference Server: tokens are made here, vectors are made there.

    python client.py cells.h5ad --url localhost:8000 -o vectors.npy

An example to copy; it needs ``pip install "scgpt-infer[cpu]" "tritonclient[http]"``. It stands in the folder of its
model, and reads the rules and the vocabulary from ``tokens/`` beside it: it needs neither bundle nor weights.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_runtime.batching import LENGTH_STEP, BatchPlan, rectangles
from scgpt_runtime.cells import Batch, CellBlock, CellFault, TokenBlock
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.modalities import Modalities
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary, match, taking_part

STEP = LENGTH_STEP["tensorrt"]
"""Cells are padded to multiples of this: the server only puts requests of one length into one batch."""


def tokens_of(adata: ad.AnnData, folder: Path, manifest: Manifest) -> TokenBlock:
    """The tokens that the model was exported with. Expects counts in X, and gene names in the index of var."""
    vocabulary = Vocabulary.from_json((folder / "vocab.json").read_text(encoding="utf-8"))
    columns = match([*adata.var_names], vocabulary).columns
    columns = np.where((columns >= 0) & taking_part(vocabulary, manifest.binning_genes)[columns], columns, -1)
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    block = CellBlock(counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data, 0)
    of_tokens = None
    if manifest.modalities:
        text = (folder / "modalities.json").read_text(encoding="utf-8")
        of_tokens = Modalities.from_json(text, len(vocabulary)).of_tokens
    return tokenize(block, columns, manifest.tokenizer, len(vocabulary), modalities=of_tokens)


def ask(client: Any, model: str, batch: Batch, inputs: dict[str, str], outputs: Iterable[str]) -> Any:
    """One request: a rectangle of cells. `inputs` are names and types as the server tells them."""
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.utils import triton_to_np_dtype

    told = {"ids": batch.ids, "values": batch.values, "lengths": batch.lengths[:, None]}
    asked = []
    for name, kind in inputs.items():
        asked.append(InferInput(name, list(told[name].shape), kind))
        asked[-1].set_data_from_numpy(np.ascontiguousarray(told[name].astype(triton_to_np_dtype(kind))))
    return client.infer(model, asked, outputs=[InferRequestedOutput(name) for name in outputs])


def answers_of(client: Any, model: str, tokens: TokenBlock, manifest: Manifest, cells: int) -> dict[str, NDArray[Any]]:
    """The server's answers by name, a row a cell in the order of the cells; NaN for a cell without tokens."""
    config, told = client.get_model_config(model), client.get_model_metadata(model)
    if config["parameters"]["vector_id"]["string_value"] not in manifest.vector_ids.values():
        raise SystemExit(f"{model} is not the model that {Path(__file__).parent} was written with; take its client.py.")
    inputs = {found["name"]: found["datatype"] for found in told["inputs"]}
    widths = {found["name"]: found["shape"][1:] for found in told["outputs"]}
    if not inputs.keys() <= {"ids", "values", "lengths"} or "cell" not in widths:
        raise SystemExit(
            f"{model} takes {', '.join(inputs)} and gives {', '.join(widths)}: this makes vectors of tokens."
        )
    cells = min(cells, config["max_batch_size"])
    plan = BatchPlan("padded", cells * manifest.tokenizer.max_length, STEP)
    rows = {name: np.full((tokens.n_cells, *width), np.nan, np.float32) for name, width in widths.items()}
    for batch in rectangles(tokens, manifest.tokenizer, plan):
        for start in range(0, len(batch.cells), cells):
            part = slice(start, start + cells)
            some = Batch(batch.ids[part], batch.values[part], batch.lengths[part], batch.cells[part])
            answer = ask(client, model, some, inputs, widths)
            for name, found in rows.items():
                found[some.cells] = answer.as_numpy(name)
    return rows


def main() -> None:
    """Read the words, ask, and write the vectors, of unit length, beside which bad cells are listed."""
    from tritonclient.http import InferenceServerClient

    here = Path(__file__).resolve().parent
    words = argparse.ArgumentParser(description="Cells of an .h5ad become vectors, by Triton.")
    words.add_argument("cells", type=Path)
    words.add_argument("-o", "--output", type=Path, required=True, help=".npy of the vectors")
    words.add_argument("--url", default="localhost:8000")
    words.add_argument("--model", default=here.name, help="the model of this folder, or its ensemble with types")
    words.add_argument("--cells-at-once", type=int, default=8, help="cells of one request; at most those of a batch")
    told = words.parse_args()
    manifest = Manifest.from_json((here / "tokens" / "manifest.json").read_text(encoding="utf-8"))
    adata = ad.read_h5ad(told.cells)
    tokens = tokens_of(adata, here / "tokens", manifest)
    answers = answers_of(InferenceServerClient(told.url), told.model, tokens, manifest, told.cells_at_once)
    np.save(told.output, answers["cell"] / np.linalg.norm(answers["cell"], axis=1, keepdims=True))
    if "logits" in answers:
        types = [None if np.isnan(row).any() else manifest.labels[int(row.argmax())] for row in answers["logits"]]
        told.output.with_suffix(".types.json").write_text(json.dumps(types), encoding="utf-8")
    for row in np.flatnonzero(tokens.faults).tolist():
        print(f"{adata.obs_names[row]}: {CellFault(tokens.faults[row]).reason}")


if __name__ == "__main__":
    main()
