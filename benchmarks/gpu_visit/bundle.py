"""Stage ``bundle``: a random checkpoint from a seed, and its bundle with every graph that a GPU may run.

found: folder, seconds by step, graphs [precision and dialect], files {path: bytes}, model {layers, widths},
export_parity [what the export measured on the processor]. A bundle that an earlier call made from the same sources is
taken as it is.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_visit.environment import ROOT
from benchmarks.gpu_visit.part import Ask, Part

__all__ = ["bundle_of", "checkpoint_of", "run"]

PRECISIONS = ("fp32", "fp16", "bf16")


def checkpoint_of(ask: Ask) -> Path:
    """Where the checkpoint lies."""
    return ask.cache / f"checkpoint.{_kind(ask)}"


def bundle_of(ask: Ask) -> Path:
    """Where the bundle lies that this visit has made or found."""
    return ask.cache / _note(ask).read_text(encoding="utf-8")


def _note(ask: Ask) -> Path:
    return ask.cache / f"{_kind(ask)}.in-use"


def _kind(ask: Ask) -> str:
    return f"{'tiny' if ask.small else 'whole-human'}.seed{ask.seed}"


def _folder(ask: Ask) -> Path:
    """A folder for each state of the sources that make a bundle."""
    sources = sorted([*(ROOT / "export").rglob("*.py"), *(ROOT / "runtime").rglob("*.py")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    return ask.cache / f"{_kind(ask)}.{digest}"


def run(ask: Ask, part: Part) -> None:
    """Make what is missing."""
    from scgpt_runtime.bundle import Bundle

    folder, steps = _folder(ask), {}
    if not (folder / "manifest.json").exists():
        steps = _make(ask, folder, part)
    _note(ask).write_text(folder.name, encoding="utf-8")
    part.put("steps", steps)
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    part.put("folder", folder.name)
    part.put("graphs", [f"{graph.task} {graph.precision} {graph.dialect}" for graph in manifest.graphs])
    part.put("files", {record.path: record.size for record in manifest.files})
    part.put("export_parity", [_figure(record) for record in manifest.parity if record.task == "embed"])
    told = {name: int(manifest.args[name]) for name in ("nlayers", "embsize", "d_hid", "nheads")}
    part.put("model", told | {"max_length": manifest.tokenizer.max_length})


def _make(ask: Ask, folder: Path, part: Part) -> dict[str, float]:
    """Write the checkpoint and export it; seconds by step."""
    from scgpt_export import random_model
    from scgpt_export.build import ExportOptions, export
    from scgpt_export.checkpoint import load

    ask.cache.mkdir(parents=True, exist_ok=True)
    began, steps = time.monotonic(), {}

    def say(step: str) -> None:
        steps[step] = round(time.monotonic() - began, 1)
        part.put("steps", steps)
        part.say(f"{steps[step]:.0f} s: {step}")

    checkpoint = checkpoint_of(ask)
    if not (checkpoint / "best_model.pt").exists():
        random_model.write("tiny" if ask.small else "whole-human", checkpoint, ask.seed)
    say("checkpoint written")
    export(load(checkpoint), folder, ExportOptions(PRECISIONS, name="random"), say)
    say("done")
    return steps


def _figure(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("precision", "dialect", "provider", "worst", "limit")}
