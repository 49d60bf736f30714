"""Stage ``compiled``: PyTorch as its compiler makes it and scgpt-infer on the same cells, in turn.

found: as in `benchmarks.gpu_visit.peers`; ``ready_seconds`` is mostly compilation. Each compiled peer is timed with our
ways as soon as it is ready, so one whose compilation takes all the time that is left costs the others nothing. Shapes
are fixed: packed batches have one, padded ones those of a few lengths.
"""

from contextlib import ExitStack

from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.ours import ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.gpu_visit.peers import ROUNDS, contest_of, enter_ours, model_of, packings
from benchmarks.gpu_visit.torch_peers import Peer, contender
from scgpt_runtime.bundle import Bundle

__all__ = ["BUCKETS", "run"]

BUDGET = 65536
"""Tokens in a batch; a compiler would need as long again for another."""

BUCKETS = (640, 832, 1024, 1200)
"""Lengths of padded batches: about the quartiles of pbmc3k's cells, and the longest."""


def run(ask: Ask, part: Part) -> None:
    """Compile one peer after the other, and time each with ours."""
    bundle = Bundle.open(bundle_of(ask))
    contest = contest_of(ask, part, bundle)
    kernel = packings(ask)[0]
    peers = [
        Peer("packed", kernel, compiled="reduce-overhead"),
        Peer("packed", kernel, compiled="max-autotune"),
        Peer("sorted", "chosen", compiled="reduce-overhead"),
        Peer("sorted", "chosen", compiled="max-autotune"),
    ]
    budget = (ask.pick(BUDGET, 4096),)
    with ExitStack() as stack:
        enter_ours(contest, stack, bundle, ways(bundle, ask))
        model = model_of(ask)
        for peer in peers:
            if ask.left < ask.pick(30, 5):
                part.add("contenders", {"name": peer.name, "ours": False, "error": "no time was left to compile it"})
                continue
            fixed = BUCKETS if peer.form == "sorted" else ()
            if contest.enter(contender(model, bundle.manifest.tokenizer, peer, ask.device, budget, fixed)):
                contest.rounds(ask.pick(ROUNDS, 2), [*contest.ours, peer.name])
