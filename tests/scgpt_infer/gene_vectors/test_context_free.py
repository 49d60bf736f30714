"""The model's own embeddings of genes, against the reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_infer.gene_vectors import GeneOptions, context_free
from scgpt_infer.gene_vectors.context_free import embeddings
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.errors import BundleError, OptionError, ProviderError


@pytest.fixture(scope="module")
def expected(golden_files) -> np.ndarray:
    model = load(golden_files / "small_checkpoint").model()
    with torch.no_grad():
        found: np.ndarray = model.encoder(torch.arange(model.config.n_tokens)).numpy()
    return found


def test_all_genes_have_the_rows_of_the_reference(tiny_bundle, bundle, expected):
    found = context_free(tiny_bundle)
    tokens = bundle.vocabulary().tokens
    assert found.genes == tuple(name for name in tokens if not name.startswith("<"))
    np.testing.assert_allclose(found.vectors, expected[: len(found.genes)], atol=1e-6)
    assert found.cells is None
    assert found.record["precision"] == "fp32"


def test_genes_that_are_asked_for_come_in_that_order(tiny_bundle, bundle, expected):
    tokens = bundle.vocabulary().tokens
    found = context_free(tiny_bundle, GeneOptions(only=(tokens[40], tokens[3])))
    assert found.genes == (tokens[40], tokens[3])
    np.testing.assert_allclose(found.vectors, expected[[40, 3]], atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_has_its_id_and_is_close(tiny_bundle, expected, precision):
    found = context_free(tiny_bundle, options=EmbedOptions(precision=precision))
    np.testing.assert_allclose(found.vectors, expected[: len(found.genes)], atol=5e-3)
    assert found.record["precision"] == precision
    others = {context_free(tiny_bundle, options=EmbedOptions(precision=name)).record["vector_id"]
              for name in ("fp32", "fp16", "int8")}  # fmt: skip
    assert len(others) == 3


def test_a_precision_that_is_not_sealed_is_refused(tiny_bundle):
    with pytest.raises(ProviderError, match="no bf16 graph for genes"):
        context_free(tiny_bundle, options=EmbedOptions(precision="bf16"))


def test_an_older_bundle_says_how_to_get_them(bundle):
    graphs = tuple(graph for graph in bundle.manifest.graphs if graph.task != "genes")
    older = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
    with pytest.raises(BundleError, match="scgpt-infer export CHECKPOINT"):
        embeddings(older, np.arange(3), "fp32")


def test_groups_of_cells_are_not_for_it(tiny_bundle):
    with pytest.raises(OptionError, match="in_cells"):
        context_free(tiny_bundle, GeneOptions(by="kind"))
