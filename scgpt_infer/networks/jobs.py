"""The jobs behind ``scgpt-infer grn``: a network in memory, or as files.

In: a model, options, perhaps cells. Out: `GeneNetwork`, or files and a `NetworkSummary`. The options say which way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.model import Say
from scgpt_infer.models import AnyModel
from scgpt_infer.networks.asked import EmbeddingNetworkOptions
from scgpt_infer.networks.attention import from_attention
from scgpt_infer.networks.attention_asked import AttentionOptions
from scgpt_infer.networks.from_embeddings import from_embeddings
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.networks.outputs import check_outputs, write
from scgpt_infer.networks.summary import NetworkSummary
from scgpt_infer.options import EmbedOptions
from scgpt_infer.run import Progress
from scgpt_infer.summary import BadCell
from scgpt_runtime.errors import OptionError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["grn", "grn_file"]

_DEFAULTS = EmbedOptions()
_ALL = EmbeddingNetworkOptions()


def grn(
    cells: "AnnData | Path | str | None" = None,
    *,
    model: AnyModel,
    how: EmbeddingNetworkOptions | AttentionOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
) -> GeneNetwork:
    """Find a network of genes, from the model's embeddings of genes or from its attention in cells.

    Parameters
    ----------
    cells
        An AnnData object, or the path of a file of cells. From embeddings none are needed: they choose variable genes
        and score metagenes.
    model
        See `scgpt_infer.embed`.
    how
        `EmbeddingNetworkOptions` or `AttentionOptions`: which of the two, and what is asked of it.
    options
        How cells are read and run.

    Raises
    ------
    GenesError
        Fewer than two of the genes that were asked for are known.
    BundleError
        The bundle has not what this needs; the message tells what it can do.
    CellsError
        There is no such column, or no cell can be used.
    MissingDependencyError
        igraph is not installed.
    """
    return _found(cells, model, how, options, None, None, None)[0]


def grn_file(
    outputs: Sequence[Path | str],
    model: AnyModel,
    cells: Path | str | None = None,
    how: EmbeddingNetworkOptions | AttentionOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> NetworkSummary:
    """Find a network of genes and write it.

    Parameters
    ----------
    outputs
        Files by suffix, or a new folder for everything; see `scgpt_infer.networks.outputs.FORMATS`.
    model, cells, how, options
        See `grn`.
    progress
        Told the cells done and the cells in all.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    ScgptInferError
        As for `grn`, and where a file cannot be written.
    """
    paths = check_outputs(outputs)
    told = [path for path in paths if not path.suffix or path.suffix.lower() == ".json"]
    if isinstance(how, EmbeddingNetworkOptions) and how.by is not None and not told:
        raise OptionError(
            "Scores of groups (--by, by) go into a folder or a .json file, and no such output was named. Name one, "
            "or leave --by out."
        )
    if isinstance(how, AttentionOptions) and any(path.suffix.lower() == ".gmt" for path in paths):
        raise OptionError(
            "A .gmt file lists metagenes, and networks from attention have none. Leave it out, or take the embeddings "
            "of genes: leave --condition and --targets out."
        )
    network, unknown, bad = _found(cells, model, how, options, progress, cache_dir, say)
    write(network, paths)
    return NetworkSummary.of(network, tuple(map(str, paths)), unknown, bad)


def _found(
    cells: "AnnData | Path | str | None",
    model: AnyModel,
    how: EmbeddingNetworkOptions | AttentionOptions,
    options: EmbedOptions,
    progress: Progress | None,
    cache_dir: Path | None,
    say: Say | None,
) -> tuple[GeneNetwork, tuple[str, ...], tuple[BadCell, ...]]:
    if isinstance(how, EmbeddingNetworkOptions):
        return *from_embeddings(model, how, options, cells, progress, cache_dir=cache_dir, say=say), ()
    if cells is None:
        raise OptionError(
            "Attention is of cells, and no file of cells was named. Name one, or take the embeddings of genes: leave "
            "--condition and --targets out."
        )
    found = from_attention(cells, model, how, options, progress, cache_dir=cache_dir, say=say)
    return found.network, found.unknown, tuple(found.scores.bad)
