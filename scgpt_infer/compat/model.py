"""`scGPT`: cells made ready by `process_data`, vectors by `get_embeddings`, the calls that scripts of the wrapper make.

In: a configuration, AnnData objects. Out: arrays. Everything that computes lies elsewhere.
"""

import logging
from typing import Any

from anndata import AnnData

from scgpt_infer import models
from scgpt_infer.compat.config import scGPTConfig
from scgpt_infer.compat.dataset import Dataset, prepare
from scgpt_infer.compat.device import place
from scgpt_infer.compat.genes import GeneVectors, genes_of
from scgpt_infer.compat.told import tell
from scgpt_infer.compat.vectors import through
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.tasks.embed import Embedding
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import OptionError
from scgpt_runtime.folds import MaskedMean

__all__ = ["scGPT"]

_NO_MODEL = (
    "No model was named, so this is demo, a small model that shows how things are done; its vectors are not scGPT's. "
    'Name one: scGPTConfig(model="scGPT_CP"), a checkpoint folder or a bundle.'
)

_log = logging.getLogger(__name__)


class scGPT:  # noqa: N801 - the name that scripts import
    """A model behind the calls of the wrapper that the scGPT model card shows.

    Parameters
    ----------
    configurer
        Which model, and how; see `scGPTConfig`.
    model_config
        The same, by its older name.

    Attributes
    ----------
    config
        What it was configured with.

    Raises
    ------
    ScgptInferError
        When the model cannot be opened; see `scgpt_infer.errors`.

    Examples
    --------
    >>> scgpt = scGPT(configurer=scGPTConfig(model="scGPT_CP"))     # doctest: +SKIP
    >>> embeddings = scgpt.get_embeddings(scgpt.process_data(adata))
    """

    def __init__(self, configurer: scGPTConfig | None = None, *, model_config: scGPTConfig | None = None) -> None:
        self.config = configurer or model_config or scGPTConfig()
        if not isinstance(self.config, scGPTConfig):
            raise OptionError(f"configurer is a {type(self.config).__name__}; expected a scGPTConfig.")
        if self.config.model is None:
            tell(_NO_MODEL)
        bundle = models.resolve("demo" if self.config.model is None else self.config.model)
        differing = self.config.differences(bundle.manifest)
        if differing:
            tell(f"The model {bundle.manifest.name} is what it is; without effect: {', '.join(differing)}.")
        self._engine = _opened(bundle, self.config)

    @property
    def vector_id(self) -> str:
        """Id that the vectors of two models must share to be comparable."""
        return self._engine.vector_id

    def process_data(
        self,
        adata: AnnData,
        gene_names: str = "index",
        fine_tuning: bool = False,
        n_top_genes: int = 1800,
        flavor: str = "seurat_v3",
        use_batch_labels: bool = False,
        use_raw_counts: bool = True,
    ) -> Dataset:
        """Make cells ready. They are referred to, and neither copied nor changed.

        Parameters
        ----------
        adata
            Cells, with values in ``X``.
        gene_names
            Column of ``var`` with gene names or Ensembl ids, or ``index``.
        fine_tuning, use_batch_labels
            Must be false; the error says what to do instead.
        n_top_genes, flavor
            Of fine-tuning; accepted.
        use_raw_counts
            Refuse values that are not whole numbers.

        Raises
        ------
        OptionError
            With `fine_tuning` or `use_batch_labels`.
        CellsError
            When the cells cannot be used.
        GenesError
            When no gene is known.
        """
        if fine_tuning:
            raise OptionError(
                "fine_tuning=True makes data for training scGPT, which is not done here. Teach the model cell types "
                "from labelled cells without training it: scgpt-infer learn."
            )
        if use_batch_labels:
            raise OptionError(
                "use_batch_labels=True: embeddings take no batch labels. Leave it out; put the batches into obs, and "
                "integrate the embeddings afterwards."
            )
        return prepare(adata, gene_names, self._engine.bundle, use_raw_counts)

    def get_embeddings(
        self, dataset: Dataset, output_attentions: bool = False, output_genes: bool = False, attn_layer: int = -1
    ) -> Any:
        """Embed cells, in their order.

        Parameters
        ----------
        dataset
            From `process_data`.
        output_attentions, attn_layer
            Attention maps are not given here; the first must be false.
        output_genes
            Return the genes that the model saw of each cell too.

        Returns
        -------
        numpy.ndarray
            With ``emb_mode`` ``cls`` or ``cell``: (n_cells, dim) float32 of unit length, NaN for a cell that cannot be
            embedded.
        list of pandas.Series
            With ``emb_mode`` ``gene``: for each cell from gene name to (dim,) float32 of unit length, empty for a cell
            that cannot be embedded.
        tuple
            With `output_genes`: one of these, and for each cell a list of gene names, in ascending order of their
            token ids.

        Raises
        ------
        OptionError
            With `output_attentions`, or when the dataset is another model's.
        CellsError
            When no cell can be embedded, or the cells have changed.
        """
        if output_attentions:
            raise OptionError("output_attentions=True: attention maps are not given here. Leave it out.")
        if not isinstance(dataset, Dataset):
            raise OptionError(f"dataset is a {type(dataset).__name__}; expected what process_data returns.")
        dataset.check(self._engine.bundle)
        with open_cells(dataset.cells, layer="X") as source:
            found = self._vectors(dataset, source)
            return (found, genes_of(self._engine, source, dataset.match.columns)) if output_genes else found

    def _vectors(self, dataset: Dataset, source: CellSource) -> Any:
        """What `get_embeddings` gives, by ``emb_mode``."""
        options = EmbedOptions(layer="X", gene_col=dataset.match.source, min_match=0)
        if self.config.emb_mode == "gene":
            kept = GeneVectors(self._engine.vocabulary.tokens)
            through(self._engine, source, dataset.match, options, kept, None)
            return kept.cells
        dim = self._engine.bundle.manifest.dim
        return through(self._engine, source, dataset.match, options, Embedding(), dim).vectors


def _opened(bundle: Bundle, config: scGPTConfig) -> Engine:
    """The graph that answers what the configuration asks for."""
    provider, device = place(config.device)
    return Engine.open(
        bundle,
        EngineOptions(provider=provider, device=device, seed=config.seed),
        task="embed" if config.emb_mode == "cls" else "tokens",
        cache_dir=models.lasting_cache(),
        say=_log.info,
        fold=MaskedMean() if config.emb_mode == "cell" else None,
    )
