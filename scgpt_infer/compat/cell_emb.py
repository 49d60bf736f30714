"""`embed_data`, with the signature of the original scGPT's: cells and a model in, an AnnData with ``X_scGPT`` out.

The model may be a bundle too. Everything that computes lies elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path

from anndata import AnnData, read_h5ad

from scgpt_infer import models
from scgpt_infer.compat.dataset import matched
from scgpt_infer.compat.device import place
from scgpt_infer.compat.told import tell
from scgpt_infer.compat.vectors import through
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import open_cells
from scgpt_infer.tasks.embed import Embedding
from scgpt_infer.writers.h5ad import RECORD
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.vocab import GeneMatch

__all__ = ["embed_data"]

KEY = "X_scGPT"


def embed_data(
    adata_or_file: AnnData | str | Path,
    model_dir: str | Path,
    gene_col: str = "feature_name",
    max_length: int = 1200,
    batch_size: int = 64,
    obs_to_save: str | Sequence[str] | None = None,
    device: object = "cuda",
    use_fast_transformer: bool = True,
    return_new_adata: bool = False,
) -> AnnData:
    """Embed cells, as ``scgpt.tasks.embed_data`` does.

    Parameters
    ----------
    adata_or_file
        Cells, with values in ``X``; an object, which is not changed, or the path of an ``.h5ad`` file.
    model_dir
        A checkpoint (folder or zip; exported once into the cache), a bundle (folder or zip), or ``demo``.
    gene_col
        Column of ``var`` with gene names or Ensembl ids, or ``index``.
    max_length
        Longest cell in tokens, ``<cls>`` counted.
    obs_to_save
        Columns of ``obs`` that a new AnnData gets.
    device
        ``cuda``, ``cuda:N`` or ``cpu``. ``cuda`` is the processor where no GPU can be used, with a warning.
    batch_size, use_fast_transformer
        Accepted, and without effect: batches are made by tokens.
    return_new_adata
        Return vectors instead of cells.

    Returns
    -------
    AnnData
        A copy of the cells with the genes that the model knows, ``obsm["X_scGPT"]``, (n_cells, dim) float32 of unit
        length, NaN for a cell that cannot be embedded, ``var["id_in_vocab"]``, and ``uns["scgpt_infer"]``, which says
        how it was made. With `return_new_adata` one whose ``X`` are the vectors, with the columns of `obs_to_save`.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`.
    """
    options = EmbedOptions(layer="X", gene_col=gene_col, min_match=0, max_length=max_length, key=KEY)
    _check_path(adata_or_file)
    with open_cells(adata_or_file, layer="X") as source:
        columns = _columns(obs_to_save, source.cell_columns)
        bundle = models.resolve(model_dir)
        if bundle.manifest.key != KEY:
            tell(f"{KEY} holds vectors of the model {bundle.manifest.name}, which are not scGPT's.")
        match = matched(source, bundle.vocabulary(), gene_col)
        provider, number = place(device)
        engine_options = EngineOptions(provider=provider, device=number, max_length=max_length)
        with Engine.open(bundle, engine_options, cache_dir=models.lasting_cache()) as engine:
            sink = through(engine, source, match, options, Embedding(), bundle.manifest.dim)
    cells = adata_or_file if isinstance(adata_or_file, AnnData) else read_h5ad(adata_or_file)
    if return_new_adata:
        return AnnData(X=sink.vectors, obs=cells.obs[columns].copy(), uns={RECORD: dict(sink.record)})
    found = _known(cells, match)
    found.obsm[KEY] = sink.vectors
    found.uns[RECORD] = dict(sink.record)
    return found


def _known(cells: AnnData, match: GeneMatch) -> AnnData:
    """A copy with the genes that the model knows."""
    known = match.columns >= 0
    whole = cells.to_memory() if cells.isbacked and cells.is_view else cells  # anndata makes no view of such a view
    found = whole[:, known].to_memory(copy=True)
    found.var["id_in_vocab"] = match.columns[known]
    return found


def _check_path(cells: AnnData | str | Path) -> None:
    if isinstance(cells, (str, Path)) and Path(cells).suffix.lower() != ".h5ad":
        raise CellsError(
            f"{cells} is no .h5ad file, and what is returned is made of one. Read it into an AnnData, and pass that; "
            "or embed it with scgpt_infer.embed_file."
        )


def _columns(asked: str | Sequence[str] | None, there: Sequence[str]) -> list[str]:
    columns = [asked] if isinstance(asked, str) else list(asked or ())
    missing = [name for name in columns if name not in there]
    if missing:
        raise OptionError(f"obs has no column {missing[0]!r} of obs_to_save; it has {', '.join(there) or 'none'}.")
    return columns
