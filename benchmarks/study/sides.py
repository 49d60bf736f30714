"""The sides of the comparison: who they are, in which words, and the command that runs each.

In: where things are. Out: a list of `Side`. It runs nothing and times nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SIDES", "Places", "Side"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a comparison keeps what its sides read.

    Attributes
    ----------
    work
        Folder for all that is made.
    original
        Folder that holds the package ``scgpt``.
    checkpoint
        Folder of ``args.json``, ``vocab.json`` and ``best_model.pt``.
    bundle
        The bundle exported from that checkpoint.
    """

    work: Path
    original: Path
    checkpoint: Path
    bundle: Path

    @property
    def plain_onnx(self) -> Path:
        """The original's model, exported as it is."""
        return self.work / "plain.onnx"


@dataclass(frozen=True, slots=True)
class Side:
    """One way to embed a file of cells.

    Attributes
    ----------
    name
        For options and files.
    label
        For tables and charts.
    module
        Under ``benchmarks.peers``.
    options
        Its part of the command line.
    ours
        Whether it is scgpt-infer.
    draws
        Whether it draws random numbers of its own, and keeps the tokens that came of them.
    own_allocator
        Whether memory is left as the system hands it out, where all other sides share one setting.
    """

    name: str
    label: str
    module: str
    options: Callable[[Places], list[str]]
    ours: bool = False
    draws: bool = False
    own_allocator: bool = False


def _original(places: Places) -> list[str]:
    return ["--package", str(places.original)]


def _ours(provider: str, precision: str) -> Callable[[Places], list[str]]:
    def options(places: Places) -> list[str]:
        return ["--bundle", str(places.bundle), "--provider", provider, "--precision", precision]

    return options


SIDES = (
    Side("original", "scGPT 0.2.4 as shipped", "original", _original, draws=True),
    Side("original-malloc", "scGPT 0.2.4, system's allocator", "original", _original, draws=True, own_allocator=True),
    Side(
        "original-tuned",
        "scGPT 0.2.4, nested path off",
        "original",
        lambda places: [*_original(places), "--slow-path"],
        draws=True,
    ),
    Side("torch-bf16", "PyTorch bf16, padded", "plain_torch", lambda places: []),
    Side("torch-best", "PyTorch bf16, best found, compiled", "best_torch", lambda places: []),
    Side("torch-eager", "PyTorch bf16, best found, eager", "best_torch", lambda places: ["--eager"]),
    Side(
        "onnx-plain",
        "plain ONNX export, ONNX Runtime fp32",
        "onnx_plain",
        lambda places: ["--model", str(places.plain_onnx)],
    ),
    Side("ours-fp32", "scgpt-infer, ONNX Runtime fp32", "ours", _ours("cpu", "fp32"), ours=True),
    Side("ours-bf16", "scgpt-infer, OpenVINO bf16", "ours", _ours("openvino", "bf16"), ours=True),
    Side("ours-int8", "scgpt-infer, OpenVINO int8", "ours", _ours("openvino", "int8"), ours=True),
    Side("ours", "scgpt-infer (auto)", "ours", _ours("auto", "auto"), ours=True),
)
"""In the order in which they run in a round, and in which tables show them."""
