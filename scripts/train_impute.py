"""Train a small scGPT of blood cells that imputes: it sees genes without counts, and tells zero from non-zero.

    python scripts/train_impute.py --data FOLDER -o CHECKPOINT [--seed 0] [--steps N]

FOLDER holds pbmc_10batches_3000.h5ad and pbmc_frozen_donorA_2896.h5ad, which it learns from, and pbmc3k_labelled.h5ad,
which judges it elsewhere (benchmarks/impute.py): batch GSE115189, which is pbmc3k again, and any copy of its cells are
left out. CHECKPOINT gets args.json, vocab.json and best_model.pt, with heads for values (from tokens and from the cell
embedding) and for zeros. It starts from the weights of scripts/demo_checkpoint. About 8 minutes on one core.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from training import checkpoint
from training.cells import Cells, copies, read, variable_genes
from training.loop import Course, fused, train
from training.losses import value_losses
from training.tokens import SPECIAL, Masked, join, masked, padded, settings

from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, match

PBMC3K_AGAIN = "GSE115189"
VALIDATION = "SRR7244582"
GENES = 600
CELLS = 24
LENGTHS = (200, 300, 400)
MASK_RATIOS = (0.1, 0.25, 0.5)
JUDGED = 120
"""Cells of the batch that chooses the best running mean."""


@dataclass(frozen=True, slots=True)
class Split:
    """Cells to learn from, and those that choose the step."""

    training: tuple[Cells, ...]
    validation: Cells


def load(folder: Path) -> Split:
    """Read the data sets and leave out what judges."""
    judge = read(folder / "pbmc3k_labelled.h5ad")
    ten = read(folder / "pbmc_10batches_3000.h5ad", ["batch"])
    ten = ten.take(ten.obs["batch"] != PBMC3K_AGAIN)
    donor = read(folder / "pbmc_frozen_donorA_2896.h5ad")
    clean = []
    for cells in (ten, donor):
        same = copies(cells.counts, cells.genes, judge.counts, judge.genes)
        print(f"{cells.name}: {cells.n_cells:,} cells, {int(same.sum())} of them copies of cells that judge, left out")
        clean.append(cells.take(~same))
    ten, donor = clean
    choosing = ten.obs["batch"] == VALIDATION
    return Split((ten.take(~choosing), donor), ten.take(np.flatnonzero(choosing)[:JUDGED]))


def choose_genes(training: Sequence[Cells]) -> Vocabulary:
    """The genes that vary most within the batches, of those that all data sets and the demo model have."""
    shared = set(checkpoint.demo_genes()) - set(SPECIAL)
    for cells in training:
        shared &= set(cells.genes)
    return Vocabulary((*sorted(variable_genes(training[0], GENES, shared, "batch")), *SPECIAL))


def config(tokens: Vocabulary) -> ModelConfig:
    """The demo model's sizes, with zeros told apart and no classifier."""
    return checkpoint.config(
        tokens,
        mvc=True,
        explicit_zero=True,
    )


class Sampler:
    """Draws masked batches from all training data; every draw depends on the seed alone."""

    def __init__(self, training: Sequence[Cells], tokens: Vocabulary, seed: int) -> None:
        self.sets, self.tokens = training, tokens
        self.columns = [match(cells.genes, tokens).columns for cells in training]
        self.random = np.random.default_rng(seed)

    def draw(self, ratios: Sequence[float] = MASK_RATIOS) -> Masked:
        """The next batch; all views have one length, since zeros are tokens."""
        length = int(self.random.choice(LENGTHS))
        sizes = np.array([cells.n_cells for cells in self.sets])
        share = self.random.multinomial(CELLS, sizes / sizes.sum())
        rules = rules_of(self.tokens, length, int(self.random.integers(2**62)))
        parts = [
            padded(cells.counts[self.random.choice(cells.n_cells, n)], columns, rules, len(self.tokens))
            for cells, columns, n in zip(self.sets, self.columns, share.tolist(), strict=True)
            if n
        ]
        return masked(join(parts, rules.pad_id, rules.pad_code), ratios, rules, self.random)


def rules_of(tokens: Vocabulary, max_length: int, seed: int = 0) -> TokenizerSettings:
    """As the exported model will have them: with zeros, and 0 as the value of ``<cls>``."""
    return settings(tokens, max_length, seed, include_zeros=True, cls_value=0.0)


def losses_of(model: ScGPT, batch: Masked, rules: TokenizerSettings) -> dict[str, Tensor]:
    """Losses of values and of zeros, from tokens and from the cell embedding."""
    output = model(batch.ids, torch.tensor(rules.levels)[batch.codes], batch.padding, mvc=True)
    return value_losses(output, batch, rules)


def judge_of(cells: Cells, tokens: Vocabulary, rules: TokenizerSettings) -> Callable[[ScGPT], float]:
    """Minus the sum of all losses on a fixed question: a quarter of the values of these cells."""
    seen = padded(cells.counts, match(cells.genes, tokens).columns, rules, len(tokens))
    question = masked(seen, (0.25,), rules, np.random.default_rng(1))

    def judge(model: ScGPT) -> float:
        return -float(sum(losses_of(model, question, rules).values()))

    return judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it in their last digits")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    split = load(options.data)
    tokens = choose_genes(split.training)
    rules = rules_of(tokens, GENES + 1)
    torch.manual_seed(options.seed)
    model = fused(ScGPT(config(tokens)))
    print(checkpoint.start(model, tokens), flush=True)
    course = Course(steps=options.steps, rate=2e-3, warm_up=50, average=0.99, judge_every=100)
    best = train(
        model,
        Sampler(split.training, tokens, options.seed).draw,
        lambda learner, batch: losses_of(learner, batch, rules),
        course,
        lambda line: print(line, flush=True),
        judge_of(split.validation, tokens, rules),
    )
    args = {
        "max_seq_len": GENES + 1,
        "mask_ratio": MASK_RATIOS,
        "fine_tuned": True,
        "include_zero_gene": True,
        "MVC": True,
    }
    checkpoint.write(options.output, best, tokens, {**args, "seed": options.seed})
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
