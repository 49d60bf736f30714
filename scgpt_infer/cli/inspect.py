"""``scgpt-infer inspect``: what a bundle says of itself. Opens no graph.

Reads the manifest; prints it for people, or as JSON.
"""

import textwrap
from typing import TYPE_CHECKING

import click

from scgpt_infer.cli.lines import short
from scgpt_infer.cli.options import json_option

if TYPE_CHECKING:
    from scgpt_runtime.manifest import Manifest
    from scgpt_runtime.modalities import Modalities

__all__ = ["command", "report"]

WIDTH = 110
"""Columns that long texts are wrapped to."""


@click.command("inspect", short_help="What a bundle says of itself.")
@click.argument("bundle")
@json_option
def command(bundle: str, as_json: bool) -> None:
    """Print the manifest of BUNDLE: a folder, a zip, or demo.

    Shows which commands it can answer, its precisions with their measured parity, its vector ids, graphs, tokenizer
    settings, heads, modalities and licence.
    """
    from scgpt_infer.models import resolve

    opened = resolve(bundle)
    click.echo(
        opened.manifest.to_json().rstrip() if as_json else report(opened.manifest, opened.modalities(), opened.digest)
    )


def report(manifest: "Manifest", modalities: "Modalities | None" = None, digest: str = "") -> str:
    """A manifest for people, with the tokens of each modality and the bundle's digest: one block a subject."""
    from scgpt_infer.abilities import abilities

    parts = [
        f"{manifest.name}  (bundle format {manifest.format})",
        _wrapped("commands", ", ".join(abilities(manifest)) or "none"),
        *_answers(manifest),
        *([f"  digest      sha256:{digest}"] if digest else []),
        f"  weights     sha256 {manifest.weights}",
        f"  genes       {_pairs(manifest.genes) or 'vocabulary names alone'}",
        _wrapped("licence", manifest.licence or "not stated"),
        _wrapped("from", manifest.provenance or "not stated"),
        _wrapped("built with", _pairs(manifest.built_with)),
        "",
        *_precisions(manifest),
        "",
        *_graphs(manifest),
        *_names(manifest),
        *_modalities(modalities),
        *_taught(manifest),
    ]
    return "\n".join(parts)


def _answers(manifest: "Manifest") -> list[str]:
    """What the model makes of cells, and as which tokens it takes them; a generator takes a cell as it is."""
    settings = manifest.tokenizer
    if any(graph.task == "perturb" for graph in manifest.graphs):
        return [
            f"  profiles    of cells after a perturbation; the model is {manifest.dim} wide",
            "  tokens      all genes of a cell, expressed or not, with log-normalised values; no <cls>, no draws",
        ]
    return [
        f"  embeddings  {manifest.dim} wide, {manifest.pooling}, written under {manifest.key}",
        f"  tokens      {_tokens(manifest)}",
        f"  draws       seed {settings.seed}, ties {settings.ties}, sample {settings.sample}",
    ]


def _tokens(manifest: "Manifest") -> str:
    settings = manifest.tokenizer
    zeros = "; genes that a cell does not express, too" if settings.include_zeros else ""
    return f"at most {settings.max_length:,} a cell, {_values(manifest)}, {settings.cls_value:g} at <cls>{zeros}"


def _precisions(manifest: "Manifest") -> list[str]:
    lines = ["Parity with the fp32 reference, worst golden cell:"]
    lines += [
        f"  {record.precision:<5} {record.task:<12} {record.measure} {record.worst:.1e} "
        f"(limit {record.limit:.2g}, {record.cells} cells, {record.provider}{_dialect(record.dialect)})"
        for record in manifest.parity
    ]
    lines += [
        f"  {precision:<5} {task:<12} not measured: it proves itself where it is opened ({', '.join(dialects)})"
        for (precision, task), dialects in _unmeasured(manifest).items()
    ]
    lines += ["", "Vector ids, with the settings above:"]
    for name in dict.fromkeys((*manifest.precisions, *manifest.vector_ids)):
        lines.append(f"  {name:<11} {manifest.vector_ids[name]}")
    for found in manifest.calibration:
        lines += ["", f"Static int8 has its ranges from {found.cells:,} cells of the file with sha256 {found.sha256}"]
    return lines


def _unmeasured(manifest: "Manifest") -> dict[tuple[str, str], list[str]]:
    """Precision and task to the dialects of graphs without a figure. A graph that has one may be listed twice: the
    heads of fp32 are those of bf16 too. A taught head has figures of its own.
    """
    figures = {(record.task, record.precision, record.dialect) for record in manifest.parity}
    proven = {graph.path for graph in manifest.graphs if (graph.task, graph.precision, graph.dialect) in figures}
    found: dict[tuple[str, str], list[str]] = {}
    for graph in manifest.graphs:
        if graph.path not in proven and not (manifest.taught and graph.task == "classify"):
            found.setdefault((graph.precision, graph.task), []).append(graph.dialect)
    return found


def _dialect(name: str) -> str:
    return "" if name == "portable" else f", graph for {name}"


def _graphs(manifest: "Manifest") -> list[str]:
    lines = ["Graphs:"]
    for graph in manifest.graphs:
        takes, gives = (", ".join(spec.name for spec in specs) for specs in (graph.inputs, graph.outputs))
        lines.append(
            f"  {graph.task:<12} {graph.precision:<5} {graph.dialect}, opset {graph.opset}: {takes} -> {gives}"
        )
    return lines


def _names(manifest: "Manifest") -> list[str]:
    """Heads with names: classes, batches and the genes that binning saw."""
    told = {
        "Labels": manifest.labels,
        "Batches": manifest.batches,
        "Binning genes": manifest.binning_genes,
    }
    lines = []
    for title, names in told.items():
        if names:
            more = f", and {len(names) - 20:,} more" if len(names) > 20 else ""
            lines += ["", f"{title} ({len(names):,}): {', '.join(map(short, names[:20]))}{more}"]
    return lines


def _modalities(modalities: "Modalities | None") -> list[str]:
    """Modalities that cells are measured in, with their numbers and tokens."""
    if modalities is None:
        return []
    told = []
    for name in modalities.measured:
        prefix = f", named {modalities.prefixes[name]}*" if name in modalities.prefixes else ""
        n_tokens = len(modalities.tokens_of(name))
        told.append(f"{short(name)} ({modalities.number(name)}, {n_tokens:,} tokens{prefix})")
    return ["", f"Modalities ({len(told)}): {', '.join(told)}"]


def _taught(manifest: "Manifest") -> list[str]:
    """How a taught classifier came about, and its held-out figures."""
    taught = manifest.taught
    if taught is None:
        return []
    apart = f"no two with the same {taught.by} ({taught.groups} in all)" if taught.by else "drawn at random"
    even = ", each class counted the same" if taught.balanced else ""
    names = [short(one.label) for one in taught.classes]
    width = max(map(len, names))
    return [
        "",
        f"Classifier, taught by {taught.cells:,} cells with labels from {taught.column} ({taught.penalty} "
        f"regularisation, C {taught.regularisation:g}{even}; scikit-learn {taught.scikit_learn})",
        f"  vectors     id {taught.vector_id}; with their labels, sha256 {taught.vectors}",
        f"  cells       {f'file with sha256 {taught.file}' if taught.file else 'from memory'}",
        *(f"  left out    {count:,} cells: {reason}" for reason, count in taught.left_out.items()),
        f"  held out    {taught.folds} folds, {apart}: accuracy {taught.accuracy:.3f}, F1 {taught.macro_f1:.3f} macro, "
        f"{taught.weighted_f1:.3f} weighted",
        f"  confidence  {taught.confident:.1%} of the answers have 0.5 or more"
        + (f", accuracy {taught.accuracy_of_confident:.3f}" if taught.accuracy_of_confident is not None else "")
        + f"; expected calibration error {taught.calibration_error:.3f}",
        "",
        f"  {'class':<{width}}  precision  recall     F1     cells",
        *(
            f"  {name:<{width}}  {one.precision:>9.3f}  {one.recall:>6.3f}  {one.f1:>5.3f}  {one.cells:>8,}"
            for name, one in zip(names, taught.classes, strict=True)
        ),
    ]


def _wrapped(title: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"  {title:<12}", subsequent_indent=" " * 14)


def _values(manifest: "Manifest") -> str:
    settings = manifest.tokenizer
    return f"values in {settings.n_bins} bins" if settings.value_style == "binned" else "values as they come"


def _pairs(told: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in told.items())
