"""Cells made ready for a wrapper's model: `Dataset`, from `prepare`.

In: cells, a column of gene names, a vocabulary. Out: the cells themselves, and which token each of their genes is. It
copies and changes nothing of them.
"""

from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from scgpt_infer.compat.told import tell
from scgpt_infer.options import MIN_MATCH
from scgpt_infer.readers import CellSource, open_cells
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.vocab import GeneMatch, Vocabulary, choose

__all__ = ["Dataset", "matched", "prepare"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Dataset:
    """Cells and the tokens of their genes. It refers to the cells: they must not change before they are embedded.

    Attributes
    ----------
    cells
        What was given, unchanged.
    match
        The token of each of its genes.
    model
        Name of the model that it was made for.
    vocabulary
        sha256 of that model's vocabulary.
    shape
        Cells and genes when it was made.
    """

    cells: AnnData
    match: GeneMatch
    model: str
    vocabulary: str
    shape: tuple[int, int]

    def check(self, bundle: Bundle) -> None:
        """Make sure that it is what it was, and is for a model.

        Raises
        ------
        OptionError
            When the model has another vocabulary.
        CellsError
            When cells or genes have come or gone.
        """
        if bundle.sha256("vocab.json") != self.vocabulary:
            raise OptionError(
                f"The dataset was made for the model {self.model}, and {bundle.manifest.name} has other genes. "
                "Make it with process_data of the model that shall embed it."
            )
        now = (self.cells.n_obs, self.cells.n_vars)
        if now != self.shape:
            raise CellsError(
                f"The cells have changed since process_data: {self.shape[0]:,} cells and {self.shape[1]:,} genes then, "
                f"{now[0]:,} and {now[1]:,} now. Call process_data again."
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        known = f"{self.match.n_matched:,} of {self.match.n_columns:,} genes known"
        return f"<Dataset of {len(self):,} cells for {self.model}: {known}>"


def prepare(cells: AnnData, gene_col: str, bundle: Bundle, counts_only: bool) -> Dataset:
    """Check cells, and find the token of each of their genes.

    Parameters
    ----------
    cells
        Cells with values in ``X``; a view or a backed object will do.
    gene_col
        Column of ``var`` with gene names or Ensembl ids, or ``index``.
    bundle
        The model that shall embed them.
    counts_only
        Refuse values that are not whole numbers; about 1,000 cells spread over all are looked at.

    Raises
    ------
    CellsError
        When there is no such column, nothing in ``X`` can be embedded, or its values are no counts.
    GenesError
        When no gene is known.
    """
    if isinstance(cells, (str, Path)):
        raise CellsError(
            f"adata is a path; expected an AnnData object. Read it first: anndata.read_h5ad({str(cells)!r})."
        )
    with open_cells(cells, layer="X") as source:
        if counts_only and source.values != "integer":
            raise CellsError(
                f"X holds {source.values} values, and use_raw_counts=True expects counts. Pass use_raw_counts=False: "
                "values that were only normalised or logged give the same vectors. Or put the counts into X."
            )
        match = matched(source, bundle.vocabulary(), gene_col)
    return Dataset(cells, match, bundle.manifest.name, bundle.sha256("vocab.json"), (cells.n_obs, cells.n_vars))


def matched(source: CellSource, vocabulary: Vocabulary, gene_col: str) -> GeneMatch:
    """The token of each gene, by exact name or Ensembl id. One known gene is enough, as in the originals; few are told.

    Raises
    ------
    CellsError
        When there is no such column.
    GenesError
        When no gene is known.
    """
    source.gene_column(gene_col)
    match = choose(source.gene_names, vocabulary, "exact", gene_col, min_match=0)
    if match.n_matched < MIN_MATCH * min(match.n_columns, len(vocabulary)):
        tell(f"Few genes are known to the model, so the vectors may mean little. {match.report()}")
    return match
