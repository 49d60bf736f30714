"""What the demo model learns: masked values as in scGPT's pretraining, cell types as in its fine-tuning.

In: a `Sampler` and numbers. Out: batches and their losses, for the loop in training/. One pass of a batch serves all
losses: some cells are masked and answer for their masked values, from their tokens and from the cell embedding;
labelled cells answer for their type, and cells of one type should lie together.
"""

import math
from dataclasses import dataclass

import torch
from demo_batches import Sampler
from torch import Tensor
from torch.nn import functional
from training.loop import Course, fused
from training.losses import value_losses
from training.tokens import Masked, masked

from scgpt_export.reference import ModelConfig, ScGPT
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


def new_model(config: ModelConfig, seed: int) -> ScGPT:
    """A model with random weights, ready for training."""
    torch.manual_seed(seed)
    return fused(ScGPT(config))


def course(recipe: Recipe) -> Course:
    """The recipe's part that the loop reads."""
    names = ("steps", "rate", "warm_up", "decay", "clip", "average", "judge_every")
    return Course(**{name: getattr(recipe, name) for name in names})


def draw(sampler: Sampler, recipe: Recipe, rules: TokenizerSettings) -> tuple[Masked, Tensor]:
    """The next batch, a share of its values hidden, and (B, C) bool the labels that are right."""
    batch = sampler.draw(recipe.cells, int(sampler.random.choice(recipe.lengths)))
    return masked(batch.tokens, recipe.mask_ratios, rules, sampler.random), torch.from_numpy(batch.allowed)


def losses_of(
    model: ScGPT, drawn: tuple[Masked, Tensor], recipe: Recipe, rules: TokenizerSettings
) -> dict[str, Tensor]:
    """Every loss of a batch, weighted."""
    batch, allowed = drawn
    output = model(batch.ids, torch.tensor(rules.levels)[batch.codes], batch.padding, cls=True, mvc=True)
    return value_losses(output, batch, rules, 10 * recipe.value_weight) | {
        "types": recipe.type_weight * type_loss(output["cls_output"], allowed),
        "likeness": recipe.likeness_weight * likeness_loss(output["cell_emb"], allowed, recipe.temperature),
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
