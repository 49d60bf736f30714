"""What graphs ask for and what they answer, as their records tell it: whether an engine can run them on cells.

Records come in; nothing is opened.
"""

from scgpt_runtime.errors import BundleError, InternalError
from scgpt_runtime.folds import Fold
from scgpt_runtime.manifest import GraphRecord

__all__ = ["check_answers", "check_feed", "shapes_of_rows", "tells_ends", "tells_tokens"]

_FED = ("ids", "values", "lengths", "offsets", "places", "firsts", "flags")
_ENDS = ("lengths", "offsets")


def check_feed(graph: GraphRecord, *, labelled: bool = False) -> None:
    """Make sure that a graph asks for tokens and nothing else.

    Parameters
    ----------
    graph
        What is to be run.
    labelled
        Whether each cell has a batch label to give.

    Raises
    ------
    BundleError
        It asks for more.
    """
    unfed = [spec.name for spec in graph.inputs if spec.name not in _FED and not (labelled and spec.name == "batch")]
    if "batch" in unfed:
        raise BundleError(
            f"The model of this bundle normalises by batch: its {graph.task} graph asks for a batch label of each "
            "cell. Take scgpt-infer integrate with --batch COLUMN (scgpt_infer.integrate)."
        )
    if unfed:
        raise BundleError(
            f"The {graph.task} graph asks for {', '.join(unfed)}; a graph that runs on cells takes {', '.join(_FED)}."
        )


def tells_ends(graph: GraphRecord) -> bool:
    """Whether a graph is told where a cell ends, so that cells of unlike length may go together."""
    return any(spec.name in _ENDS for spec in graph.inputs)


def tells_tokens(graph: GraphRecord) -> bool:
    """Whether a graph answers each token, rather than each cell."""
    return any("tokens" in spec.shape[1:] for spec in graph.outputs)


def shapes_of_rows(graph: GraphRecord) -> dict[str, tuple[int, ...]]:
    """Output name to the shape of the answer for one cell, or one token."""
    return {spec.name: tuple(size for size in spec.shape[1:] if isinstance(size, int)) for spec in graph.outputs}


def check_answers(graph: GraphRecord, fold: Fold | None) -> None:
    """Make sure that there is a row for each cell, or for each token, to be made of what a graph answers."""
    for spec in graph.outputs:
        free = [axis for axis in spec.shape[1:] if isinstance(axis, str)]
        if fold is None and free not in ([], ["tokens"]):
            raise BundleError(f"The {graph.task} graph answers ({spec.name}) neither each cell nor each token.")
    if fold is not None and not tells_tokens(graph):
        raise InternalError(f"The {graph.task} graph answers each cell, so there is nothing to fold.")
