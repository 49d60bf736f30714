"""What is to be read of a file that holds several things: `Chosen`."""

from dataclasses import dataclass

from scgpt_infer.options import CellsIn

__all__ = ["Chosen"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What its owner says of a file; None: it is found out.

    Attributes
    ----------
    layer, modality, cells_in, gene_col
        See `scgpt_infer.options.EmbedOptions`.
    """

    layer: str | None = None
    modality: str | None = None
    cells_in: CellsIn | None = None
    gene_col: str | None = None
