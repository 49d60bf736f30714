"""The training loop that all small models share: AdamW, warm-up, cosine, and a running mean of the weights.

In: a model, a way to draw batches and a way to tell their losses. Out: the running mean, which is the model that is
kept. It knows nothing of cells, tokens or heads. The same seed, threads and machine give the same weights.
"""

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgpt_export.reference import Attention

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast a model learns.

    Attributes
    ----------
    steps
        Batches.
    rate, warm_up, decay, clip
        AdamW: highest learning rate, steps to reach it, weight decay, largest gradient norm.
    average
        Decay of the running mean of weights.
    judge_every
        Steps between looks at the figure of merit.
    seconds
        The loop ends after these, whatever the step; the rate then falls by time, if that is what runs out first, so
        the weights depend on the machine's speed. Infinite where the steps alone decide.
    """

    steps: int
    rate: float = 2e-3
    warm_up: int = 200
    decay: float = 0.02
    clip: float = 1.0
    average: float = 0.998
    judge_every: int = 400
    seconds: float = math.inf


class FusedAttention(Attention):
    """The same sums as `Attention`, by torch's fused kernel: half the time of a training step."""

    def forward(self, queries: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention of some query tokens over all tokens."""
        q, k, v = self.heads(queries, 0), self.heads(x, 1), self.heads(x, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


def fused(model: M) -> M:
    """The same model with fused attention, without dropout of attention weights."""
    for module in model.modules():
        if type(module) is Attention:
            module.__class__ = FusedAttention
    return model


def train(
    model: M,
    draw: Callable[[], B],
    losses_of: Callable[[M, B], dict[str, Tensor]],
    course: Course,
    say: Callable[[str], None],
    judge: Callable[[M], float] | None = None,
) -> M:
    """Train a model.

    Parameters
    ----------
    model
        Changed in place. Weights that are frozen (``requires_grad_(False)``) stay.
    draw
        Gives the next batch.
    losses_of
        Losses of a batch by name, weighted; their sum is what falls.
    course
        The numbers.
    say
        Told how it goes.
    judge
        Figure of merit of a model, more is better; without one the last running mean is kept.

    Returns
    -------
    The running mean of the weights, where `judge` liked it best, in eval mode.
    """
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=course.rate, weight_decay=course.decay, betas=(0.9, 0.98))
    mean = copy.deepcopy(model).eval()
    best, best_figure = mean, -math.inf
    began, sums, since = time.monotonic(), defaultdict[str, float](float), 0
    for step in range(1, course.steps + 1):
        spent = time.monotonic() - began
        for group in optimizer.param_groups:
            group["lr"] = course.rate * schedule(step, course, spent)
        losses = losses_of(model.train(), draw())
        total = sum(losses.values(), torch.zeros(()))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learnt, course.clip)
        optimizer.step()
        follow(mean, model, min(course.average, step / (step + 10)))
        since += 1
        for name, loss in losses.items():
            sums[name] += float(loss.detach())
        last = step == course.steps or spent >= course.seconds
        if step % course.judge_every == 0 or last:
            with torch.no_grad():
                figure = judge(mean) if judge else float(step)
            values = ", ".join(f"{name} {loss / since:.4f}" for name, loss in sums.items())
            found = f"; validation {figure:.4f}" if judge else ""
            say(f"step {step:,}: {values}{found}; {time.monotonic() - began:.0f} s")
            sums.clear()
            since = 0
            if figure > best_figure:
                best, best_figure = copy.deepcopy(mean), figure
        if last:
            break
    return best.eval()


def schedule(step: int, course: Course, spent: float = 0.0) -> float:
    """Share of the highest learning rate: up in a line, down in half a cosine, by steps or time as one runs out."""
    if step < course.warm_up:
        return step / course.warm_up
    done = max((step - course.warm_up) / max(1, course.steps - course.warm_up), spent / course.seconds)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, keep: float) -> None:
    """Move the running mean of weights towards the model's; statistics of batch norms are means as they are."""
    for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)
    for slow, fast in zip(mean.buffers(), model.buffers(), strict=True):
        slow.copy_(fast)
