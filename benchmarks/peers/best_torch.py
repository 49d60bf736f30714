"""The best PyTorch that we could write for these cells on a CPU: bf16, compiled, no padding, no mask.

It has our own exact rewrites too: gene and value tables, and a last layer for ``<cls>`` alone. Which form is best (one
cell at a time or several padded, compiled or not, PyTorch's fused attention or two products, threads inside or cells
side by side) was measured; the defaults are the best found, and the options are the others.

``python -m benchmarks.peers.best_torch ...``; the driver calls it.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.marks import Marks
from benchmarks.peers.side import parser
from benchmarks.peers.tokens import LEVELS, Rectangle, read, rectangles, write
from scgpt_export.checkpoint import load
from scgpt_export.reference import Layer, ScGPT

__all__ = ["Attend", "BestModel", "fused", "products"]

Run = Callable[..., Tensor]

Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""Queries, keys and values (..., tokens, heads, head width), and what says which belong together, to a mixture of the
values for each query. Here that is a mask, true where a token counts, or None; on a GPU it may be offsets of cells."""


def products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention as two products, which without AMX are faster in bf16 than PyTorch's fused kernel."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, H, L, D/H)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, Q, L)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    mixed: Tensor = scores.softmax(dim=-1) @ v
    return mixed.transpose(1, 2)


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's fused kernel, whichever is switched on."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)


class FusedLayer(nn.Module):
    """One post-norm layer around an attention function."""

    def __init__(self, layer: Layer, attend: Attend) -> None:
        super().__init__()
        self.layer = layer
        self.attend = attend
        self.n_heads = layer.self_attn.n_heads

    def forward(self, x: Tensor, where: Any, queries: Tensor | None = None) -> Tensor:
        """Hidden states (..., tokens, D) to those of the queries, some of their rows, or of all."""
        attention = self.layer.self_attn
        wanted = x if queries is None else queries
        dim = x.shape[-1]
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        if queries is None:
            q, k, v = functional.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            q = functional.linear(wanted, weight[:dim], bias[:dim])
            k, v = functional.linear(x, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_heads, dim // self.n_heads)) for part in (q, k, v))
        mixed = self.attend(q, k, v, where).flatten(-2)  # (..., queries, D)
        h = self.layer.norm1(wanted + attention.out_proj(mixed))
        out: Tensor = self.layer.norm2(h + self.layer.linear2(functional.relu(self.layer.linear1(h))))
        return out


class BestModel(nn.Module):
    """The embedding path of scGPT.

    Parameters
    ----------
    model
        The reference model.
    attend
        How tokens attend.
    tables
        Look up what depends on one token alone, instead of computing it.
    cls_only
        The last layer works for ``<cls>`` alone.
    """

    genes: Tensor
    values: Tensor
    levels: Tensor

    def __init__(self, model: ScGPT, attend: Attend, *, tables: bool = True, cls_only: bool = True) -> None:
        super().__init__()
        self.cls_only = cls_only
        self.encoders = None if tables else nn.ModuleList([model.encoder, model.value_encoder])
        levels = torch.from_numpy(LEVELS)
        if tables:
            self.register_buffer("genes", model.encoder(torch.arange(model.config.n_tokens)))  # (n_tokens, D)
            self.register_buffer("values", model.value_encoder(levels))  # (codes, D)
        else:
            self.register_buffer("levels", levels)
        layers = model.transformer_encoder.layers
        self.layers = nn.ModuleList(FusedLayer(cast(Layer, layer), attend) for layer in layers)

    def forward(self, ids: Tensor, codes: Tensor, where: Any = None, firsts: Tensor | None = None) -> Tensor:
        """Embeddings (B, D) of tokens (B, L), or of (tokens,) whose cells begin at `firsts` (B,)."""
        x = self.embedded(ids, codes)
        for layer in self.layers[:-1]:
            x = layer(x, where)
        last = self.layers[-1]
        hidden: Tensor
        if not self.cls_only:
            hidden = last(x, where)
            return hidden[:, 0] if firsts is None else hidden[firsts]
        if firsts is None:
            hidden = last(x, where, x[:, :1])
            return hidden[:, 0]
        hidden = last(x, where, x[firsts])
        return hidden

    def embedded(self, ids: Tensor, codes: Tensor) -> Tensor:
        """Sum of what genes and values become, (..., tokens, D)."""
        if self.encoders is None:
            return functional.embedding(ids, self.genes) + functional.embedding(codes, self.values)
        encoder, value_encoder = self.encoders
        added: Tensor = encoder(ids) + value_encoder(self.levels[codes.long()])
        return added


@torch.no_grad()
def build(checkpoint: Path, attend: Attend) -> BestModel:
    """The model with the checkpoint's weights, in bf16."""
    return BestModel(load(checkpoint).model(), attend).to(torch.bfloat16).eval()


def answer(run: Run, batch: Rectangle) -> Tensor:
    """Embeddings of a batch, with a mask only where something is padded."""
    ids, codes = torch.from_numpy(batch.ids), torch.from_numpy(batch.codes).int()
    if not batch.padding.any():
        return run(ids, codes)
    return run(ids, codes, torch.from_numpy(~batch.padding)[:, None, None, :])


def main(arguments: list[str]) -> None:
    """Embed a file."""
    options = parser(__doc__)
    options.add_argument("--batch-size", type=int, default=1)
    options.add_argument("--fused", action="store_true", help="scaled_dot_product_attention instead of two products")
    options.add_argument("--eager", action="store_true", help="do not compile")
    options.add_argument("--freeze", action="store_true", help="let the compiler lay out the weights")
    options.add_argument("--workers", type=int, help="batches side by side; default: one a core")
    options.add_argument("--threads", type=int, default=1, help="threads in each")
    given = options.parse_args(arguments)
    marks = Marks(given.started)
    workers = given.workers or torch.get_num_threads()
    torch.set_num_threads(given.threads)
    model = build(given.checkpoint, fused if given.fused else products)
    data, tokens = read(given.cells, given.checkpoint)
    vectors: NDArray[np.float32] = np.empty((len(tokens.lengths), model.values.shape[1]), np.float32)
    run: Run = model if given.eager else compiled(model, given.freeze)

    def one(batch: Rectangle) -> None:
        torch.set_num_threads(given.threads)  # a setting of each thread
        with torch.no_grad():
            vectors[batch.cells] = answer(run, batch).float().numpy()
        marks.answered(len(batch.cells))

    batches = list(rectangles(tokens, given.batch_size, by_length=True))
    one(batches[0])  # compiles
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, batches[1:]))
    write(data, vectors, given.output)
    marks.write(given.report)


def compiled(model: BestModel, freeze: bool) -> Run:
    """The model compiled once for all lengths."""
    import torch._inductor.config as inductor

    inductor.freezing = freeze
    run: Run = torch.compile(model, dynamic=True)
    return run


if __name__ == "__main__":
    main(sys.argv[1:])
