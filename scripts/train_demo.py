"""Train the demo model: a small scGPT for blood cells, in the layout of the public checkpoints.

    python scripts/train_demo.py --data FOLDER -o CHECKPOINT [--seed 0] [--steps N]

FOLDER holds the labelled data sets (see demo_data.py for their names and for what is held out). CHECKPOINT gets
args.json, vocab.json, best_model.pt and labels.json. Under 20 minutes on two quiet cores; on a busy machine set
OMP_WAIT_POLICY=passive. The same seed and threads give the same weights on the same machine. What the model is worth
is measured by build_demo.py, on the bundle.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from demo_batches import Sampler, settings, view, vocabulary
from demo_data import DataSet, Split, load
from demo_evaluation import Told, validation_figure
from demo_labels import LABELS
from demo_training import Recipe, new_model, train

from scgpt_export.genes import census_tokens
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.vocab import Vocabulary, match

SHIPPED = Path(__file__).resolve().parent.parent / "scgpt_infer" / "demo" / "cells.h5ad"
MAX_LENGTH = 600
SIZES = {"embsize": 64, "nheads": 4, "d_hid": 128, "nlayers": 4, "n_layers_cls": 3, "dropout": 0.0}


def config(tokens: Vocabulary) -> ModelConfig:
    """The demo model's sizes."""
    return ModelConfig(
        n_tokens=len(tokens),
        dim=SIZES["embsize"],
        n_heads=SIZES["nheads"],
        d_hid=SIZES["d_hid"],
        n_layers=SIZES["nlayers"],
        pad_id=tokens.index["<pad>"],
        dropout=SIZES["dropout"],
        mvc=True,
        n_cls=len(LABELS),
        n_layers_cls=SIZES["n_layers_cls"],
    )


@torch.no_grad()
def ask(model: ScGPT, cells: DataSet, tokens: Vocabulary, batch: int = 32) -> Told:
    """Unit vectors and logits of cells, by the reference model."""
    rules = settings(tokens, MAX_LENGTH)
    levels = torch.tensor(rules.levels)
    columns = match(cells.genes, tokens).columns
    vectors = np.full((cells.n_cells, model.config.dim), np.nan, np.float32)
    logits = np.full((cells.n_cells, len(LABELS)), np.nan, np.float32)
    order = np.argsort(np.diff(cells.counts.indptr), kind="stable")
    for start in range(0, cells.n_cells, batch):
        rows = order[start : start + batch]
        seen = view(cells.counts[rows], cells.allowed[rows], columns, rules, len(tokens), fewest=0)
        padding = np.arange(seen.ids.shape[1]) >= seen.lengths[:, None]
        output = model(
            torch.from_numpy(seen.ids), levels[torch.from_numpy(seen.codes)], torch.from_numpy(padding), cls=True
        )
        vectors[rows] = torch.nn.functional.normalize(output["cell_emb"], dim=1).numpy()
        logits[rows] = output["cls_output"].numpy()
    return Told(vectors, logits)


def choose_genes(split: Split) -> Vocabulary:
    """The model's vocabulary: no count of a held-out cell has a say in it."""
    small = [cells.genes for cells in (*split.training, split.shipped) if len(cells.genes) < 2000]
    return vocabulary(split.training, small, census_tokens())


def write(folder: Path, model: ScGPT, tokens: Vocabulary, recipe: Recipe, seed: int) -> None:
    """Write the checkpoint in scGPT's own layout."""
    folder.mkdir(parents=True, exist_ok=True)
    args = {
        **SIZES,
        "pad_token": "<pad>",
        "pad_value": -2,
        "mask_value": -1,
        "mask_ratio": sorted(set(recipe.mask_ratios)),
        "input_style": "binned",
        "input_emb_style": "continuous",
        "n_bins": 51,
        "max_seq_len": MAX_LENGTH,
        "training_tasks": "gen+cls",
        "fine_tuned": False,
        "no_cls": False,
        "no_cce": True,
        "MVC": True,
        "USE_CLS": True,
        "fast_transformer": False,
        "batch_size": recipe.cells,
        "lr": recipe.rate,
        "seed": seed,
    }
    (folder / "args.json").write_text(json.dumps(args, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(tokens.index, indent=2) + "\n", encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(LABELS, indent=2) + "\n", encoding="utf-8")
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    torch.save({name: weight.clone() for name, weight in model.state_dict().items()}, folder / "best_model.pt")


def report(sets: Sequence[DataSet]) -> None:
    for cells in sets:
        print(f"  {cells.name}: {cells.n_cells:,} cells, {int(cells.allowed.any(axis=1).sum()):,} labelled", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--threads", type=int, default=2, help="the weights depend on it in their last digits")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    recipe = replace(Recipe(), steps=options.steps)
    split = load(options.data, SHIPPED)
    print("training:")
    report(split.training)
    print("validation:")
    report(split.validation)
    print(f"copies of judging cells left out: {split.dropped}")
    tokens = choose_genes(split)
    model = new_model(config(tokens), options.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(tokens):,} tokens", flush=True)

    def judge(mean: ScGPT) -> float:
        return float(np.mean([validation_figure(cells, ask(mean, cells, tokens).logits) for cells in split.validation]))

    sampler = Sampler(split.training, tokens, options.seed)
    best = train(model, sampler, recipe, settings(tokens, MAX_LENGTH), judge, lambda line: print(line, flush=True))
    write(options.output, best, tokens, recipe, options.seed)
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
