"""Networks from the embeddings of genes: the model's own, chosen by name or by cells, and scored in groups."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scgpt_infer
from scgpt_infer.gene_vectors import GeneOptions, context_free
from scgpt_infer.networks import EmbeddingNetworkOptions
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, CellsError, GenesError, OptionError

pytest.importorskip("igraph")

PLAIN = EmbedOptions(provider="cpu", precision="fp32")
N_CELLS = 50


@pytest.fixture(scope="session")
def names(tiny_bundle) -> list[str]:
    tokens = Bundle.open(tiny_bundle).vocabulary().tokens
    return [name for name in tokens if not name.startswith("<")][5:125]


@pytest.fixture
def cells(names) -> ad.AnnData:
    random = np.random.default_rng(0)
    dense = random.poisson(random.gamma(0.6, 2.0, 122), (N_CELLS, 122)).astype(np.float32)
    obs = pd.DataFrame({"kind": ["a", "b"] * (N_CELLS // 2)}, [f"cell-{row}" for row in range(N_CELLS)])
    return ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[*names, "unknown-1", "unknown-2"]))


def test_edges_are_the_cosines_of_the_models_own_embeddings(tiny_bundle, names):
    how = EmbeddingNetworkOptions(only=tuple(names), neighbours=3)
    network = scgpt_infer.grn(model=tiny_bundle, how=how, options=PLAIN)
    own = context_free(tiny_bundle, GeneOptions(tuple(names)), PLAIN)
    vectors = own.vectors / np.linalg.norm(own.vectors, axis=1, keepdims=True)
    assert network.genes == own.genes == tuple(names)
    expected = (vectors[network.source] * vectors[network.target]).sum(axis=1)
    np.testing.assert_allclose(network.weight, expected, atol=1e-6)
    assert not network.directed
    assert network.record["vector_id"] == own.record["vector_id"]
    assert network.record["network_neighbours"] == 3


def test_the_same_call_gives_the_same_network(tiny_bundle, names):
    how = EmbeddingNetworkOptions(only=tuple(names))
    first, again = (scgpt_infer.grn(model=tiny_bundle, how=how, options=PLAIN) for _ in range(2))
    assert first.weight.tobytes() == again.weight.tobytes()
    assert first.gene_lists == again.gene_lists
    assert first.record == again.record


def test_a_threshold_alone_takes_all_pairs_that_reach_it(tiny_bundle, names):
    how = EmbeddingNetworkOptions(only=tuple(names), threshold=0.2)
    network = scgpt_infer.grn(model=tiny_bundle, how=how, options=PLAIN)
    assert network.weight.min() >= 0.2
    assert "network_neighbours" not in network.record


def test_cells_choose_variable_genes_and_tell_scores_of_groups(tiny_bundle, names, cells):
    how = EmbeddingNetworkOptions(variable=40, by="kind", min_genes=3, resolution=1.0)
    network = scgpt_infer.grn(cells, model=tiny_bundle, how=how, options=PLAIN)
    assert len(network.genes) == 40
    assert set(network.genes) <= set(names)
    assert network.gene_lists
    assert network.scores.groups == ("a", "b")
    assert network.scores.scores.shape == (len(network.gene_lists), 2)
    assert np.isfinite(network.scores.scores).all()
    assert network.record["n_cells"] == N_CELLS


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbours": 0},
        {"variable": 1},
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"resolution": -1.0},
        {"min_genes": True},
        {"only": ("A", "B"), "variable": 10},
    ],
)
def test_options_that_cannot_be_are_refused_when_they_are_made(wrong):
    with pytest.raises(OptionError):
        EmbeddingNetworkOptions(**wrong)


def test_bad_input_is_told(tiny_bundle, names, cells):
    def found(what=None, **how):
        return scgpt_infer.grn(what, model=tiny_bundle, how=EmbeddingNetworkOptions(**how), options=PLAIN)

    with pytest.raises(GenesError, match="knows 1 of the genes that were asked for"):
        found(only=(names[0], "FOO"))
    with pytest.raises(GenesError, match="knows none of the genes"):
        found(only=("FOO", "BAR"))
    with pytest.raises(OptionError, match="no file of cells"):
        found(variable=20)
    with pytest.raises(OptionError, match="nothing is asked of them"):
        found(cells)
    with pytest.raises(CellsError, match="no column 'tissue'"):
        found(cells, by="tissue")


def test_a_bundle_without_embeddings_of_genes_tells_what_it_can_do(toy_model):
    with pytest.raises(BundleError, match=r"grn needs.*It can embed"):
        scgpt_infer.grn(model=toy_model)
