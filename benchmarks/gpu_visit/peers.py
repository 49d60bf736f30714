"""Stage ``peers``: PyTorch without a compiler and scgpt-infer on the same cells, in turn.

found: contenders [{name, ours, facts, one_minus_cosine, budgets, ready_seconds} or {..., error}], lost [those that cost
the process its device, so that it started anew without them], rates [{workload, cells, mean_length, name, ours, rates,
spread}], ratios [{workload, ours, peer, ratios, spread}]: our best over a peer.

Workloads: cells with pbmc3k's lengths, and cells of 1,200 tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from benchmarks.gpu_visit.bundle import bundle_of, checkpoint_of
from benchmarks.gpu_visit.contest import Contender, Contest
from benchmarks.gpu_visit.lengths import one_length, real_lengths
from benchmarks.gpu_visit.ours import LANES, Way, opened, packed_for, vectors_of, ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.gpu_visit.torch_peers import KERNELS, PACKED, Peer, contender
from scgpt_export.checkpoint import load
from scgpt_export.reference import ScGPT
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.manifest import CUDA_DIALECTS

__all__ = ["BUDGETS", "ROUNDS", "contest_of", "enter_ours", "model_of", "packings", "run"]

BUDGETS = (16384, 65536, 131072)
"""Tokens in a batch to choose from, for every contender."""

ROUNDS = 5
CELLS = 2048
FULL_CELLS = 768
FULL = 1200


def run(ask: Ask, part: Part) -> None:
    """Judge, find budgets, then time all in turn."""
    kernels, rows = ask.pick(list(KERNELS), ["chosen"]), packings(ask)
    peers = [Peer("random", "chosen", rewrites=False), Peer("random", "chosen")]
    peers += [Peer("sorted", "chosen", rewrites=False), *(Peer("sorted", name) for name in kernels)]
    peers += [Peer("packed", rows[0], rewrites=False), *(Peer("packed", name) for name in rows)]
    bundle = Bundle.open(bundle_of(ask))
    contest = contest_of(ask, part, bundle)
    with ExitStack() as stack:
        enter_ours(contest, stack, bundle, ways(bundle, ask))
        model = model_of(ask)
        for peer in peers:
            contest.enter(contender(model, bundle.manifest.tokenizer, peer, ask.device, ask.pick(BUDGETS, (4096,))))
        contest.rounds(ask.pick(ROUNDS, 2))


def packings(ask: Ask) -> list[str]:
    """Ways in which PyTorch attends over packed cells here."""
    return [name for name in PACKED if (name == "by cell") == ask.rehearsal]


def contest_of(ask: Ask, part: Part, bundle: Bundle) -> Contest:
    """A contest over both workloads."""
    torch.backends.cuda.matmul.allow_tf32 = False
    settings, n_tokens = bundle.manifest.tokenizer, len(bundle.vocabulary())
    real = real_lengths(ask.pick(CELLS, 16), n_tokens, settings, ask.seed)
    full = one_length(ask.pick(FULL_CELLS, 4), FULL, n_tokens, settings, ask.seed)
    return Contest(ask, part, bundle, {"pbmc3k's lengths": real, f"{FULL:,} tokens": full})


def model_of(ask: Ask) -> ScGPT:
    """The reference model with the weights that the bundle was made from."""
    return load(checkpoint_of(ask)).model()


def enter_ours(contest: Contest, stack: ExitStack, bundle: Bundle, candidates: Sequence[Way]) -> None:
    """Our fp16 graphs for CUDA (in a rehearsal: fp32's); one that does not open is a row with its error."""
    ask = contest.ask
    # Cells of equal length are too few for exact batches, and the portable graph is not made for a GPU.
    dialects = ask.pick([name for name in CUDA_DIALECTS if name != "cuda-exact"], ["portable"])
    for way in candidates:
        if way.dialect not in dialects or way.precision != ask.pick("fp16", "fp32"):
            continue
        try:
            runner = stack.enter_context(opened(bundle, way))
        except Exception as error:  # one way that cannot run must not cost the others
            row = {"name": f"scgpt-infer {way.name}", "ours": True, "error": f"{type(error).__name__}: {error}"}
            contest.part.add("contenders", row)
        else:
            contest.enter(_ours(bundle, way, runner, ask.pick(BUDGETS, (4096,))))


def _ours(bundle: Bundle, way: Way, runner: GraphRunner, budgets: tuple[int, ...]) -> Contender:
    def pack(tokens: TokenBlock, budget: int) -> tuple[list[object], int]:
        return [*packed_for(bundle, way, tokens, budget)], tokens.n_cells

    return Contender(
        f"scgpt-infer {way.name}",
        f"scgpt-infer {way.name}",
        True,
        pack,
        lambda packed: vectors_of(runner, *packed),
        budgets,
        way.fields | {"lanes": LANES, "runs": runner.provider},
    )
