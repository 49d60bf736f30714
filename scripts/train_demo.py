"""Train the demo model: a small scGPT for blood cells, in the layout of the public checkpoints.

    python scripts/train_demo.py --data FOLDER -o CHECKPOINT [--seed 0] [--steps N]

FOLDER holds the labelled data sets (see demo_data.py for their names and for what is held out). CHECKPOINT gets
args.json, vocab.json, best_model.pt and labels.json. Under 20 minutes on two quiet cores; on a busy machine set
OMP_WAIT_POLICY=passive. The same seed and threads give the same weights on the same machine. What the model is worth
is measured by build_demo.py, on the bundle.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from demo_batches import Sampler, view, vocabulary
from demo_data import DataSet, Split, load
from demo_evaluation import Told, validation_figure
from demo_labels import LABELS
from demo_training import Recipe, course, draw, losses_of, new_model
from training import checkpoint
from training.checkpoint import SIZES
from training.loop import train
from training.tokens import settings

from scgpt_export.genes import census_tokens
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.vocab import Vocabulary, match

SHIPPED = Path(__file__).resolve().parent.parent / "scgpt_infer" / "demo" / "cells.h5ad"
MAX_LENGTH = 600


def config(tokens: Vocabulary) -> ModelConfig:
    """The demo model's sizes."""
    return checkpoint.config(
        tokens,
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
        ids, codes = torch.from_numpy(seen.tokens.ids), torch.from_numpy(seen.tokens.values)
        padding = torch.arange(ids.shape[1]) >= torch.from_numpy(seen.tokens.lengths)[:, None]
        output = model(ids, levels[codes], padding, cls=True)
        vectors[rows] = torch.nn.functional.normalize(output["cell_emb"], dim=1).numpy()
        logits[rows] = output["cls_output"].numpy()
    return Told(vectors, logits)


def choose_genes(split: Split) -> Vocabulary:
    """The model's vocabulary: no count of a held-out cell has a say in it."""
    small = [cells.genes for cells in (*split.training, split.shipped) if len(cells.genes) < 2000]
    return vocabulary(split.training, small, census_tokens())


def write(folder: Path, model: ScGPT, tokens: Vocabulary, recipe: Recipe, seed: int) -> None:
    """Write the checkpoint in scGPT's own layout."""
    args = {
        "mask_ratio": sorted(set(recipe.mask_ratios)),
        "max_seq_len": MAX_LENGTH,
        "training_tasks": "gen+cls",
        "fine_tuned": False,
        "no_cls": False,
        "no_cce": True,
        "MVC": True,
        "USE_CLS": True,
        "batch_size": recipe.cells,
        "lr": recipe.rate,
        "seed": seed,
    }
    checkpoint.write(folder, model, tokens, args, labels=LABELS, recipe=asdict(recipe))


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
    rules = settings(tokens, MAX_LENGTH)
    best = train(
        model,
        lambda: draw(sampler, recipe, rules),
        lambda learner, batch: losses_of(learner, batch, recipe, rules),
        course(recipe),
        lambda line: print(line, flush=True),
        judge,
    )
    write(options.output, best, tokens, recipe, options.seed)
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
