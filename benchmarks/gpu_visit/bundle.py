"""Stage ``bundle``: a random checkpoint from a seed, and its bundle with every graph that a GPU may run.

found: folder, steps {step: seconds when it began}, graphs [precision and dialect], files {path: bytes}, model {layers,
widths}. A bundle that an earlier call made from the same sources is taken as it is.
"""

import hashlib
import shutil
import time
from pathlib import Path

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

    ask.cache.mkdir(parents=True, exist_ok=True)
    folder: Path = _folder(ask)
    steps: dict[str, float] = {}
    if not (folder / "manifest.json").exists():
        steps = _make(ask, folder, part)
    _note(ask).write_text(folder.name, encoding="utf-8")
    part.put("steps", steps)
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    part.put("folder", folder.name)
    part.put("graphs", [f"{graph.task} {graph.precision} {graph.dialect}" for graph in manifest.graphs])
    part.put("files", {record.path: record.size for record in manifest.files})
    told = {name: int(manifest.args[name]) for name in ("nlayers", "embsize", "d_hid", "nheads")}
    part.put("model", told | {"max_length": manifest.tokenizer.max_length})


def _make(ask: Ask, folder: Path, part: Part) -> dict[str, float]:
    """Write the checkpoint, and the bundle that an export would seal, ``embed`` alone; seconds by step."""
    from scgpt_export import random_model
    from scgpt_export.build import ExportOptions, prepare
    from scgpt_export.checkpoint import load
    from scgpt_export.judging import Judgement, variants
    from scgpt_export.sealing import written
    from scgpt_runtime.bundle import seal

    began, steps = time.monotonic(), {}

    def say(step: str) -> None:
        steps[step] = round(time.monotonic() - began, 1)
        part.put("steps", steps)
        part.say(f"{steps[step]:.0f} s: {step}")

    checkpoint = checkpoint_of(ask)
    if not (checkpoint / "best_model.pt").exists():
        random_model.write("tiny" if ask.small else "whole-human", checkpoint, ask.seed)
    say("checkpoint written")
    options = ExportOptions(PRECISIONS, name="random")
    prepared = prepare(load(checkpoint), options, say, among=("embed",))
    # Parity on a processor takes as long again, and the next stage measures it where it counts: on the GPU.
    found = [variant for precision in PRECISIONS for variant in variants(prepared, precision)]
    judged = Judgement(tuple(found), (), ())
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    seal(making, written(prepared, judged, making, options))
    making.rename(folder)
    say("sealed")
    return steps
