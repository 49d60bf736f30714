"""Stand-ins for what the original imports and does not need to embed cells, so that its own code runs as it is.

In: nothing. Out: `sys.modules` in which ``import scgpt`` succeeds. Plotting, training and data banks are empty
shells; ``torchtext.vocab`` is a small implementation; ``scanpy`` is anndata's own reader and class, which is
what scanpy gives under these names. None of scGPT's files is touched.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from benchmarks.peers import torchtext_vocab

__all__ = ["SHELLS", "standing_in"]

SHELLS = (
    "IPython",
    "datasets",
    "flash_attn",
    "matplotlib",
    "matplotlib.pyplot",
    "matplotlib.axes",
    "seaborn",
    "sklearn",
    "sklearn.metrics",
    "sklearn.metrics.pairwise",
    "sklearn.preprocessing",
    "scanpy.get",
    "wandb",
)
"""Modules that scGPT's files import at the top, and that embedding never calls."""

ABSENT = ("flash_attn",)
"""Left out on purpose: scGPT asks whether it is there, and takes PyTorch's own layers where it is not."""


class Shell(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


@contextmanager
def standing_in() -> Iterator[list[str]]:
    """Let ``import scgpt`` find all that it asks for; gives the names that are stand-ins.

    Afterwards they are taken away again, so that nobody else takes them for the real thing;
    scGPT keeps what it imported.
    """
    before = dict(sys.modules)
    shells = [name for name in SHELLS if name not in ABSENT]
    for name in shells:
        module = Shell(name)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent in shells:
            setattr(sys.modules[parent], child, module)
    torchtext = ModuleType("torchtext")
    torchtext.vocab = torchtext_vocab  # type: ignore[attr-defined]
    made = {"torchtext": torchtext, "torchtext.vocab": torchtext_vocab, "scanpy": _scanpy(), "tqdm": _tqdm()}
    sys.modules.update(made)
    try:
        yield sorted({*made, *shells})
    finally:
        for name in (*made, *shells):
            sys.modules.pop(name, None)
            if name in before:
                sys.modules[name] = before[name]


def _scanpy() -> ModuleType:
    """The two names of scanpy that embedding uses; scanpy takes both from anndata."""
    import anndata

    module = ModuleType("scanpy")
    module.__path__ = []
    module.read_h5ad = anndata.read_h5ad  # type: ignore[attr-defined]
    module.AnnData = anndata.AnnData  # type: ignore[attr-defined]
    module.get = sys.modules["scanpy.get"]  # type: ignore[attr-defined]
    return module


def _tqdm() -> ModuleType:
    """No progress bar."""
    module = ModuleType("tqdm")
    module.tqdm = lambda items, **_: items  # type: ignore[attr-defined]
    module.trange = lambda n, **_: range(n)  # type: ignore[attr-defined]
    return module
