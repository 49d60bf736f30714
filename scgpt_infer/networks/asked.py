"""What is asked of a network from gene embeddings: `EmbeddingNetworkOptions`, checked when it is made.

It opens no model and reads no cells.
"""

from dataclasses import dataclass

from scgpt_runtime.errors import OptionError

__all__ = ["NEIGHBOURS", "EmbeddingNetworkOptions"]

NEIGHBOURS = 15
"""As scanpy's ``neighbors``, which scGPT's tutorial takes as it is; scanpy counts the gene itself as one of them."""


@dataclass(frozen=True, slots=True)
class EmbeddingNetworkOptions:
    """What is asked of a network from gene embeddings.

    Attributes
    ----------
    only
        Names or Ensembl ids of the genes that take part; empty: all of the model, or the variable ones.
    variable
        Take so many genes, those that vary most in the cells.
    neighbours
        An edge joins a gene with each of so many nearest others, by cosine. None: `NEIGHBOURS`, or any number where a
        threshold is given.
    threshold
        Leave edges of a smaller cosine out, above 0 and up to 1.
    resolution
        Of Leiden: more gives more and smaller metagenes. 20 is the default of scGPT's ``GeneEmbedding.get_adata``.
    min_genes
        Fewer genes make no metagene; 5 as in scGPT's tutorial.
    leiden_seed
        Of the order in which Leiden visits genes.
    by
        Column of ``obs``: metagenes are scored in each of its groups of cells.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    only: tuple[str, ...] = ()
    variable: int | None = None
    neighbours: int | None = None
    threshold: float | None = None
    resolution: float = 20.0
    min_genes: int = 5
    leiden_seed: int = 0
    by: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("variable", 2), ("neighbours", 1), ("min_genes", 1), ("leiden_seed", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least {least}.")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise OptionError(f"threshold is {self.threshold!r}; expected a cosine above 0 and up to 1, such as 0.4.")
        if not 0 < self.resolution < float("inf"):
            raise OptionError(f"resolution is {self.resolution!r}; expected a number above 0, such as 20.")
        if self.only and self.variable is not None:
            raise OptionError(
                "Genes by name and the most variable ones (--variable, variable) were both asked for. Give one of them."
            )

    @property
    def nearest(self) -> int | None:
        """Neighbours of each gene; None for any number above the threshold."""
        return NEIGHBOURS if self.neighbours is None and self.threshold is None else self.neighbours

    @property
    def of_cells(self) -> bool:
        """Whether cells are needed."""
        return self.variable is not None or self.by is not None
