"""The demo model and the real cells that ship with it: where they lie, and what the cells' labels mean to the model.

`BUNDLE` is a small scGPT for blood cells, `CELLS` are 700 labelled cells that it was never trained on, `FIGURES`
(JSON) and `MODEL_CARD` say how good it is. It shows what the software does; it is no model for research.
"""

from pathlib import Path
from typing import Final

__all__ = ["BUNDLE", "CELLS", "FIGURES", "KEY", "LABEL_COLUMN", "MODEL_CARD", "TYPES", "agrees"]

FOLDER: Final = Path(__file__).resolve().parent

BUNDLE: Final = FOLDER / "bundle"
CELLS: Final = FOLDER / "cells.h5ad"
MODEL_CARD: Final = FOLDER / "MODEL_CARD.md"
FIGURES: Final = FOLDER / "figures.json"

KEY: Final = "X_scGPT_demo"
"""``obsm`` key of its embeddings: never ``X_scGPT``, which a toy must not fill by accident."""

LABEL_COLUMN: Final = "cell_type"
"""Column of the shipped cells' ``obs`` with their published labels."""

TYPES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "CD19+ B": ("B cell", ("B cell", "plasma cell")),
    "CD4+/CD25 T Reg": ("CD4 T cell", ("naive CD4 T cell", "memory CD4 T cell")),
    "CD4+/CD45RA+/CD25- Naive T": ("CD4 T cell", ("naive CD4 T cell", "memory CD4 T cell")),
    "CD4+/CD45RO+ Memory": ("CD4 T cell", ("naive CD4 T cell", "memory CD4 T cell")),
    "CD8+ Cytotoxic T": ("CD8 T cell", ("naive CD8 T cell", "effector CD8 T cell")),
    "CD8+/CD45RA+ Naive Cytotoxic": ("CD8 T cell", ("naive CD8 T cell", "effector CD8 T cell")),
    "CD56+ NK": ("NK cell", ("NK cell",)),
    "CD14+ Monocyte": ("monocyte", ("CD14+ monocyte", "FCGR3A+ monocyte")),
    "Dendritic": ("dendritic cell", ("dendritic cell", "plasmacytoid dendritic cell")),
    "CD34+": ("progenitor", ("progenitor",)),
}
"""Published label of a shipped cell to its main type and to the answers of the model that agree with it.

Most cells that are labelled "CD14+ Monocyte" express FCGR3A, so that label does not tell the two monocytes apart.
"""


def agrees(published: str, answer: str) -> bool:
    """Whether the model's answer for a shipped cell is its published label in the model's words."""
    return answer in TYPES[published][1]
