"""A network as a picture, PNG or SVG: its strongest edges, genes with their names, colours by metagene.

It draws on a figure of its own and leaves matplotlib's state alone. Needs matplotlib and igraph. The same network gives
the same bytes on one machine.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.metagenes import igraph_there
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.networks.placing import Places, places
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["SHOWN_EDGES", "matplotlib_there", "picture"]

SHOWN_EDGES = 250
"""Edges of a picture: more than these cannot be told apart on a page."""

_COLOURS = (
    *("#126c96", "#de4e42", "#00c08a", "#96005a", "#9654d8", "#724e00", "#00a2fc", "#d2a200", "#6c0090", "#de60c6"),
    *("#1e8400", "#0c483c", "#965a6c", "#fc8472", "#0096a8", "#c69cc6", "#7e180c", "#5a4272", "#2a3cba", "#78845a"),
)
"""Those of the report: far from each other in OKLab, also for eyes without the cones for red or green."""

_NONE, _UP, _DOWN, _HUB = "#8a949e", "#c8553d", "#2f6f9f", "#22303c"
_UNIT = 0.46  # inches from gene to gene
_DPI = 150
_LONGEST = 18
_NAMED = 10  # metagenes of the legend


@dataclass(frozen=True, slots=True)
class _Shown:
    """The part of a network that is drawn.

    Attributes
    ----------
    genes
        Places of its genes in the network.
    ends
        (n_edges, 2) of its edges, counted among these genes.
    weights
        (n_edges,) of its edges.
    """

    genes: NDArray[np.int64]
    ends: NDArray[np.int64]
    weights: NDArray[np.float64]


def matplotlib_there() -> Any:
    """The package matplotlib, and that igraph is there too.

    Raises
    ------
    MissingDependencyError
        One is not installed.
    """
    igraph_there()
    try:
        import matplotlib.figure
    except ImportError as error:
        raise MissingDependencyError(
            'Drawing needs matplotlib, which is not installed: pip install "scgpt-infer[networks]".'
        ) from error
    return matplotlib


def picture(network: GeneNetwork, form: Literal["png", "svg"] = "png", edges: int = SHOWN_EDGES) -> bytes:
    """Draw the strongest edges of a network, and the genes that they join.

    Parameters
    ----------
    network
        With an edge at least.
    form
        Of the picture.
    edges
        How many are drawn at the most.

    Raises
    ------
    MissingDependencyError
        matplotlib or igraph is not installed.
    """
    matplotlib = matplotlib_there()
    shown = _strongest(network, edges)
    where = places(len(shown.genes), shown.ends, np.maximum(np.abs(shown.weights), 1e-6))
    where = where - where.min(axis=0)
    size = where.max(axis=0) + np.array([1.6, 2.2])
    figure = matplotlib.figure.Figure(figsize=tuple(np.maximum(size * _UNIT, (5.0, 3.0))), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.margins(0.04)
    _edges(axes, network, shown, where)
    _genes(axes, network, shown, where, halo=form == "png")  # which would make outlines of an SVG's text
    _title(figure, network, shown)
    _legend(figure, network, shown)
    written = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "scgpt-infer", "svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a sign that the font lacks is drawn as a box
        told = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        figure.savefig(written, format=form, bbox_inches="tight", pad_inches=0.15, metadata=told)
    return written.getvalue()


def _strongest(network: GeneNetwork, edges: int) -> _Shown:
    order = np.sort(np.argsort(-np.abs(network.weight), kind="stable")[:edges])
    ends = np.stack([network.source[order], network.target[order]], axis=1)
    genes, among = np.unique(ends, return_inverse=True)
    return _Shown(genes.astype(np.int64), among.reshape(ends.shape), network.weight[order].astype(np.float64))


def _edges(axes: Any, network: GeneNetwork, shown: _Shown, where: Places) -> None:
    from matplotlib.collections import LineCollection

    strength = np.abs(shown.weights)
    spread = float(np.ptp(strength))
    share = (strength - strength.min()) / spread if spread > 0 else np.ones(len(strength))
    colours = np.where(shown.weights >= 0, _UP, _DOWN) if network.directed else np.full(len(share), "#9aa5b0")
    if not network.directed:
        axes.add_collection(
            LineCollection(list(where[shown.ends]), colors=colours, linewidths=0.6 + 1.6 * share, zorder=1)
        )
        return
    for (source, target), colour, wide in zip(shown.ends.tolist(), colours.tolist(), share.tolist(), strict=True):
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 0.6 + 1.4 * wide, "shrinkA": 6, "shrinkB": 6, "alpha": 0.8}
        axes.annotate("", where[target], where[source], arrowprops=arrow, zorder=1)


def _genes(axes: Any, network: GeneNetwork, shown: _Shown, where: Places, *, halo: bool) -> None:
    from matplotlib import patheffects

    degree = np.bincount(shown.ends.ravel(), minlength=len(shown.genes))
    sizes = 22 + 8 * np.minimum(degree, 20)
    axes.scatter(*where.T, s=sizes, c=_colours(network, shown), edgecolors="white", linewidths=0.7, zorder=2)
    effects = [patheffects.withStroke(linewidth=2.2, foreground="white", alpha=0.85)] if halo else None
    for gene, place, size in zip(shown.genes.tolist(), where, sizes.tolist(), strict=True):
        axes.annotate(
            _short(network.genes[gene]),
            place,
            (0, np.sqrt(size) / 2 + 0.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.5,
            color="#1c2630",
            path_effects=effects,
            parse_math=False,  # a dollar sign in a name is a dollar sign
            zorder=3,
        )


def _colours(network: GeneNetwork, shown: _Shown) -> list[str]:
    """By metagene; where there are none, genes that edges come from stand out."""
    if network.metagenes is None:
        hubs = set(shown.ends[:, 0].tolist()) if network.directed else set()
        return [_HUB if place in hubs else _NONE for place in range(len(shown.genes))]
    tones = _tones(network.metagenes[shown.genes])
    return [tones.get(number, _NONE) for number in network.metagenes[shown.genes].tolist()]


def _tones(metagenes: NDArray[np.int32]) -> dict[int, str]:
    """Colour of each metagene, those of most drawn genes first; further ones begin again with the first."""
    counts = np.bincount(metagenes)
    order = sorted(np.unique(metagenes[metagenes > 0]).tolist(), key=lambda number: (-counts[number], number))
    return {number: _COLOURS[place % len(_COLOURS)] for place, number in enumerate(order)}


def _legend(figure: Any, network: GeneNetwork, shown: _Shown) -> None:
    from matplotlib.lines import Line2D

    if network.metagenes is None:
        return
    tones = list(_tones(network.metagenes[shown.genes]).items())[:_NAMED]
    dots = [Line2D([], [], marker="o", linestyle="", color=tone, markersize=5) for _, tone in tones]
    names = [f"metagene_{number}" for number, _ in tones]
    figure.legend(
        dots, names, loc="upper left", bbox_to_anchor=(0, 0.01), ncols=5, fontsize=7, frameon=False, handletextpad=0.1
    )


def _title(figure: Any, network: GeneNetwork, shown: _Shown) -> None:
    drawn, all_edges = len(shown.ends), len(network.weight)
    part = "" if drawn == all_edges else f", the strongest {drawn:,} of {all_edges:,} edges"
    what = "gene embeddings" if network.record.get("network_from") == "embeddings" else "attention"
    colours = "" if network.metagenes is None else "; colours are metagenes, grey is none"
    if network.directed:
        colours = "; red: positive weight, blue: negative"
    text = f"{_short(str(network.record.get('model', '')))}: network from {what}{part}{colours}"
    figure.text(0.01, 1.0, text, fontsize=8, color="#44505c", va="bottom", parse_math=False)


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
