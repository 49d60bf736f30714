"""What a job about a network did: `NetworkSummary`, for people and for ``--json``.

Plain values. It knows nothing of how they came about.
"""

import json
from dataclasses import asdict, dataclass
from typing import Self

from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.summary import BadCell
from scgpt_infer.writers.sink import Record

__all__ = ["NetworkSummary"]

SHOWN = 8
_GENES = 9


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """What was written.

    Attributes
    ----------
    outputs
        Files and folders.
    n_genes, n_edges, directed
        Size and kind of the network.
    metagenes
        Genes of each metagene; empty where there are none or nobody looked for them.
    strongest
        The first edges: source, target, weight.
    unknown
        Genes that were asked for by names that the model does not know.
    highest
        The group of cells in which each metagene scores highest; empty without groups.
    record
        Facts of the run.
    bad
        Cells that could not be used.
    """

    outputs: tuple[str, ...]
    n_genes: int
    n_edges: int
    directed: bool
    metagenes: dict[str, tuple[str, ...]]
    strongest: tuple[tuple[str, str, float], ...]
    unknown: tuple[str, ...]
    highest: dict[str, str]
    record: Record
    bad: tuple[BadCell, ...] = ()

    @classmethod
    def of(
        cls,
        network: GeneNetwork,
        outputs: tuple[str, ...],
        unknown: tuple[str, ...],
        bad: tuple[BadCell, ...] = (),
    ) -> Self:
        """What is told of a network."""
        first = zip(network.source[:SHOWN].tolist(), network.target[:SHOWN].tolist(), strict=True)
        weights = network.weight[:SHOWN].tolist()
        return cls(
            outputs,
            len(network.genes),
            len(network.weight),
            network.directed,
            network.gene_lists,
            tuple((network.genes[a], network.genes[b], w) for (a, b), w in zip(first, weights, strict=True)),
            unknown,
            _highest(network),
            network.record,
            bad,
        )

    @property
    def complete(self) -> bool:
        """Whether every gene that was asked for is known."""
        return not self.unknown

    def report(self) -> str:
        """What was done, for people."""
        told = self.record
        lines = [
            f"network of {self.n_genes:,} genes and {self.n_edges:,} edges written to {', '.join(self.outputs)}",
            f"  model      {told['model']}, {told['precision']}, vector id {told['vector_id']}",
        ]
        if "network_cells_against" in told:
            lines.append(f"  cells      {_conditions(told)}")
        elif "n_cells" in told:
            used = int(told["n_cells"]) - int(told.get("n_bad", 0))
            lines.append(f"  cells      {used:,} of {told['n_cells']:,} can be used")
        sign = "->" if self.directed else "--"
        edges = (f"{source} {sign} {target} {weight:.2f}" for source, target, weight in self.strongest)
        lines.append(f"  strongest  {', '.join(edges)}")
        if self.metagenes:
            inside = sum(map(len, self.metagenes.values()))
            lines.append(f"  metagenes  {len(self.metagenes):,}, with {inside:,} of the genes; the largest:")
            lines += [self._line(name, genes) for name, genes in list(self.metagenes.items())[:SHOWN]]
        if self.bad:
            told_of = "; ".join(f"{cell.name} (row {cell.row}): {cell.reason}" for cell in self.bad[:SHOWN])
            more = f" and {len(self.bad) - SHOWN:,} more" if self.bad[SHOWN:] else ""
            lines.append(f"  left out   {len(self.bad):,} cells: {told_of}{more}")
        if self.unknown:
            shown = ", ".join(self.unknown[:20])
            lines.append(f"  not known  {shown}{f' and {len(self.unknown) - 20:,} more' if self.unknown[20:] else ''}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, indent=2)

    def _line(self, name: str, genes: tuple[str, ...]) -> str:
        where = f"; highest in {self.highest[name]}" if name in self.highest else ""
        more = f" and {len(genes) - _GENES:,} more" if len(genes) > _GENES else ""
        return f"    {name:<13} {', '.join(genes[:_GENES])}{more}{where}"


def _conditions(told: Record) -> str:
    """Cells by condition, and how many have none."""
    shown = [
        f"{told[f'network_{which}']} {told[f'network_cells_{which}']:,}"
        for which in ("control", "against")
        if f"network_{which}" in told
    ]
    if not shown:
        return f"{told['network_cells_against']:,}"
    others = f"{told['network_cells_without']:,} have no {told['network_condition']}"
    return f"{', '.join(shown)}; {others}, {told['network_cells_others']:,} another one"


def _highest(network: GeneNetwork) -> dict[str, str]:
    found = network.scores
    if found is None:
        return {}
    pairs = zip(network.gene_lists, found.scores, strict=True)
    return {name: found.groups[int(scores.argmax())] for name, scores in pairs if not (scores != scores).any()}
