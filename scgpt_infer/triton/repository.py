"""A bundle becomes the folders of a model repository: `write_repository`.

In: an opened bundle, options. Out: ``NAME/`` (vectors), ``NAME_classify/`` and ``NAME_types/`` (both, as an ensemble),
or the tasks that were asked for. Nothing partial appears: Triton may watch the repository. Layout:
https://github.com/triton-inference-server/server (docs/user_guide/model_repository.md).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from scgpt_infer.triton.config import LABELS, Message, ensemble, of_graph
from scgpt_infer.triton.options import TritonOptions, check_name
from scgpt_infer.triton.pbtxt import text
from scgpt_infer.triton.proving import prove
from scgpt_infer.triton.readme import readme
from scgpt_infer.triton.warmup import warmup
from scgpt_infer.triton.weights import copy_graph
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.batching import LENGTH_STEP
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import OutputError
from scgpt_runtime.manifest import GraphRecord
from scgpt_runtime.records import TensorSpec

__all__ = ["Written", "write_repository"]

_USUAL = ("embed", "classify")
_AS_IT_IS = TritonOptions()
_OF_TOKENS = ("manifest.json", "vocab.json", "modalities.json")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes
    ----------
    models
        Folders, by the name of the model in them.
    vector_id
        Of the vectors.
    worst
        1 - cosine of the worst golden cell by the graph as it was written; None where it was not measured.
    size
        Bytes in all.
    """

    models: dict[str, Path]
    vector_id: str
    worst: float | None
    size: int


@dataclass(frozen=True, slots=True)
class _Model:
    """A model of one graph that is being written."""

    name: str
    graph: GraphRecord
    inputs: tuple[TensorSpec, ...]
    config: Message


def write_repository(
    bundle: Bundle,
    repository: Path,
    options: TritonOptions = _AS_IT_IS,
    say: Callable[[str], None] = lambda line: None,
) -> Written:
    """Write models of a bundle into a model repository.

    Parameters
    ----------
    bundle
        An opened bundle.
    repository
        The folder, made where it is not there. Models of other names in it stay as they are.
    options
        Names, precision, how the server shall run them.
    say
        Told of each step.

    Raises
    ------
    OptionError
        The bundle's name is no name for a model there.
    BundleError, ProviderError
        The bundle has no such graph, or not in this precision.
    OutputError
        A model of this name is there, or the folder cannot be written.
    """
    name = check_name(options.name or bundle.manifest.name)
    graphs = _graphs(bundle, options)
    parts = {task: name if task == "embed" else f"{name}_{task}" for task in graphs}
    joined = f"{name}_types" if {*_USUAL} <= {*parts} else ""
    _check(repository, [*parts.values(), *([joined] if joined else [])])
    with output_errors(repository), _stage(repository) as stage:
        models = [_write(bundle, graph, stage / parts[task], options) for task, graph in graphs.items()]
        if joined:
            _write_ensemble(stage / joined, models, bundle)
        worst = _finish(bundle, stage / next(iter(parts.values())), models, joined, options, say)
        made = {found.name: repository / found.name for found in sorted(stage.iterdir())}
        size = sum(found.stat().st_size for found in stage.rglob("*") if found.is_file())
        for model, final in made.items():
            (stage / model).rename(final)
    return Written(made, bundle.manifest.vector_ids[options.precision], worst, size)


@contextmanager
def _stage(repository: Path) -> Iterator[Path]:
    """A folder beside the repository: a server that watches that would take half a model in it for a whole one."""
    repository.mkdir(parents=True, exist_ok=True)
    if repository.is_mount():
        raise OutputError(
            f"{repository} is a mount of its own; expected a folder in one, such as {repository / 'models'}."
        )
    stage = Path(tempfile.mkdtemp(prefix=".triton.", dir=repository.resolve().parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _graphs(bundle: Bundle, options: TritonOptions) -> dict[str, GraphRecord]:
    there = {graph.task for graph in bundle.manifest.graphs}
    wanted = options.tasks or [task for task in _USUAL if task in there] or ("embed",)
    return {task: bundle.graph(task, options.precision) for task in wanted}


def _check(repository: Path, names: list[str]) -> None:
    if repository.exists() and not repository.is_dir():
        raise OutputError(f"{repository} is a file; expected a folder for models.")
    for name in names:
        if (repository / name).exists():
            raise OutputError(
                f"{repository / name} is there already. Give another --name, or remove it first; other models in "
                f"{repository} stay as they are."
            )


def _facts(bundle: Bundle, graph: GraphRecord, precision: str) -> dict[str, str]:
    manifest = bundle.manifest
    facts = {"vector_id": manifest.vector_ids[precision], "precision": precision, "weights": manifest.weights}
    return {**facts, "opset": str(graph.opset), **({"labels": LABELS} if graph.task == "classify" else {})}


def _write(bundle: Bundle, graph: GraphRecord, folder: Path, options: TritonOptions) -> _Model:
    """One model: its graph and weights, settings, and what it is warmed up with."""
    home = folder / "1" / "model.onnx"
    home.mkdir(parents=True)
    inputs = copy_graph(bundle.path, graph, home, int32=options.tensorrt)
    samples = warmup(bundle.golden(), inputs, folder, options)
    longest = -(-bundle.manifest.tokenizer.max_length // LENGTH_STEP["tensorrt"]) * LENGTH_STEP["tensorrt"]
    facts = _facts(bundle, graph, options.precision)
    config = of_graph(folder.name, inputs, graph.outputs, options, facts, longest, samples)
    (folder / "config.pbtxt").write_text(text(config), encoding="utf-8")
    if graph.task == "classify":
        _write_labels(folder, bundle)
    return _Model(folder.name, graph, inputs, config)


def _write_labels(folder: Path, bundle: Bundle) -> None:
    lines = [" ".join(label.split()) for label in bundle.manifest.labels]
    (folder / LABELS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_ensemble(folder: Path, models: list[_Model], bundle: Bundle) -> None:
    """Tokens in, vectors and types out."""
    by_task = {model.graph.task: model for model in models}
    first, second = (by_task[task] for task in _USUAL)
    facts = {key: told for key, told in _facts(bundle, second.graph, second.graph.precision).items() if key != "opset"}
    # Triton wants a folder of a version, and stores of objects keep no empty ones.
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "ensemble").write_text("config.pbtxt tells all.\n", encoding="utf-8")
    _write_labels(folder, bundle)
    (folder / "config.pbtxt").write_text(
        text(ensemble(folder.name, first.config, second.config, facts)), encoding="utf-8"
    )


def _finish(
    bundle: Bundle, folder: Path, models: list[_Model], joined: str, options: TritonOptions, say: Callable[[str], None]
) -> float | None:
    """What people need beside the first model; the graph that makes vectors is proven before that."""
    worst = None
    for model in models:
        if model.graph.task == "embed":
            say("the graph as written is run on the bundle's golden cells")
            worst = prove(bundle, options.precision, folder.parent / model.name / "1" / "model.onnx")
    (folder / "tokens").mkdir()
    for rules in _OF_TOKENS:
        if (bundle.path / rules).is_file():
            shutil.copyfile(bundle.path / rules, folder / "tokens" / rules)
    client = files("scgpt_infer.triton").joinpath("client.py").read_text(encoding="utf-8")
    (folder / "client.py").write_text(client, encoding="utf-8")
    told = {model.name: (model.inputs, model.graph.outputs) for model in models}
    if joined:
        by_task = {model.graph.task: model for model in models}
        first, second = (by_task[task] for task in _USUAL)
        told[joined] = (first.inputs, (*first.graph.outputs, *second.graph.outputs))
    facts = _facts(bundle, models[0].graph, options.precision)
    page = readme(bundle.manifest, folder.name, told, replace(options, name=folder.name), facts, worst)
    (folder / "README.md").write_text(page, encoding="utf-8")
    return worst
