"""A network as GraphML, which Cytoscape, Gephi, igraph and networkx read.

In: `GeneNetwork`. Out: text. Nodes have a name, edges a weight; facts of the run are attributes of the graph.
"""

import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.network import GeneNetwork

__all__ = ["graphml"]

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns '
    'http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">\n'
)

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Values = dict[str, tuple[str, Sequence[str]]]
"""Name of an attribute to its type and its values as text; an empty one is left out."""


def graphml(network: GeneNetwork) -> str:
    """The network as one GraphML document. A float32 is written with the fewest digits that bring it back."""
    run: Values = {name: (_type(fact), [str(fact)]) for name, fact in sorted(network.record.items())}
    nodes: Values = {"name": ("string", network.genes)}
    if network.metagenes is not None:
        nodes["metagene"] = ("int", list(map(str, network.metagenes.tolist())))
    nodes |= {name: ("double", _numbers(values)) for name, values in network.gene_values.items()}
    edges: Values = {"weight": ("double", _numbers(network.weight))}
    edges |= {name: ("double", _numbers(values)) for name, values in network.edge_values.items()}
    ends = zip(network.source.tolist(), network.target.tolist(), strict=True)
    lines = [
        *(_key("graph", "g", place, name, kind) for place, (name, (kind, _)) in enumerate(run.items())),
        *(_key("node", "n", place, name, kind) for place, (name, (kind, _)) in enumerate(nodes.items())),
        *(_key("edge", "e", place, name, kind) for place, (name, (kind, _)) in enumerate(edges.items())),
        f'<graph id="network" edgedefault="{"directed" if network.directed else "undirected"}">',
        *_data("g", run, 0),
        *(f'<node id="n{i}">{"".join(_data("n", nodes, i))}</node>' for i in range(len(network.genes))),
        *(
            f'<edge source="n{source}" target="n{target}">{"".join(_data("e", edges, i))}</edge>'
            for i, (source, target) in enumerate(ends)
        ),
        "</graph>\n</graphml>\n",
    ]
    return _HEAD + "\n".join(lines)


def _key(what: str, letter: str, place: int, name: str, kind: str) -> str:
    return f'<key id="{letter}k{place}" for="{what}" attr.name={quoteattr(_plain(name))} attr.type="{kind}"/>'


def _data(letter: str, values: Values, row: int) -> Iterator[str]:
    for place, (_, texts) in enumerate(values.values()):
        if texts[row]:
            yield f'<data key="{letter}k{place}">{escape(_plain(texts[row]))}</data>'


def _numbers(values: NDArray[np.float32]) -> list[str]:
    """Numbers as text, empty where there is none."""
    texts: list[str] = np.where(np.isnan(values), "", np.asarray(values, np.float32).astype("U16")).tolist()
    return texts


def _type(fact: str | int | float) -> str:
    return "string" if isinstance(fact, str) else "long" if isinstance(fact, int) else "double"


def _plain(text: str) -> str:
    """Text without what XML forbids: control characters, half surrogates."""
    return _FORBIDDEN.sub("\ufffd", text)
