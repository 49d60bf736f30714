"""``scgpt-infer export``: a scGPT checkpoint becomes a bundle, once.

The one command that opens `scgpt_export`, and so the one that needs PyTorch.
"""

import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from scgpt_infer.cli.options import json_option, path_type, quiet_option
from scgpt_infer.cli.progress import aloud
from scgpt_runtime.errors import CheckpointError, MissingDependencyError

if TYPE_CHECKING:
    from scgpt_export.build import ExportOptions, ExportReport
    from scgpt_export.checkpoint import Checkpoint

__all__ = ["command"]

PRECISION_MISSING = 3
CALIBRATION_CELLS = 256

_NEEDED = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors")
_INSTALL = """Exporting needs {missing}, not installed here:
  pip install "scgpt-infer[cpu,export]"
On Linux that brings PyTorch with CUDA. For its smaller CPU build, install this first:
  pip install torch --index-url https://download.pytorch.org/whl/cpu"""

Say = Callable[[str], None]

_EXAMPLES = """\b
Examples:
  scgpt-infer export scGPT_human/ -o human
  scgpt-infer export annotator.pt --base scGPT_human/ --labels cells.h5ad:cell_type -o annotator
  scgpt-infer export rna_protein/ --modalities modalities.json --batches donors.json -o rna_protein
  scgpt-infer export --random whole-human -o random
  scgpt-infer export scGPT_human/ -o human --precision fp32,fp16,bf16
  scgpt-infer export scGPT_human/ -o human --precision fp32,int8 --calibrate cells.h5ad
"""


@click.command("export", short_help="A checkpoint becomes a bundle, once.", epilog=_EXAMPLES)
@click.argument("checkpoint", type=path_type, required=False)
@click.option("--output", "-o", type=path_type, required=True, help="Folder to make, or a zip by its suffix.")
@click.option(
    "--precision", default="fp32,fp16", show_default=True, help="Which to seal, of fp32, fp16, bf16 and int8."
)
@click.option(
    "--calibrate",
    type=path_type,
    help="Cells (.h5ad) like those to come: their activations set the ranges of an int8 graph for OpenVINO.",
)
@click.option(
    "--calibrate-cells",
    type=click.IntRange(min=1),
    default=CALIBRATION_CELLS,
    show_default=True,
    help="How many of them, spread over the file.",
)
@click.option("--name", default="", help="Name of the model.  [default: the output's]")
@click.option("--zip", "as_zip", is_flag=True, help="Make one zip whatever the output's suffix.")
@click.option("--random", type=click.Choice(["whole-human", "tiny"]), help="Random weights instead of CHECKPOINT.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --random.")
@click.option(
    "--base", type=path_type, help="Pretrained checkpoint with the args.json and vocab.json that are missing."
)
@click.option("--args", type=path_type, help='JSON whose fields go first, such as {"include_zero_gene": true}.')
@click.option("--labels", type=path_type, help="Names of the cell types: JSON, or FILE.h5ad:COLUMN of obs.")
@click.option("--genes", type=path_type, help="Genes that fine-tuning saw: JSON, or FILE.h5ad:COLUMN of var.")
@click.option("--batches", type=path_type, help="Names of the batches: JSON, or FILE.h5ad:COLUMN of obs.")
@click.option("--modalities", type=path_type, help="Modality of each token of a multi-omic model: JSON.")
@quiet_option
@json_option
def command(
    checkpoint: Path | None,
    output: Path,
    precision: str,
    calibrate: Path | None,
    calibrate_cells: int,
    name: str,
    as_zip: bool,
    random: Literal["whole-human", "tiny"] | None,
    seed: int,
    quiet: bool,
    as_json: bool,
    **beside: Path | None,
) -> int:
    """Make a bundle of CHECKPOINT: a folder or zip with best_model.pt, args.json and vocab.json, or weights alone.

    fp16 and bf16 get graphs for NVIDIA GPUs as well, bf16 no others: what no processor can run is not measured here and
    proves itself where it is opened.
    A precision whose answers are too far from the reference's is left out with its figure: exit code 3.
    """
    if (checkpoint is None) == (random is None):
        raise click.UsageError("Give either a CHECKPOINT, or --random for random weights.")
    require_export()
    _refuse_bundle(checkpoint)
    from scgpt_export.build import ExportOptions, check
    from scgpt_export.checkpoint import load
    from scgpt_infer.calibration import calibration_cells

    say: Say = _silent if quiet else aloud
    options = ExportOptions(
        precisions=tuple(precision.replace(" ", "").split(",")),
        name=name or output.stem,
    )
    check(output, options)  # loading a checkpoint takes long
    if calibrate is not None:
        options = replace(options, calibration=calibration_cells(calibrate, calibrate_cells))
        check(output, options)
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as scratch:
        loaded = load(checkpoint or _random(random, Path(scratch), seed), **beside)
        say(loaded.report())
        report = _export(loaded, output, options, as_zip or output.suffix == ".zip", say)
    _print(report, output, quiet, as_json)
    return PRECISION_MISSING if report.left_out else 0


def require_export() -> None:
    """Raise MissingDependencyError with the install line unless everything of the export extra is there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(_INSTALL.format(missing=", ".join(missing)))


def _refuse_bundle(checkpoint: Path | None) -> None:
    from scgpt_infer.models import is_bundle

    if checkpoint is not None and is_bundle(checkpoint):
        raise CheckpointError(
            f"{checkpoint} is a bundle already. Give it to scgpt-infer embed as --model, or name the checkpoint "
            "that it was made of."
        )


def _random(kind: Literal["whole-human", "tiny"] | None, scratch: Path, seed: int) -> Path:
    from scgpt_export import random_model

    return random_model.write(kind or "tiny", scratch / "random", seed)


def _export(loaded: "Checkpoint", output: Path, options: "ExportOptions", as_zip: bool, say: Say) -> "ExportReport":
    from scgpt_export.build import export

    if not as_zip:
        return export(loaded, output, options, say)
    from scgpt_runtime.archive import pack

    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as beside:
        report = export(loaded, Path(beside) / "bundle", options, say)
        pack(Path(beside) / "bundle", output)
    return report


def _print(report: "ExportReport", output: Path, quiet: bool, as_json: bool) -> None:
    manifest = report.manifest
    if as_json:
        told = {
            "bundle": str(output),
            "name": manifest.name,
            "precisions": manifest.precisions,
            "unmeasured": manifest.unmeasured,
            "vector_ids": manifest.vector_ids,
            "parity": [asdict(record) for record in manifest.parity],
            "left_out": [asdict(record) for record in report.left_out],
        }
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(f"{output}: {manifest.name}, sealed in {', '.join(manifest.precisions)}")
        for name in manifest.unmeasured:
            click.echo(f"{name} is for NVIDIA GPUs and was not measured here: it proves itself where it is opened")
    for record in report.left_out:
        dialect = "" if record.dialect == "portable" else f" for {record.dialect}"
        click.echo(
            f"warning: left out {record.precision}{dialect} {record.task}: {record.measure} {record.worst:.1e}, "
            f"limit {record.limit:.2g}",
            err=True,
        )


def _silent(line: str) -> None:
    pass
