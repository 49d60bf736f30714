"""``scgpt-infer triton``: a bundle becomes models of Triton Inference Server.

Reads the words and prints; `scgpt_infer.triton` does the work.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import json_option, path_type, quiet_option
from scgpt_infer.cli.progress import aloud
from scgpt_infer.cli.sections import HARDWARE, OUTPUT, option, sectioned
from scgpt_infer.options import CHOICES
from scgpt_infer.sizes import size

if TYPE_CHECKING:
    from scgpt_infer.triton import Written

__all__ = ["command"]

_TASKS = ("embed", "classify", "tokens", "genes", "expression", "mvc", "attention", "discriminate", "perturb")

_EXAMPLES = """\b
Examples:
  scgpt-infer triton human -o models
  scgpt-infer triton human -o models --precision fp16 --on gpu --tensorrt
  scgpt-infer triton human -o models --on cpu --threads 8 --instances 2
  docker run --rm -p 8000:8000 -v "$PWD/models:/models:ro" \\
      nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository /models
"""


@sectioned("triton", short_help="A bundle becomes models of Triton Inference Server.", epilog=_EXAMPLES)
@click.argument("bundle")
@option(
    OUTPUT, "--output", "-o", type=path_type, required=True, help="The model repository: a folder, made or added to."
)
@option(OUTPUT, "--name", default="", help="Of the model.  [default: the bundle's name]")
@click.option(
    "--task",
    "tasks",
    type=click.Choice(_TASKS),
    multiple=True,
    help="Graph to write; may be repeated.  [default: embed, and classify with an ensemble of both where it is there]",
)
@click.option(
    "--precision",
    type=click.Choice([word for word in CHOICES["precision"] if word != "auto"]),
    default="fp32",
    show_default=True,
    help="Of the graphs; part of the vector id.",
)
@click.option("--max-batch", type=click.IntRange(min=1), default=16, show_default=True, help="Most cells of a batch.")
@click.option(
    "--max-delay-us",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Microseconds that a request waits for others of its shape.",
)
@click.option(
    "--queue-seconds",
    type=click.FloatRange(min=0.001),
    default=30.0,
    show_default=True,
    help="A request that has waited longer is refused; it may ask for less.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Requests that may wait, beyond which one is refused; 0 is no limit.",
)
@option(
    HARDWARE,
    "--on",
    "kind",
    type=click.Choice(("auto", "gpu", "cpu")),
    default="auto",
    show_default=True,
    help="What runs the graphs; auto: GPUs where the server has some.",
)
@option(
    HARDWARE,
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Batches answered at a time, on each GPU or on the processors.",
)
@option(HARDWARE, "--threads", type=click.IntRange(min=1), help="Threads of an instance on processors.  [default: all]")
@option(HARDWARE, "--tensorrt", is_flag=True, help="Have TensorRT compile the graphs (fp32, fp16), for GPUs.")
@option(
    HARDWARE,
    "--tensorrt-cache",
    default="",
    metavar="FOLDER",
    help="Where the server keeps what was compiled.  [default: nowhere; compiled at each start]",
)
@quiet_option
@json_option
def command(bundle: str, output: Path, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Write BUNDLE (a folder, a zip, or demo) as models of Triton's ONNX Runtime backend: tokens in, vectors out.

    Each model has its graph and weights, its settings and cells that it is warmed up with. Beside the first stand a
    README and a client that makes tokens.
    """
    from scgpt_infer.models import resolve
    from scgpt_infer.triton import TritonOptions, write_repository

    options = TritonOptions(**settings)  # the remaining options are fields of it, one to one
    say = (lambda line: None) if quiet else aloud
    written = write_repository(resolve(bundle), output, options, say)
    if as_json:
        click.echo(json.dumps(_plain(written), indent=2))
    elif not quiet:
        click.echo(_report(written))


def _report(written: "Written") -> str:
    lines = [f"{name:<24} {folder}" for name, folder in written.models.items()]
    proof = "not run here" if written.worst is None else f"1-cosine {written.worst:.1e} on golden cells"
    first = min(written.models.values(), key=lambda folder: len(folder.name))
    lines.append(f"{size(written.size)}, vector id {written.vector_id}; {proof}")
    return "\n".join([*lines, f"How to start and ask: {first / 'README.md'}"])


def _plain(written: "Written") -> dict[str, object]:
    models = {name: str(folder) for name, folder in written.models.items()}
    return {"models": models, "vector_id": written.vector_id, "worst": written.worst, "bytes": written.size}
