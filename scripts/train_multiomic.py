"""Train a small scGPT of several modalities: values hidden, a share of all or a whole modality, told from the rest.

    python scripts/train_multiomic.py --data FOLDER -o CHECKPOINT [--cells citeseq-bm|citeseq-pbmc|multiome|atac]

FOLDER holds the file that `multiomic_data.PLANS` names. The model is scGPT's multi-omic one: masked values are told
from tokens and from the cell embedding (GEP, GEPC), each modality is binned by itself, and decoders know the modality
of what they tell, and its batch where there are batches. A third of the cells of each batch and type is held out
(`multiomic_data.split`); no cell type is used here. It starts from the weights of scripts/demo_checkpoint that fit;
thousands of peaks start from singular vectors of the training cells.
CHECKPOINT gets args.json, vocab.json, best_model.pt, modalities.json, genes.json and, where there are, batches.json:

    scgpt-infer export CHECKPOINT -o BUNDLE --modalities CHECKPOINT/modalities.json --genes CHECKPOINT/genes.json

About 5 minutes on one core each.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from multiomic_data import PLANS, Asker, Measured, Plan, load, modality_names, split, vocabulary
from scipy.sparse.linalg import svds
from torch import Tensor
from training import checkpoint
from training.loop import Course, fused, train
from training.losses import SCALE, value_losses
from training.tokens import Masked

from scgpt_export.multiomic import MultiOmicScGPT
from scgpt_export.reference import ModelConfig, MultiOmicConfig
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.vocab import Vocabulary, is_special


def config(tokens: Vocabulary, plan: Plan, n_batches: int) -> ModelConfig:
    """The demo model's sizes, with modalities, and batches where there are."""
    names = modality_names(plan)
    return checkpoint.config(
        tokens,
        mvc=True,
        explicit_zero=plan.zeros,
        batch_labels=n_batches > 0,
        n_batches=n_batches,
        multiomic=MultiOmicConfig(len(names), names.index("<pad>"), names.index("<cls>")),
    )


def losses_of(model: MultiOmicScGPT, batch: Masked, rules: TokenizerSettings) -> dict[str, Tensor]:
    """Losses of what was asked: from tokens where it stands among them, from the cell embedding always."""
    levels = torch.tensor(rules.levels)
    output = model(batch.ids, levels[batch.codes], batch.padding, batch=batch.labels, mods=batch.mods, mvc=True)
    from_cell = {name: told for name, told in output.items() if name.startswith("mvc")}
    among = replace(batch, hidden=batch.hidden & ~batch.padding)
    from_tokens = {name: told for name, told in output.items() if name.startswith("mlm")}
    scale = SCALE if model.mvc_decoder.W_zero_logit is None else 0.2 * SCALE  # of counts of peaks, zeros tell most
    losses = value_losses(from_cell, batch, rules, scale)
    return losses | (value_losses(from_tokens, among, rules, scale) if among.hidden.any() else {})


@torch.no_grad()
def start_peaks(model: MultiOmicScGPT, cells: Measured, asker: Asker) -> str:
    """Give peaks, which no checkpoint knows, vectors of their own training cells: singular vectors of TF-IDF."""
    columns = np.flatnonzero((cells.modality == "ATAC") & (asker.columns >= 0))
    dim = model.config.dim
    if len(columns) < 10 * dim:
        return "peaks start at random"
    present = (cells.counts[:, columns] > 0).astype(np.float32)
    weight = np.log1p(cells.n_cells / (1 + np.asarray(present.sum(axis=0)).ravel()))
    share = sp.diags(1 / np.maximum(np.asarray(present.sum(axis=1)).ravel(), 1)) @ present
    vectors = svds(sp.csr_matrix((share * 1e4).log1p() @ sp.diags(weight)), dim, rng=0)[2].T  # (peaks, dim)
    vectors = 0.06 * vectors / vectors.std(axis=0)
    model.encoder.embedding.weight[torch.from_numpy(asker.columns[columns])] = torch.from_numpy(
        np.ascontiguousarray(vectors, np.float32)
    )
    return f"{len(columns):,} peaks start from singular vectors of the training cells"


def judge_of(asker: Asker) -> Callable[[MultiOmicScGPT], float]:
    """Minus the mean loss on fixed questions."""
    rows = np.arange(asker.cells.n_cells)[:160]
    questions = [asker.asked(rows[start : start + 40], asker.plan.length) for start in range(0, len(rows), 40)] * 2

    @torch.no_grad()
    def judge(model: MultiOmicScGPT) -> float:
        return -float(np.mean([float(sum(losses_of(model, one, asker.rules()).values())) for one in questions]))

    return judge


def write(folder: Path, model: MultiOmicScGPT, asker: Asker, batches: list[str], seed: int) -> None:
    """The checkpoint, and what its export needs beside it."""
    tokens, plan = asker.tokens, asker.plan
    names = modality_names(plan)
    told = {
        name: [tokens.tokens[token] for token in asker.features[number].tolist()]
        for number, name in enumerate(names[: len(plan.modalities)])
    }
    others = {"batches": batches} if batches else {}
    checkpoint.write(
        folder,
        model,
        tokens,
        {"max_seq_len": 1200, "mask_ratio": 0.4, "fine_tuned": True, "MVC": True, "seed": seed},
        modalities={"modalities": list(names), "tokens": told, "prefixes": plan.prefixes},
        genes=[name for name in tokens.tokens if not is_special(name)],
        **others,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cells", choices=PLANS, default="citeseq-pbmc")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument(
        "--seconds", type=float, default=300, help="training ends after these; then it depends on speed"
    )
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it in their last digits")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began, plan = time.monotonic(), PLANS[options.cells]
    cells = load(options.data, plan)
    learning, choosing, judging = split(cells)
    print(
        f"{plan.file}: {len(learning):,} cells to learn from, {len(choosing):,} to choose by, {len(judging):,} held out"
    )
    tokens = vocabulary(cells.take(learning), plan)
    batches = sorted(set(cells.batch.tolist())) if plan.batch else []
    asker = Asker(cells.take(learning), tokens, plan, batches, options.seed)
    torch.manual_seed(options.seed)
    model = fused(MultiOmicScGPT(config(tokens, plan, len(batches))))
    print(f"{checkpoint.start(model, tokens)}; {start_peaks(model, cells.take(learning), asker)}", flush=True)
    best = train(
        model,
        lambda: asker.draw(plan.cells),
        lambda learner, batch: losses_of(learner, batch, asker.rules()),
        Course(steps=options.steps, rate=2e-3, warm_up=50, average=0.99, judge_every=100, seconds=options.seconds),
        lambda line: print(line, flush=True),
        judge_of(Asker(cells.take(choosing), tokens, plan, batches, 1)),
    )
    write(options.output, best, asker, batches, options.seed)
    print(f"{options.output}: written after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
