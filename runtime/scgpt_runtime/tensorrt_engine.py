"""A graph and a bucket of lengths -> an open engine of TensorRT: taken from the cache, or compiled and put there.

In: a `Recipe`, a GPU, a bucket. Out: an ONNX Runtime session whose graph TensorRT runs. It knows nothing of batches.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgpt_runtime.engine_cache import EnginePlace, place
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.failures import Failure, device_lost, meaning
from scgpt_runtime.gpus import gpus
from scgpt_runtime.providers import ONNXRUNTIME_NAMES, onnxruntime
from scgpt_runtime.records import TensorSpec
from scgpt_runtime.session import plain_options
from scgpt_runtime.tensorrt import Bucket, machine_facts, provider_options

__all__ = ["NAME", "Recipe", "open_engine"]

NAME = ONNXRUNTIME_NAMES["tensorrt"]

_CUDA = ONNXRUNTIME_NAMES["cuda"]
_MEANINGS = {
    "deserialize engine": "The engine that was kept cannot be read.",
    "associated shape profiles": "TensorRT takes a part of the graph only, for which there are no ranges of shapes.",
    "not supported": "TensorRT does not take a type or an operator of this graph.",
    "could not build engine": "TensorRT cannot run the graph, or the GPU's memory ran out while it tried.",
    "could not build execution context": "The GPU's memory does not hold the engine.",
    "libnvinfer": "TensorRT 10 is not there.",
}
"""Words of ONNX Runtime's TensorRT provider, as its library holds them, to what they mean."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What engines of one graph are compiled from.

    Attributes
    ----------
    model
        The graph.
    path
        The file that it came from: its weights lie beside it.
    precision
        ``fp32`` or ``fp16``.
    inputs
        Inputs of `model`.
    bundle
        Digest of the whole bundle.
    tensorrt
        TensorRT's version.
    home
        Private folder of all engines; None: nothing is kept.
    say
        Told when an engine is being compiled, and when it is done.
    """

    model: bytes
    path: Path
    precision: str
    inputs: tuple[TensorSpec, ...]
    bundle: str
    tensorrt: str
    home: Path | None
    say: Callable[[str], None]


def open_engine(recipe: Recipe, device: int, bucket: Bucket) -> Any:
    """Open the engine of a bucket on a GPU, compiling it if it is not there.

    Raises
    ------
    ProviderError
        TensorRT cannot run the graph here.
    """
    kept, why_not = _place(recipe, device, bucket)
    if kept is None:
        return _compiled(recipe, device, bucket, None, f"It is not kept, and compiled at each start: {why_not}.")
    found = _loaded(recipe, device, bucket, kept)
    if found is not None:
        return found

    def waiting() -> None:
        recipe.say("Another process compiles a TensorRT engine for this kind of GPU; waiting for it.")

    with kept.locked(waiting):
        found = _loaded(recipe, device, bucket, kept)  # by whoever held the lock
        return found or _compiled(recipe, device, bucket, kept, f"It is kept for later runs in {kept.engine}.")


def _place(recipe: Recipe, device: int, bucket: Bucket) -> tuple[EnginePlace | None, str]:
    """Where the engine belongs, or why it is kept nowhere."""
    if recipe.home is None:
        return None, "there is no cache folder"
    found = {gpu.index: gpu for gpu in gpus()}
    if device not in found:
        raise ProviderError(f"There is no GPU {device} here; the driver lists {sorted(found) or 'none'}.")
    graph = {
        "bundle": recipe.bundle,
        "graph": recipe.path.name,
        "precision": recipe.precision,
        "options": provider_options(0, recipe.precision, recipe.inputs, bucket, None),  # without device and folders
    }
    try:
        return place(recipe.home, graph, machine_facts(found[device], onnxruntime().__version__, recipe.tensorrt)), ""
    except OSError as error:
        return None, str(error)


def _loaded(recipe: Recipe, device: int, bucket: Bucket, kept: EnginePlace) -> Any | None:
    """The engine from the cache; None where there is none that is whole."""
    if not kept.sealed():
        return None
    try:
        return _session(recipe, device, bucket, kept)
    except ProviderError as error:
        if "deserialize" not in str(error):
            raise
        recipe.say(f"A TensorRT engine from the cache cannot be used and is compiled anew: {error}")
    kept.clear()
    return None


def _compiled(recipe: Recipe, device: int, bucket: Bucket, kept: EnginePlace | None, then: str) -> Any:
    """Compile the engine, say so, and seal it."""
    which = f"TensorRT engine for cells of {bucket.shortest} to {bucket.longest} tokens on device {device}"
    recipe.say(f"The {which} is compiled now. By ONNX Runtime's documentation this can take minutes. {then}")
    start = time.monotonic()
    if kept is not None:
        kept.clear()  # what was never sealed may be half of an engine
    try:
        session = _session(recipe, device, bucket, kept)
    except ProviderError as error:
        if kept is None or "timing cache" not in str(error):
            raise
        kept.forget_timings()
        session = _session(recipe, device, bucket, kept)
    recipe.say(f"The {which} is ready after {time.monotonic() - start:.0f} s.")
    if kept is not None and not kept.seal():
        recipe.say(f"It could not be kept in {kept.engine}, and is compiled again at the next start.")
    return session


def _session(recipe: Recipe, device: int, bucket: Bucket, kept: EnginePlace | None) -> Any:
    """Open the graph with TensorRT: ONNX Runtime compiles it here, or reads the engine that it finds."""
    runtime = onnxruntime()
    told = provider_options(device, recipe.precision, recipe.inputs, bucket, kept)
    providers = [(NAME, told), (_CUDA, {"device_id": str(device), "use_tf32": "0"})]
    try:
        session = runtime.InferenceSession(
            recipe.model, sess_options=_options(recipe.path), providers=providers, enable_fallback=0
        )
    except Exception as error:  # its exceptions share no base class of their own
        said = " ".join(str(error).split())
        if meaning(said) is Failure.LOST:
            raise device_lost(f"GPU {device}", said) from error
        raise ProviderError(
            f"ONNX Runtime {runtime.__version__} with TensorRT {recipe.tensorrt} cannot open {recipe.path}: {said}. "
            f"{_explained(said)}Take --provider cuda."
        ) from error
    _check_taken(session, recipe)
    return session


def _options(path: Path) -> Any:
    options = plain_options(threads=1)
    # The graph comes from memory, since its inputs were changed; its weights are still the bundle's file.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _check_taken(session: Any, recipe: Recipe) -> None:
    """TensorRT runs the graph, and says so: ONNX Runtime gives what TensorRT leaves to others without a word."""
    running = session.get_providers()
    taken = Counter(part.ep_name for part in session.get_provider_graph_assignment_info())
    if NAME not in running or (taken and NAME not in taken):
        raise ProviderError(
            f"Provider tensorrt was chosen, but ONNX Runtime runs {recipe.path} with "
            f"{', '.join(taken or running)}. Take --provider cuda."
        )
    if sum(taken.values()) > 1:
        parts = ", ".join(f"{name} {count}" for name, count in taken.items())
        recipe.say(f"TensorRT does not run the whole graph ({parts} parts): --provider cuda may be faster.")


def _explained(said: str) -> str:
    return next((f"{means} " for words, means in _MEANINGS.items() if words in said), "")
