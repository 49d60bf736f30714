"""The demo model's training loop: masked values as in scGPT's pretraining, cell types as in its fine-tuning.

In: a `Sampler` and sizes. Out: a trained `ScGPT`. One pass of a batch serves all losses: some cells are masked and
answer for their masked values, from their tokens and from the cell embedding; labelled cells answer for their type,
and cells of one type should lie together.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from demo_batches import Batch, Sampler
from torch import Tensor
from torch.nn import functional

from scgpt_export.reference import Attention, ModelConfig, ScGPT
from scgpt_runtime.manifest import TokenizerSettings


@dataclass(frozen=True, slots=True)
class Recipe:
    """All numbers of a training.

    Attributes
    ----------
    steps, cells
        Batches, and cells in each.
    rate, warm_up, decay, clip
        AdamW: highest learning rate, steps to reach it, weight decay, largest gradient norm.
    lengths
        Longest view in tokens of a batch; one is drawn for each.
    mask_ratios
        Share of values masked; one is drawn for each cell. Zero is how the model will be asked.
    value_weight, type_weight, likeness_weight
        Of the losses: masked values (from tokens and from the cell embedding alike), types, likeness.
    temperature
        Of likeness.
    average
        Decay of the running mean of weights, which is the model that is kept.
    judge_every
        Steps between looks at the validation cells.
    """

    steps: int = 3600
    cells: int = 40
    rate: float = 2e-3
    warm_up: int = 200
    decay: float = 0.02
    clip: float = 1.0
    lengths: tuple[int, ...] = (96, 128, 160, 192, 256, 384)
    mask_ratios: tuple[float, ...] = (0.0, 0.0, 0.25, 0.5, 0.75)
    value_weight: float = 0.5
    type_weight: float = 1.0
    likeness_weight: float = 0.5
    temperature: float = 0.2
    average: float = 0.998
    judge_every: int = 400


class FusedAttention(Attention):
    """The same sums as `Attention`, by torch's fused kernel: half the time of a training step."""

    def forward(self, queries: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention of some query tokens over all tokens."""
        q, k, v = self.heads(queries, 0), self.heads(x, 1), self.heads(x, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def new_model(config: ModelConfig, seed: int) -> ScGPT:
    """A model with random weights, ready for training."""
    torch.manual_seed(seed)
    model = ScGPT(config)
    for module in model.modules():
        if type(module) is Attention:
            module.__class__ = FusedAttention
    return model


def train(
    model: ScGPT,
    sampler: Sampler,
    recipe: Recipe,
    rules: TokenizerSettings,
    judge: Callable[[ScGPT], float],
    say: Callable[[str], None],
) -> ScGPT:
    """Train a model.

    Parameters
    ----------
    model
        From `new_model`.
    sampler
        Gives the batches.
    recipe
        The numbers.
    rules
        Codes of mask and padding, and what they mean as values.
    judge
        Figure of merit of a model on the validation cells.
    say
        Told how it goes.

    Returns
    -------
    The running mean of the weights where `judge` liked it best.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98))
    mean = copy.deepcopy(model).eval()
    best, best_figure = copy.deepcopy(mean), -math.inf
    levels = torch.tensor(rules.levels)
    began, sums = time.monotonic(), np.zeros(5)
    for step in range(1, recipe.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * schedule(step, recipe)
        batch = sampler.draw(recipe.cells, int(sampler.random.choice(recipe.lengths)))
        losses = losses_of(model.train(), masked(batch, recipe, rules, sampler.random), levels, recipe, rules)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        follow(mean, model, min(recipe.average, step / (step + 10)))
        sums += [*(float(loss.detach()) for loss in losses.values()), 1]
        if step % recipe.judge_every == 0 or step == recipe.steps:
            figure = judge(mean)
            values = ", ".join(f"{name} {x:.4f}" for name, x in zip(losses, sums[:-1] / sums[-1], strict=True))
            say(f"step {step:,}: {values}; validation {figure:.4f}; {time.monotonic() - began:.0f} s")
            sums[:] = 0
            if figure > best_figure:
                best, best_figure = copy.deepcopy(mean), figure
    return best


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the highest learning rate: up in a line, down in half a cosine."""
    if step < recipe.warm_up:
        return step / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def follow(mean: ScGPT, model: ScGPT, keep: float) -> None:
    """Move the running mean of weights towards the model's."""
    for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


@dataclass(frozen=True, slots=True)
class Masked:
    """A batch as tensors: what the model sees, and what it is asked for."""

    ids: Tensor  # (B, L)
    codes: Tensor  # (B, L), as seen
    target: Tensor  # (B, L), true codes
    hidden: Tensor  # (B, L) bool, masked positions
    padding: Tensor  # (B, L) bool
    allowed: Tensor  # (B, C) bool


def masked(batch: Batch, recipe: Recipe, rules: TokenizerSettings, random: np.random.Generator) -> Masked:
    """Mask a share of each cell's values, never that of ``<cls>``."""
    ratio = random.choice(recipe.mask_ratios, size=(len(batch.ids), 1))
    position = np.arange(batch.ids.shape[1])
    padding = position >= batch.lengths[:, None]
    hidden = (random.random(batch.ids.shape) < ratio) & ~padding & (position > 0)
    return Masked(
        ids=torch.from_numpy(batch.ids),
        codes=torch.from_numpy(np.where(hidden, rules.mask_code, batch.codes)),
        target=torch.from_numpy(batch.codes),
        hidden=torch.from_numpy(hidden),
        padding=torch.from_numpy(padding),
        allowed=torch.from_numpy(batch.allowed),
    )


def losses_of(
    model: ScGPT, batch: Masked, levels: Tensor, recipe: Recipe, rules: TokenizerSettings
) -> dict[str, Tensor]:
    """Every loss of a batch, weighted."""
    output = model(batch.ids, levels[batch.codes], batch.padding, cls=True, mvc=True)
    # Bins run to 50: in units of that, errors are of the size of the other losses.
    true = levels[batch.target][batch.hidden] / (rules.n_bins - 1)
    told = {name: output[name][batch.hidden] / (rules.n_bins - 1) for name in ("mlm_output", "mvc_output")}
    scale = 10 * recipe.value_weight
    return {
        "values": scale * functional.mse_loss(told["mlm_output"], true),
        "values from the cell": scale * functional.mse_loss(told["mvc_output"], true),
        "types": recipe.type_weight * type_loss(output["cls_output"], batch.allowed),
        "likeness": recipe.likeness_weight * likeness_loss(output["cell_emb"], batch.allowed, recipe.temperature),
    }


def type_loss(logits: Tensor, allowed: Tensor) -> Tensor:
    """Cross-entropy where any of several labels may be right: their probabilities are summed."""
    labelled = allowed.any(dim=1)
    told = logits[labelled].log_softmax(dim=1)
    return -told.masked_fill(~allowed[labelled], -math.inf).logsumexp(dim=1).mean()


def likeness_loss(cell: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    """Supervised contrast on the unit sphere: cells of one type together, cells of other types apart.

    Pairs that may or may not be of one type, since a label of theirs stands for several, have no say.
    """
    allowed = allowed.float()
    unit = functional.normalize(cell, dim=1)
    likeness = unit @ unit.T / temperature
    overlap = allowed @ allowed.T > 0
    certain = (allowed.sum(dim=1) == 1).unsqueeze(1) & (allowed.sum(dim=1) == 1)
    labelled = allowed.any(dim=1)
    other = ~torch.eye(len(cell), dtype=torch.bool)
    alike = overlap & certain & other
    apart = ~overlap & labelled.unsqueeze(1) & labelled
    some = alike.any(dim=1)
    likeness, alike, apart = likeness[some], alike[some], apart[some]
    told = likeness - likeness.masked_fill(~(alike | apart), -math.inf).logsumexp(dim=1, keepdim=True)
    return -(told.masked_fill(~alike, 0.0).sum(dim=1) / alike.sum(dim=1)).mean()
