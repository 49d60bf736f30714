"""A network as files: one of each suffix that was asked for, or all in a folder. All appear together, or none.

In: `GeneNetwork` and names. Out: files, each written beside its final name and renamed. It knows no model.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.networks.document import json_text
from scgpt_infer.networks.drawing import matplotlib_there, picture
from scgpt_infer.networks.graphml import graphml
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.networks.tables import edge_table, gene_sets, gene_table, score_table
from scgpt_infer.writers.folder import check_output, published
from scgpt_infer.writers.sink import beside, output_errors, record_json, sync_together
from scgpt_runtime.errors import GenesError, OutputError

__all__ = ["FORMATS", "check_outputs", "write"]

FORMATS: dict[str, Callable[[GeneNetwork], bytes]] = {
    ".graphml": lambda network: _bytes(graphml(network)),
    ".csv": lambda network: _bytes(edge_table(network)),
    ".json": lambda network: _bytes(json_text(network)),
    ".gmt": lambda network: _bytes(gene_sets(network)),
    ".png": lambda network: picture(network, "png"),
    ".svg": lambda network: picture(network, "svg"),
}
"""Suffix to what makes such a file of a network."""


def check_outputs(outputs: Sequence[Path | str]) -> tuple[Path, ...]:
    """The files and folders that a network shall become, links followed.

    Raises
    ------
    OutputError
        One cannot appear, has a suffix of no format, or is named twice.
    MissingDependencyError
        A picture is wanted, and a package that draws is not installed.
    """
    if not outputs:
        raise OutputError(f"No output was named. Name files ({', '.join(FORMATS)}), or a new folder for all of them.")
    paths = tuple(Path(os.path.realpath(output)) for output in outputs)
    for path in paths:
        if paths.count(path) > 1:
            raise OutputError(f"{path} is named twice. Give each output a name of its own.")
        if path.suffix.lower() in ("", ".png", ".svg"):
            matplotlib_there()
        if not path.suffix:
            check_output(path)
            continue
        if path.suffix.lower() not in FORMATS:
            raise OutputError(
                f"{path.name} has the suffix {path.suffix!r}; networks go to {', '.join(FORMATS)}, or, without a "
                "suffix, to a folder with all of them."
            )
        _check_file(path)
    return paths


def write(network: GeneNetwork, outputs: Sequence[Path]) -> None:
    """Write a network.

    Parameters
    ----------
    network
        With an edge at least.
    outputs
        As `check_outputs` gives them.

    Raises
    ------
    OutputError
        A file cannot be written; then there is none.
    GenesError
        There is no edge, or a list of metagenes is wanted and there are none.
    """
    if not len(network.weight):
        raise GenesError(
            "No pair of genes is joined by an edge, so there is no network to write. Lower --threshold (threshold), or "
            "take more genes."
        )
    files = [path for path in outputs if path.suffix]
    if any(path.suffix.lower() == ".gmt" for path in files) and not network.gene_lists:
        raise GenesError(
            "There is no metagene to write a list of. Lower --min-genes or --resolution (min_genes, resolution)"
            + ("; networks from attention have none." if network.metagenes is None else ".")
        )
    made = {path: FORMATS[path.suffix.lower()](network) for path in files}
    with ExitStack() as stack:
        folders = [stack.enter_context(published(path)) for path in outputs if not path.suffix]
        for folder in folders:
            _fill(folder, network)
        temporaries = {path: stack.enter_context(beside(path)) for path in made}
        for path, content in made.items():
            with output_errors(path):
                temporaries[path].write_bytes(content)
        honour()
        with deferred(), output_errors(outputs[0]):
            sync_together(temporaries)


def _fill(folder: Path, network: GeneNetwork) -> None:
    """Everything that can be told of a network."""
    files = {f"network{suffix}": make for suffix, make in FORMATS.items() if suffix not in (".csv", ".gmt")}
    for name, make in files.items():
        (folder / name).write_bytes(make(network))
    texts = {"edges.csv": edge_table(network), "genes.csv": gene_table(network), "scores.csv": score_table(network)}
    texts["metagenes.gmt"] = gene_sets(network)
    for name, text in texts.items():
        if text:
            (folder / name).write_bytes(_bytes(text))
    (folder / "run.json").write_bytes(record_json(network.record))
    if network.gene_lists:
        (folder / "metagenes").mkdir()
    for name, genes in network.gene_lists.items():
        (folder / "metagenes" / f"{name}.txt").write_bytes(_bytes("".join(f"{gene}\n" for gene in genes)))


def _check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} of the output {path.name} does not exist. Make it first.")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a file, so the output cannot take its name. Choose another one.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written. Choose another name, or allow writing there.")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
