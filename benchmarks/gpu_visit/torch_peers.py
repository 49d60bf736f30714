"""PyTorch on a GPU in fp16, at its best: padded or packed, each attention kernel that it has, compiled or not.

In: a checkpoint, a form and a way to attend. Out: a `Contender`. The weights are those of our bundle, and our exact
rewrites (tables, a last layer for ``<cls>`` alone) are an option.
"""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch._dynamo
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_visit.contest import Contender
from benchmarks.gpu_visit.torch_batches import HostBatch, padded, rows_packed
from benchmarks.peers.best_torch import Attend, BestModel, fused
from scgpt_export.reference import ScGPT
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.manifest import TokenizerSettings

__all__ = ["KERNELS", "PACKED", "Peer", "Rows", "contender"]

KERNELS = {
    "chosen": None,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""Kernels of `scaled_dot_product_attention`; ``chosen`` leaves it to PyTorch, which may take flash attention where
there is no mask. With a mask, flash attention cannot be had."""


class Rows(NamedTuple):
    """Which rows of a packed batch belong together: offsets (rows + 1,) int32, one query a row (rows + 1,), longest."""

    offsets: Tensor
    ones: Tensor
    longest: int


def varlen(q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
    """PyTorch's attention of packed cells: flash attention with offsets."""
    from torch.nn.attention.varlen import varlen_attn

    alone = q.shape[0] != k.shape[0]
    offsets, longest = (rows.ones, 1) if alone else (rows.offsets, rows.longest)
    return cast(Tensor, varlen_attn(q, k, v, offsets, rows.offsets, longest, rows.longest))


def varlen_cudnn(q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
    """The same by cuDNN, for which PyTorch has no public function yet."""
    alone = q.shape[0] != k.shape[0]
    offsets, longest = (rows.ones, 1) if alone else (rows.offsets, rows.longest)
    lengths = (offsets, rows.offsets, longest, rows.longest)
    mixed: Tensor = torch.ops.aten._cudnn_attention_forward(q, k, v, None, *lengths, False, 0.0, False, False)[0]
    return mixed


def by_cell(q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
    """The same cell by cell: for rehearsals, since a processor has no kernel for it."""
    offsets, alone = rows.offsets.tolist(), q.shape[0] != k.shape[0]
    mixed = torch.zeros_like(q)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        if stop > start:
            mine, all_of_it = slice(row, row + 1) if alone else slice(start, stop), slice(start, stop)
            mixed[mine] = fused(q[None, mine], k[None, all_of_it], v[None, all_of_it], None)[0]
    return mixed


PACKED = {"varlen": varlen, "varlen cudnn": varlen_cudnn, "by cell": by_cell}


@dataclass(frozen=True, slots=True)
class Peer:
    """A form of PyTorch.

    Attributes
    ----------
    form
        ``random``: padded, cells as they come; ``sorted``: padded, like lengths together; ``packed``.
    kernel
        A key of `KERNELS`, or of `PACKED` for packed batches.
    rewrites
        Whether it has our tables and works for ``<cls>`` alone in the last layer.
    compiled
        Mode of torch.compile; empty: eager.
    """

    form: str
    kernel: str
    rewrites: bool = True
    compiled: str = ""

    @property
    def name(self) -> str:
        """For rows."""
        return ", ".join(
            filter(None, [f"PyTorch {self.form}", self.kernel, "" if self.rewrites else "plain", self.compiled])
        )


def contender(
    model: ScGPT,
    settings: TokenizerSettings,
    peer: Peer,
    device: str,
    budgets: tuple[int, ...],
    buckets: tuple[int, ...] = (),
) -> Contender:
    """A peer as a contender; its model is built and moved here, and compiled on its first batches."""
    attend: Attend = PACKED[peer.kernel] if peer.form == "packed" else fused
    with torch.no_grad():
        # A copy: moving and rounding a module changes it where it is.
        built = BestModel(deepcopy(model), attend, tables=peer.rewrites, cls_only=peer.rewrites)
    run: Callable[..., Tensor] = built.to(torch.float16 if device == "cuda" else torch.float32).to(device).eval()
    if peer.compiled:
        run = _compiled(run, peer.compiled, device)
    pin = device == "cuda"
    backend = None if peer.form == "packed" else KERNELS[peer.kernel]

    def pack(tokens: TokenBlock, budget: int) -> list[HostBatch]:
        if peer.form == "packed":
            return rows_packed(tokens, settings, budget, fixed=bool(peer.compiled), pin=pin)
        return padded(tokens, settings, budget, by_length=peer.form == "sorted", buckets=buckets, pin=pin)

    def answer(batches: list[HostBatch]) -> NDArray[np.float32]:
        with torch.inference_mode(), nullcontext() if backend is None else sdpa_kernel(backend):
            found = [_answer(run, batch, device, bool(peer.compiled)) for batch in batches]
            vectors = torch.cat(found).cpu().numpy()
        rows: NDArray[np.float32] = np.empty_like(vectors)
        rows[np.concatenate([batch.cells for batch in batches])] = vectors
        return rows

    facts: dict[str, Any] = {"form": peer.form, "attention": peer.kernel, "rewrites": peer.rewrites}
    facts |= {"compiled": peer.compiled, "buckets": buckets, "torch": torch.__version__}
    return Contender(peer.name, peer.name, False, pack, answer, budgets, facts)


def _compiled(run: Callable[..., Tensor], mode: str, device: str) -> Callable[..., Tensor]:
    """Compiled for each shape that comes. In a rehearsal only captured: compiling for a processor says nothing."""
    torch._dynamo.config.recompile_limit = 64
    made: Callable[..., Tensor] = (
        torch.compile(run, mode=mode, dynamic=False)
        if device == "cuda"
        else torch.compile(run, backend="eager", dynamic=False)
    )
    return made


def _answer(run: Callable[..., Tensor], batch: HostBatch, device: str, compiled: bool) -> Tensor:
    """Vectors of a batch's cells, float32, on the device."""
    ids, codes = batch.ids.to(device, non_blocking=True), batch.codes.to(device, non_blocking=True).int()
    if compiled and device == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch has no types here
    if batch.offsets is not None and batch.firsts is not None:
        offsets = batch.offsets.to(device, non_blocking=True)
        ones = torch.arange(len(offsets), dtype=torch.int32, device=device)
        rows = Rows(offsets, ones, batch.longest)
        found = run(ids, codes, rows, batch.firsts.to(device, non_blocking=True))
    elif batch.lengths is not None:
        lengths = batch.lengths.to(device, non_blocking=True)
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        found = run(ids, codes, mask[:, None, None, :])
    else:
        found = run(ids, codes)
    return found[: len(batch.cells)].float()
