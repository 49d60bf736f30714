"""What an export may be told, and what of it is refused before any work.

In: a user's wishes. It opens no checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

from scgpt_export.calibration import CalibrationCells
from scgpt_runtime.errors import OptionError, OutputError
from scgpt_runtime.manifest import PRECISIONS

__all__ = ["ExportOptions", "check"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export may be told.

    Attributes
    ----------
    precisions
        Which to seal, of fp32, fp16, bf16 and int8. fp16 and bf16 get graphs for NVIDIA GPUs; bf16 has no others.
    name
        Name of the model; the bundle folder's name where empty.
    key
        ``obsm`` key of its embeddings.
    licence, provenance
        Free text for the manifest.
    max_length
        Longest cell in tokens; the checkpoint's ``max_seq_len`` or 1,200 where None.
    seed
        Seed of the tokenizer's draws.
    golden_seed
        Seed of the cells that prove the bundle.
    calibration
        Cells that tell the ranges of activations; with them an int8 bundle also gets a graph for OpenVINO.
    """

    precisions: tuple[str, ...] = ("fp32", "fp16")
    name: str = ""
    key: str = "X_scGPT"
    licence: str = ""
    provenance: str = ""
    max_length: int | None = None
    seed: int = 0
    golden_seed: int = 0
    calibration: CalibrationCells | None = None


def check(output: Path, options: ExportOptions) -> None:
    """Refuse what cannot be exported, before any work; errors as for `export`."""
    unknown = [name for name in options.precisions if name not in PRECISIONS]
    if unknown or not options.precisions:
        raise OptionError(
            f"Found precision {', '.join(unknown) or 'none'}; a bundle can be sealed in {', '.join(PRECISIONS)}. "
            "Choose one or more of these."
        )
    if len(set(options.precisions)) < len(options.precisions):
        raise OptionError(f"The precisions are {', '.join(options.precisions)}: one is named twice. Name each once.")
    if "bf16" in options.precisions and "fp32" not in options.precisions:
        raise OptionError(
            f"The precisions are {', '.join(options.precisions)}. bf16 has graphs for NVIDIA GPUs alone, and its heads "
            "are those of fp32: add fp32 to them."
        )
    if options.calibration is not None and "int8" not in options.precisions:
        raise OptionError(
            f"Calibration cells are for int8, and the precisions are {', '.join(options.precisions)}. Add int8 to "
            "them, or calibrate nothing."
        )
    if output.exists():
        raise OutputError(f"{output} exists already. Name a folder that does not, or remove it first.")
    if not output.parent.is_dir():
        raise OutputError(f"There is no folder {output.parent} to put {output.name} into. Make it first.")
