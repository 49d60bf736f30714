"""Train a small scGPT that integrates batches: masked values, domain-specific batch norm, batches told apart by none.

    python scripts/train_integrate.py --data FOLDER -o CHECKPOINT [--cells pbmc|lung] [--seconds 400] [--from-nothing]

FOLDER holds pbmc_10batches_3000.h5ad and lung_lines_mixology_5batch.h5ad. The objectives are those of scGPT's
integration tutorial: values masked (0.4) and told from tokens and from the cell embedding (GEP, GEPC), elastic cell
similarity (ECS, threshold 0.8), a discriminator of batches behind a reversed gradient (DAR), and DSBN. Two things are
other: a cell's genes are those that it expresses, as in zero-shot use, and statistics of a batch are taken of real
tokens alone, of all its cells when the training is over. A third of the cells of each batch is held out (`held_out`).
It starts from the demo model, which knows cell types of blood by their labels, or from nothing. No cell type is used
here. CHECKPOINT gets args.json, vocab.json, best_model.pt, batches.json and genes.json:

    scgpt-infer export CHECKPOINT -o BUNDLE --batches CHECKPOINT/batches.json --genes CHECKPOINT/genes.json
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from training import checkpoint, losses
from training.cells import Cells, read, variable_genes
from training.loop import Course, fused, train
from training.tokens import SPECIAL, Masked, join, masked, padded, settings, thin

from scgpt_export.genes import census_tokens
from scgpt_export.reference import DomainNorm, Domains, ScGPT
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, is_special, match

BATCH = "batch"
ECS_WEIGHT, DAB_WEIGHT = 1.0, 0.25
PENALTY_FREE = 0.8
"""Similarity of two cells that ECS draws towards."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs from one data set to the other.

    Attributes
    ----------
    file
        Its name.
    genes
        Variable genes that become tokens.
    length
        Longest view in training; the model takes all genes when it is asked.
    """

    file: str
    genes: int
    length: int


PLANS = {
    "pbmc": Plan("pbmc_10batches_3000.h5ad", 1200, 256),
    "lung": Plan("lung_lines_mixology_5batch.h5ad", 800, 320),
}
BATCHES_A_STEP, CELLS_OF_EACH = 4, 10


def held_out(batches: NDArray[np.str_], seed: int = 0) -> NDArray[np.bool_]:
    """(n_cells,) whether a cell is kept for judging: a third of each batch, drawn."""
    random, out = np.random.default_rng(seed), np.zeros(len(batches), bool)
    for batch in np.unique(batches):
        rows = np.flatnonzero(batches == batch)
        out[random.permutation(rows)[: len(rows) // 3]] = True
    return out


class TokenNorm(DomainNorm):
    """Statistics of each batch's own tokens, wherever its cells stand in a minibatch; padding has no part in them."""

    padding: Tensor

    def forward(self, x: Tensor, batch: Tensor, domains: Domains = "cell") -> Tensor:
        """Normed embeddings (B, L, D), zero at padding."""
        if not self.training:
            return super().forward(x, batch, domains)
        normed = torch.zeros_like(x)
        for label in batch.unique().tolist():
            real = (batch == label).unsqueeze(1) & ~self.padding  # (B, L)
            normed[real] = self.bns[label](x[real])
        return normed


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned around."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        """The same."""
        return x.view_as(x)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        """Turned around."""
        return -gradient


class Sampler:
    """Draws views of cells, as many of each of a few batches."""

    def __init__(self, cells: Cells, tokens: Vocabulary, names: list[str], length: int, seed: int) -> None:
        self.cells, self.tokens, self.length = cells, tokens, length
        self.columns = match(cells.genes, tokens).columns
        labels = np.array([names.index(batch) for batch in cells.obs[BATCH]])
        self.rows = [np.flatnonzero(labels == label) for label in range(len(names))]
        self.random = np.random.default_rng(seed)

    def rules(self, seed: int = 0) -> TokenizerSettings:
        """The tokenizer's settings: fine-tuned, so that ``<cls>`` carries 0."""
        return settings(self.tokens, self.length, seed, cls_value=0.0)

    def draw(self) -> Masked:
        """A minibatch."""
        labels = self.random.choice(len(self.rows), min(BATCHES_A_STEP, len(self.rows)), replace=False)
        return self.of([(label, self.random.choice(self.rows[label], CELLS_OF_EACH)) for label in labels], (0.4,), 0.5)

    def of(self, drawn: list[tuple[int, NDArray[np.int64]]], ratios: tuple[float, ...], thinned: float) -> Masked:
        """Views of chosen cells, by batch label."""
        rules = self.rules(int(self.random.integers(2**62)))
        parts, told = [], []
        for label, rows in drawn:
            counts = self.cells.counts[rows]
            if self.random.random() < thinned:
                counts = thin(counts, self.random)
            parts.append(padded(counts, self.columns, rules, len(self.tokens)))
            told.append(np.full(len(parts[-1].ids), label, np.int64))
        whole = join(parts, rules.pad_id, rules.pad_code)
        return masked(whole, ratios, rules, self.random, np.concatenate(told))


def new_model(tokens: Vocabulary, n_batches: int, seed: int) -> ScGPT:
    """A model of the demo's size with everything that integration needs."""
    torch.manual_seed(seed)
    config = checkpoint.config(
        tokens,
        dropout=0.0,
        mvc=True,
        norm="dsbn",
        batch_labels=True,
        n_batches=n_batches,
        dab=True,
        ecs_threshold=PENALTY_FREE,
    )
    model = fused(ScGPT(config))
    if model.dsbn is not None:
        model.dsbn.__class__ = TokenNorm
    return model


def losses_of(model: ScGPT, batch: Masked, rules: TokenizerSettings) -> dict[str, Tensor]:
    """Every loss of a minibatch, weighted."""
    told = answer(model, batch, rules)
    found = losses.value_losses(told, batch, rules)
    judge = model.grad_reverse_discriminator
    if judge is None or batch.labels is None:
        raise SystemExit("the model has no discriminator of batches")
    told_apart = judge(Reversed.apply(told["cell_emb"]))
    found["similarity"] = ECS_WEIGHT * told["loss_ecs"]
    found["batches"] = DAB_WEIGHT * functional.cross_entropy(told_apart, batch.labels)
    return found


def answer(model: ScGPT, batch: Masked, rules: TokenizerSettings) -> dict[str, Tensor]:
    """What the model says of a minibatch."""
    if isinstance(model.dsbn, TokenNorm):
        model.dsbn.padding = batch.padding
    values = torch.tensor(rules.levels)[batch.codes]
    return model(batch.ids, values, batch.padding, batch.labels, mvc=True, ecs=True)


@torch.no_grad()
def settle(model: ScGPT, sampler: Sampler, rules: TokenizerSettings) -> None:
    """Statistics of each batch over all of its cells, as the model will be asked: nothing masked, nothing thinned."""
    if model.dsbn is None:
        return
    for norm in model.dsbn.bns:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all minibatches, rather than of the last
    model.dsbn.train()
    whole = replace_length(sampler, len(sampler.tokens))
    for label, rows in enumerate(sampler.rows):
        for part in np.array_split(rows, max(1, len(rows) // 50)):
            batch = whole.of([(label, part)], (0.0,), 0.0)
            if isinstance(model.dsbn, TokenNorm) and batch.labels is not None:
                model.dsbn.padding = batch.padding
                model.embed_tokens(batch.ids, torch.tensor(rules.levels)[batch.codes], batch.labels)
    model.eval()


def replace_length(sampler: Sampler, length: int) -> Sampler:
    """The same cells in views of another length."""
    names = [sampler.cells.obs[BATCH][rows[0]] for rows in sampler.rows]
    return Sampler(sampler.cells, sampler.tokens, list(map(str, names)), length, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cells", choices=sorted(PLANS), default="pbmc")
    parser.add_argument("--without", default="", help="leave this batch out whole, to judge what is told of new ones")
    parser.add_argument("--from-nothing", action="store_true", help="random weights instead of the demo model's")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it in their last digits")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began, plan = time.monotonic(), PLANS[options.cells]
    cells = read(options.data / plan.file, (BATCH,))
    cells = cells.take(~held_out(cells.obs[BATCH]) & (cells.obs[BATCH] != options.without))
    names = sorted(set(cells.obs[BATCH].tolist()))
    known = [name for name in census_tokens() if not is_special(name)]
    genes = variable_genes(cells, plan.genes, known, BATCH)
    tokens = Vocabulary((*sorted(genes), *SPECIAL))
    model = new_model(tokens, len(names), options.seed)
    print(f"{cells.n_cells:,} cells of {len(names)} batches, {len(genes):,} genes", flush=True)
    if not options.from_nothing:
        print(checkpoint.start(model, tokens), flush=True)
    sampler = Sampler(cells, tokens, names, plan.length, options.seed)
    rules = sampler.rules()
    course = Course(options.steps, rate=1e-3, warm_up=100, average=0.99, seconds=options.seconds)
    best = train(
        model,
        sampler.draw,
        lambda one, batch: losses_of(one, batch, rules),
        course,
        lambda line: print(line, flush=True),
    )
    settle(best, sampler, rules)
    args = {"max_seq_len": len(tokens), "fine_tuned": True, "include_zero_gene": False, "mask_ratio": 0.4, "MVC": True}
    checkpoint.write(options.output, best, tokens, args, batches=names, genes=list(genes))
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
