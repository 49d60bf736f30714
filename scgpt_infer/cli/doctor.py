"""``scgpt-infer doctor``: what this machine has, what would run on it, and what is wrong.

`scgpt_infer.doctor` looks; this module prints.
"""

from typing import TYPE_CHECKING

import click

from scgpt_infer.cli.options import json_option

if TYPE_CHECKING:
    from scgpt_infer.doctor import Diagnosis, GpuFacts

__all__ = ["command", "report"]

CANNOT_RUN = 2


@click.command("doctor", short_help="What would run on this machine, and why.")
@json_option
def command(as_json: bool) -> int:
    """Say what this machine has, what would run on it and why, and what is wrong with the repair.

    Exit code 2 when cells cannot be embedded here.
    """
    from scgpt_infer import demo
    from scgpt_infer.doctor import examine

    diagnosis = examine(demo.BUNDLE)
    click.echo(diagnosis.to_json() if as_json else report(diagnosis))
    return 0 if diagnosis.runs else CANNOT_RUN


def report(diagnosis: "Diagnosis") -> str:
    """A diagnosis for people."""
    limit = "" if diagnosis.cores_limit is None else f", {diagnosis.cores_limit:g} granted by the control group"
    lines = [
        f"system      {diagnosis.system['platform']}, Python {diagnosis.system['python']}",
        f"packages    {', '.join(f'{name} {version}' for name, version in diagnosis.versions.items())}",
        f"providers   {', '.join(diagnosis.providers) or 'none'}",
        f"processor   {diagnosis.processor}",
        f"cores       {diagnosis.cores_usable} usable of {diagnosis.cores_host} "
        f"({diagnosis.cores_affinity} by affinity{limit})",
        f"memory      {_memory(diagnosis)}",
        *_graphics(diagnosis),
        f"numba cache {diagnosis.numba_cache or 'none'}",
        *(_extra(extra, missing) for extra, missing in diagnosis.missing.items()),
        "",
        f"by rule     {diagnosis.runs or 'nothing: see below'}",
    ]
    lines += [f"problem     {problem}" for problem in diagnosis.problems]
    return "\n".join(lines)


def _graphics(diagnosis: "Diagnosis") -> list[str]:
    found = diagnosis.graphics
    none = f"gpu         none: {'see below' if found.none in diagnosis.problems else found.none}"
    if found.driver is None:
        return [none]
    libraries = f"{found.build or 'no ONNX Runtime for CUDA'}, cuDNN {found.cudnn or 'not loaded'}"
    lines = [f"driver      {found.driver}", f"cuda        {libraries}", *map(_gpu, found.gpus)]
    return lines if found.gpus else [*lines, none]


def _gpu(found: "GpuFacts") -> str:
    free = "" if found.free is None else f"{found.free / 2**30:.1f} GiB free of "
    return (
        f"{f'gpu {found.index}':<11} {found.name}, compute capability {found.capability}, "
        f"{free}{found.memory / 2**30:.1f} GiB; expected: {found.expected or 'nothing that runs on it'}"
    )


def _extra(extra: str, missing: tuple[str, ...]) -> str:
    state = f'without {", ".join(missing)}; pip install "scgpt-infer[{extra}]"' if missing else "complete"
    return f"{f'[{extra}]':<11} {state}"


def _memory(diagnosis: "Diagnosis") -> str:
    sizes = {
        "in all": diagnosis.memory.total,
        "available": diagnosis.memory.available,
        "limit of the control group": diagnosis.memory.limit,
    }
    told = [f"{size / 2**30:.1f} GiB {what}" for what, size in sizes.items() if size is not None]
    return ", ".join(told) or "unknown"
