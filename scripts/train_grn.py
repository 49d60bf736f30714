"""Train a small scGPT of control and stimulated blood cells, whose attention tells of genes in both.

    python scripts/train_grn.py --data FOLDER -o CHECKPOINT [--seed 0] [--steps N]

FOLDER holds kang18_stim_ctrl_2000_9015g.h5ad, of which 300 cells are held out. The model learns masked values of cells
with all their genes, zeros too, and is not told which cells are stimulated. It starts from the weights of
scripts/demo_checkpoint. CHECKPOINT gets args.json, vocab.json, best_model.pt, and figures.json with its error on the
held-out cells beside that of each gene's mean. About 8 minutes on one core.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from training import checkpoint
from training.cells import Cells, read, variable_genes
from training.loop import Course, fused, train
from training.losses import value_losses
from training.tokens import SPECIAL, Masked, Padded, masked, padded, settings

from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, match

FILE = "kang18_stim_ctrl_2000_9015g.h5ad"
CONDITION = "condition"
FACTORS = ("STAT1", "STAT2", "IRF1", "IRF2", "IRF3", "IRF7", "IRF8", "IRF9", "NFKB1", "RELA", "JUN", "FOS", "SPI1")
"""Genes that are known however little they vary: transcription factors of the answer to interferon, and others."""
GENES = 1200
HELD_OUT = 150
CELLS = 24
LENGTHS = (200, 300, 400)
MASK_RATIOS = (0.15, 0.3, 0.5)
ASKED = 0.25


def split(cells: Cells) -> tuple[Cells, Cells]:
    """Cells to learn from, and as many of each condition that are held out."""
    random = np.random.default_rng(0)
    conditions = cells.obs[CONDITION]
    held = np.concatenate(
        [random.choice(np.flatnonzero(conditions == name), HELD_OUT, replace=False) for name in np.unique(conditions)]
    )
    out = np.isin(np.arange(cells.n_cells), held)
    return cells.take(~out), cells.take(out, "held out")


def choose_genes(cells: Cells) -> Vocabulary:
    """The genes that vary most within both conditions, and the factors that are there."""
    chosen = {*variable_genes(cells, GENES, group=CONDITION), *({*FACTORS} & {*cells.genes})}
    return Vocabulary((*sorted(chosen), *SPECIAL))


def config(tokens: Vocabulary) -> ModelConfig:
    """The demo model's sizes, with a decoder from the cell embedding."""
    return checkpoint.config(
        tokens,
        mvc=True,
    )


def rules_of(tokens: Vocabulary, max_length: int, seed: int = 0) -> TokenizerSettings:
    """As networks are made: all genes, zeros too, and 0 as the value of ``<cls>``."""
    return settings(tokens, max_length, seed, include_zeros=True, cls_value=0.0)


class Sampler:
    """Draws masked batches; every draw depends on the seed alone."""

    def __init__(self, cells: Cells, tokens: Vocabulary, seed: int) -> None:
        self.cells, self.tokens = cells, tokens
        self.columns = match(cells.genes, tokens).columns
        self.random = np.random.default_rng(seed)

    def draw(self, ratios: Sequence[float] = MASK_RATIOS) -> Masked:
        """The next batch; all views have one length, since zeros are tokens."""
        length = int(self.random.choice(LENGTHS))
        rules = rules_of(self.tokens, length, int(self.random.integers(2**62)))
        counts = self.cells.counts[self.random.choice(self.cells.n_cells, CELLS)]
        return masked(padded(counts, self.columns, rules, len(self.tokens)), ratios, rules, self.random)


def answers(model: ScGPT, batch: Masked, rules: TokenizerSettings) -> dict[str, Tensor]:
    """What the model says of all values of a batch."""
    return model(batch.ids, torch.tensor(rules.levels)[batch.codes], batch.padding, mvc=True)


def question(cells: Cells, tokens: Vocabulary, length: int) -> Masked:
    """A fixed quarter of the values of cells."""
    rules = rules_of(tokens, length)
    return masked(_whole(cells, tokens, rules), (ASKED,), rules, np.random.default_rng(1))


def _whole(cells: Cells, tokens: Vocabulary, rules: TokenizerSettings) -> Padded:
    return padded(cells.counts, match(cells.genes, tokens).columns, rules, len(tokens))


def judge_of(cells: Cells, tokens: Vocabulary) -> Callable[[ScGPT], float]:
    """Minus the losses on a fixed question about some of the cells that the model learns from."""
    asked, rules = question(cells, tokens, LENGTHS[-1]), rules_of(tokens, LENGTHS[-1])

    @torch.no_grad()
    def judge(model: ScGPT) -> float:
        return -float(sum(value_losses(answers(model, asked, rules), asked, rules).values()))

    return judge


@torch.no_grad()
def figures(model: ScGPT, training: Cells, held: Cells, tokens: Vocabulary) -> dict[str, dict[str, float]]:
    """Mean absolute errors in bins on a quarter of the held-out values, all genes at once, by who predicts them.

    The baselines are the mean of each gene, and of each gene in each condition, over the cells that were learnt from;
    the second is told the condition, which the model is not.
    """
    rules = rules_of(tokens, len(tokens))
    asked = question(held, tokens, len(tokens))
    told = [
        answers(model, Masked(*(part[rows : rows + 10] for part in _parts(asked))), rules)
        for rows in range(0, len(asked.ids), 10)
    ]
    seen = _whole(training, tokens, rules)
    by_gene = _means(seen, np.ones(len(seen.rows), bool), len(tokens))
    by_condition = np.empty(asked.ids.shape)
    for name in np.unique(held.obs[CONDITION]):
        means = _means(seen, training.obs[CONDITION][seen.rows] == name, len(tokens))
        rows = held.obs[CONDITION] == name
        by_condition[rows] = means[asked.ids.numpy()[rows]]
    guesses = {
        "model, from tokens": torch.cat([part["mlm_output"] for part in told]).numpy(),
        "model, from the cell embedding": torch.cat([part["mvc_output"] for part in told]).numpy(),
        "mean of each gene": by_gene[asked.ids.numpy()],
        "mean of each gene in each condition": by_condition,
    }
    return {name: _errors(guess, asked) for name, guess in guesses.items()}


def _parts(batch: Masked) -> tuple[Tensor, ...]:
    return batch.ids, batch.codes, batch.target, batch.hidden, batch.padding


def _means(cells: Padded, rows: NDArray[np.bool_], n_tokens: int) -> NDArray[np.float64]:
    """(n_tokens,) mean bin of each gene."""
    ids = cells.ids[rows].ravel()
    sums = np.bincount(ids, cells.values[rows].ravel(), n_tokens)
    means: NDArray[np.float64] = sums / np.maximum(np.bincount(ids, minlength=n_tokens), 1)
    return means


def _errors(guess: NDArray[np.floating], asked: Masked) -> dict[str, float]:
    hidden, true = asked.hidden.numpy(), asked.target.numpy()
    error = guess[hidden] - true[hidden]
    above = true[hidden] > 0
    return {
        "squared": round(float(np.square(error).mean()), 3),
        "absolute": round(float(np.abs(error).mean()), 3),
        "squared where not zero": round(float(np.square(error[above]).mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it in their last digits")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    training, held = split(read(options.data / FILE, [CONDITION]))
    tokens = choose_genes(training)
    torch.manual_seed(options.seed)
    model = fused(ScGPT(config(tokens)))
    print(checkpoint.start(model, tokens), flush=True)
    rules = rules_of(tokens, len(tokens))
    best = train(
        model,
        Sampler(training, tokens, options.seed).draw,
        lambda learner, batch: value_losses(answers(learner, batch, rules), batch, rules),
        Course(steps=options.steps, rate=2e-3, warm_up=50, average=0.99, judge_every=100),
        lambda line: print(line, flush=True),
        judge_of(training.take(np.arange(0, training.n_cells, training.n_cells // 100)), tokens),
    )
    args = {
        "max_seq_len": GENES + 1,
        "mask_ratio": MASK_RATIOS,
        "fine_tuned": True,
        "include_zero_gene": True,
        "MVC": True,
        "seed": options.seed,
    }
    checkpoint.write(options.output, best, tokens, args)
    found = figures(best, training, held, tokens)
    (options.output / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, errors in found.items():
        print(f"{name}: {errors}")
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
