"""Graphs and figures that were found good become the files of a bundle.

In: what was prepared and judged. Out: files in a folder, and the manifest that they are sealed with.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from scgpt_export.judging import STATIC_DIALECT, Judgement, converted
from scgpt_export.options import ExportOptions
from scgpt_export.prepare import OF_TOKENS, PORTABLE, Prepared
from scgpt_export.provenance import built_with, told_args, weights_digest
from scgpt_export.store import WeightStore
from scgpt_runtime.manifest import STATIC, GraphRecord, Manifest, format_of, vector_id

__all__ = ["written"]


def written(prepared: Prepared, judged: Judgement, bundle: Path, options: ExportOptions) -> Manifest:
    """Write everything but the manifest, and say what the manifest shall hold.

    Parameters
    ----------
    prepared
        Graphs, golden cells, vocabulary.
    judged
        What is sealed.
    bundle
        The folder; made here.
    options
        Names, licence and provenance.
    """
    (bundle / "graphs").mkdir(parents=True)
    graphs = _graphs(prepared, judged, bundle)
    prepared.golden.save(bundle / "golden.npz")
    vocabulary = prepared.vocabulary.to_json()
    (bundle / "vocab.json").write_text(vocabulary, encoding="utf-8", newline="\n")
    checkpoint, config = prepared.checkpoint, prepared.model.config
    modalities = checkpoint.modalities
    if modalities is not None:
        (bundle / "modalities.json").write_text(modalities.to_json(), encoding="utf-8", newline="\n")
    names = modalities.names if modalities is not None else ()
    static = any(variant.dialect == STATIC_DIALECT for variant in judged.sealed)
    calibration = prepared.calibration if static else ()
    precisions = _precisions(judged)
    unsealed = Manifest(
        name=options.name,
        args=told_args(checkpoint),
        source=checkpoint.source,
        weights=weights_digest(checkpoint),
        dim=config.dim,
        pooling=config.pooling,
        tokenizer=prepared.settings,
        genes=dict(prepared.vocabulary.versions),
        precisions=precisions,
        vector_ids={},
        graphs=graphs,
        parity=judged.figures,
        built_with=built_with(),
        licence=options.licence,
        provenance=options.provenance,
        key=options.key,
        labels=checkpoint.labels,
        batches=checkpoint.batches,
        modalities=names,
        binning_genes=checkpoint.binning_genes,
        calibration=calibration,
        format=format_of(prepared.settings, names),
    )
    digest = hashlib.sha256(vocabulary.encode()).hexdigest()
    ids = {
        name: vector_id(unsealed.weights, digest, config.pooling, prepared.settings, "exact", unsealed.arithmetic(name))
        for name in (*precisions, *([STATIC] if calibration else []))
    }
    return replace(unsealed, vector_ids=ids)


def _precisions(judged: Judgement) -> tuple[str, ...]:
    """Best parity first, then those without a figure."""
    first = [found for found in judged.figures if found.task in ("embed", "perturb") and found.dialect == PORTABLE]
    best = [found.precision for found in sorted(first, key=lambda found: found.worst)]
    return tuple(dict.fromkeys([*best, *(variant.precision for variant in judged.sealed)]))


def _graphs(prepared: Prepared, judged: Judgement, bundle: Path) -> tuple[GraphRecord, ...]:
    """Write the graphs, equal weights once."""
    store = WeightStore(bundle / "graphs")
    graphs = []
    for variant in judged.sealed:
        for task in variant.tasks:
            path = f"{task}.{variant.precision}.{variant.dialect}.onnx"
            model = converted(prepared, task, variant)
            store.write(model, path)
            shape = prepared.signatures[task, PORTABLE if variant.dialect == STATIC_DIALECT else variant.dialect]
            opset = model.opset_imports[""]
            graphs.append(
                GraphRecord(
                    task, variant.precision, variant.dialect, f"graphs/{path}", opset, shape.inputs, shape.outputs
                )
            )
    if any(variant.precision == "bf16" for variant in judged.sealed):
        heads = [graph for graph in graphs if graph.precision == "fp32" and graph.task not in OF_TOKENS]
        graphs += [replace(graph, precision="bf16") for graph in heads]
    return tuple(graphs)
