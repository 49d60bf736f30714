"""A network as a JSON document of kind ``gene_network``; see docs/json.md.

In: `GeneNetwork`. Out: text, one gene, metagene or edge a line. The same network gives the same bytes.
"""

from collections.abc import Iterable, Iterator

from scgpt_infer import schema
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.schema import numbers, quoted, run_facts

__all__ = ["json_text"]


def json_text(network: GeneNetwork) -> str:
    """The network as text that keeps to the schema."""
    lists = {"genes": _genes(network), "metagenes": _metagenes(network), "edges": _edges(network)}
    members = [f'"directed": {"true" if network.directed else "false"}']
    members += [f'"{name}": [\n{_lines(entries)}\n]' for name, entries in lists.items()]
    return schema.document("gene_network", {"network": f"{{{', '.join(members)}}}"}, run_facts(network.record))


def _genes(network: GeneNetwork) -> Iterator[str]:
    columns = {name: numbers(values) for name, values in network.gene_values.items()}
    for row, gene in enumerate(network.genes):
        told = f'{{"gene": {quoted(gene)}'
        if network.metagenes is not None:
            number = int(network.metagenes[row])
            told += f', "metagene": "metagene_{number}"' if number else ', "metagene": null'
        yield told + _values({name: texts[row] for name, texts in columns.items()}) + "}"


def _metagenes(network: GeneNetwork) -> Iterator[str]:
    found = network.scores
    groups = () if found is None else found.groups
    scores = [] if found is None else numbers(found.scores)
    scaled = [] if found is None else numbers(found.scaled)
    for row, (name, genes) in enumerate(network.gene_lists.items()):
        told = f'{{"metagene": "{name}", "genes": [{", ".join(map(quoted, genes))}]'
        if found is not None:
            entries = ", ".join(
                f'{{"group": {quoted(group)}, "score": {score}, "scaled": {share}}}'
                for group, score, share in zip(groups, scores[row], scaled[row], strict=True)
            )
            told += f', "groups": [{entries}]'
        yield told + "}"


def _edges(network: GeneNetwork) -> Iterator[str]:
    names = [quoted(gene) for gene in network.genes]
    weights = numbers(network.weight)
    columns = {name: numbers(values) for name, values in network.edge_values.items()}
    for row, (source, target) in enumerate(zip(network.source.tolist(), network.target.tolist(), strict=True)):
        told = f'{{"source": {names[source]}, "target": {names[target]}, "weight": {weights[row]}'
        yield told + _values({name: texts[row] for name, texts in columns.items()}) + "}"


def _values(values: dict[str, str]) -> str:
    if not values:
        return ""
    return ', "values": {' + ", ".join(f"{quoted(name)}: {text}" for name, text in values.items()) + "}"


def _lines(entries: Iterable[str]) -> str:
    return ",\n".join(entries)
