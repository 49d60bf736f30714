"""Which commands a bundle can answer, by the graphs that it holds, and the error for those that it cannot.

In: a manifest. It opens nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scgpt_runtime.errors import BundleError
from scgpt_runtime.manifest import Manifest

__all__ = ["abilities", "require"]


@dataclass(frozen=True, slots=True)
class _Need:
    """What a command needs of a bundle: how to tell whether it is there, and its name in words."""

    there: Callable[[Manifest], bool]
    words: str


def _has(*tasks: str) -> Callable[[Manifest], bool]:
    return lambda manifest: set(tasks) <= {graph.task for graph in manifest.graphs}


def _needs_batch(manifest: Manifest) -> bool:
    return any(spec.name == "batch" for graph in manifest.graphs if graph.task == "embed" for spec in graph.inputs)


def _embeds(manifest: Manifest) -> bool:
    return _has("embed")(manifest) and not _needs_batch(manifest)


def _imputes(manifest: Manifest) -> bool:
    return _has("tokens", "expression")(manifest) or _has("embed", "mvc")(manifest)


_NEEDS = {
    "embed": _Need(_embeds, "a graph that makes vectors of cells without batch labels"),
    "annotate": _Need(_embeds, "a graph that makes vectors of cells without batch labels"),
    "integrate": _Need(_has("embed"), "a graph that makes vectors of cells"),
    "multiomic": _Need(lambda manifest: bool(manifest.modalities), "modalities, such as RNA and proteins"),
    "perturb": _Need(_has("perturb"), "a perturbation generator (scGPT's TransformerGenerator)"),
    "impute": _Need(_imputes, "a head that predicts expression (expression, mvc)"),
    "grn": _Need(
        lambda manifest: _has("genes")(manifest) or _has("attention")(manifest),
        "embeddings of genes or a graph of attention scores",
    ),
    "genes": _Need(
        lambda manifest: _has("genes")(manifest) or _has("tokens")(manifest), "embeddings of genes or hidden states"
    ),
}


def abilities(manifest: Manifest) -> tuple[str, ...]:
    """Commands that a bundle can answer, in the order of the help."""
    return tuple(command for command, need in _NEEDS.items() if need.there(manifest))


def require(manifest: Manifest, command: str) -> None:
    """Make sure that a bundle can answer a command.

    Parameters
    ----------
    manifest
        Of the bundle.
    command
        Name of a command, such as ``perturb``.

    Raises
    ------
    BundleError
        It cannot. The message tells what it lacks and which commands it can answer.
    """
    if command in abilities(manifest):
        return
    if command in ("embed", "annotate") and _needs_batch(manifest):
        raise BundleError(
            f"The model {manifest.name} normalises by batch, so it needs the batch label of each cell, which {command} "
            "does not take. Take scgpt-infer integrate with --batch COLUMN (scgpt_infer.integrate)."
        )
    able = ", ".join(abilities(manifest)) or "none of these commands"
    raise BundleError(
        f"{command} needs {_NEEDS[command].words}; the model {manifest.name} has none. It can {able}. "
        "Take another model, or export a checkpoint that was trained for this."
    )
