"""Opens a model for a seat and proves it with a real inference: `open_model`, `Opened`.

In: a `Spec`. Out: the bundle, what runs it, and what knows labels. It knows neither queue nor sockets.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from scgpt_infer import models
from scgpt_infer.abilities import abilities
from scgpt_infer.annotating import AnnotateOptions, Labels, open_labels
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.seat.spec import Spec
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import BundleError, ProviderError
from scgpt_runtime.kept import Kept
from scgpt_runtime.proof import LIMITS, worst_of
from scgpt_runtime.verify import verify

__all__ = ["Opened", "open_model"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that has answered its own golden cells.

    Attributes
    ----------
    bundle
        Its graphs stay open between calls.
    engine
        What makes vectors of cells; None, where the bundle makes none without batches.
    labels
        What knows types; None where nothing does.
    options
        How it is run.
    tokens, seconds
        Tokens of the golden cells, and how long each instance was at work on them. What was compiled first, which takes
        seconds, is not in it.
    """

    bundle: Bundle
    engine: Engine | None
    labels: Labels | None
    options: EmbedOptions
    tokens: int
    seconds: float

    @property
    def files(self) -> list[Path]:
        """All that it runs from."""
        return [self.bundle.path / record.path for record in self.bundle.manifest.files]


@contextmanager
def open_model(spec: Spec) -> Iterator[Opened]:
    """Open a model, and have it answer its golden cells.

    Raises
    ------
    ScgptInferError
        It cannot be opened, is not the one that is expected, or answers wrongly on this machine.
    """
    with ExitStack() as stack:
        bundle = models.resolve(spec.path, precision=spec.options.precision, say=_log.info)
        if spec.expect is not None:
            bundle.check_digest(spec.expect)
        bundle = bundle.keeping(stack.enter_context(Kept()))
        able = abilities(bundle.manifest)
        how = AnnotateOptions(reference=None if spec.reference is None else Path(spec.reference))
        options = how.fitting(spec.options)
        if "embed" not in able:
            _prove_whole(bundle, options)
            yield Opened(bundle, None, None, options, 0, 0.0)
            return
        asked = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
        cache = models.lasting_cache(None)
        engine = stack.enter_context(Engine.open(bundle, asked, cache_dir=cache, say=_log.info))
        labels = _labels(bundle, how, cache)
        if labels is not None:
            labels.check(engine.vector_id)
            stack.enter_context(labels)
        tokens, seconds = _proven(bundle, engine)
        yield Opened(bundle, engine, labels, options, tokens, seconds)


def _labels(bundle: Bundle, how: AnnotateOptions, cache: Path | None) -> Labels | None:
    """What knows types; a model without a classifier has none, unless a reference was named."""
    try:
        return open_labels(bundle, how, cache)
    except BundleError:
        if how.reference is not None:
            raise
        return None


def _proven(bundle: Bundle, engine: Engine) -> tuple[int, float]:
    """Tokens and seconds of the golden cells, when their vectors are those of the reference."""
    golden = bundle.golden()
    columns = np.arange(len(engine.vocabulary), dtype=np.int64)
    (result,) = engine.run([golden.block()], columns)
    (vectors,) = result.outputs.values()
    worst, limit = worst_of(golden, vectors), LIMITS[engine.choice.precision]
    # With settings other than those it was sealed with, golden cells are other cells: an answer is all that is proven.
    sealed = engine.settings == bundle.manifest.tokenizer
    if not (worst <= limit if sealed else np.isfinite(vectors).all()):
        raise ProviderError(
            f"{engine.provider} answers wrongly on this machine: 1 - cosine of the worst golden cell of "
            f"{bundle.manifest.name} is {worst:.2g}, at most {limit:.2g} is allowed. "
            "Take another provider (--provider) or precision (--precision)."
        )
    return int(result.lengths.sum()), engine.timings["infer"]


def _prove_whole(bundle: Bundle, options: EmbedOptions) -> None:
    """Have a bundle without cell vectors prove itself by what it has."""
    precision = None if options.precision == "auto" else options.precision
    found = verify(bundle, options.provider, precision, models.lasting_cache(None), options.device)
    if not any(one.passed for one in found):
        told = "; ".join(one.error or f"{one.provider}: {one.worst:.2g}, at most {one.limit:.2g}" for one in found)
        raise ProviderError(f"{bundle.manifest.name} does not answer as it was sealed on this machine: {told}")
