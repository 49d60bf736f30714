"""scgpt-infer: exact, fast inference for scGPT.

Single cells in, the embeddings and cell types of a scGPT checkpoint out, the same for the same cell always.
Names are imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scgpt_infer.annotating import AnnotateOptions
    from scgpt_infer.api import Model, annotate, annotate_file, embed, embed_file
    from scgpt_infer.imputation import impute
    from scgpt_infer.integration import integrate
    from scgpt_infer.multiomics import multiomic
    from scgpt_infer.networks import grn
    from scgpt_infer.options import EmbedOptions
    from scgpt_infer.perturbation import perturb
    from scgpt_runtime import errors
    from scgpt_runtime.errors import ScgptInferError

__version__ = "0.1.0"

__all__ = [
    "AnnotateOptions",
    "EmbedOptions",
    "Model",
    "ScgptInferError",
    "__version__",
    "annotate",
    "annotate_file",
    "embed",
    "embed_file",
    "errors",
    "grn",
    "impute",
    "integrate",
    "multiomic",
    "perturb",
]

_HOMES = {
    "AnnotateOptions": "scgpt_infer.annotating",
    "EmbedOptions": "scgpt_infer.options",
    "Model": "scgpt_infer.api",
    "ScgptInferError": "scgpt_runtime.errors",
    "annotate": "scgpt_infer.api",
    "annotate_file": "scgpt_infer.api",
    "embed": "scgpt_infer.api",
    "embed_file": "scgpt_infer.api",
    "errors": "scgpt_runtime.errors",
    "grn": "scgpt_infer.networks",
    "impute": "scgpt_infer.imputation",
    "integrate": "scgpt_infer.integration",
    "multiomic": "scgpt_infer.multiomics",
    "perturb": "scgpt_infer.perturbation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if name == "errors" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
