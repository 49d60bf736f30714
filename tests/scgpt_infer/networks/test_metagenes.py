"""Metagenes: the groups that are there, numbered by size, the same each time."""

import random
import sys

import numpy as np
import pytest

from scgpt_infer.networks.metagenes import metagenes, seeded_igraph
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.networks.similarity import Edges, near_edges, unit
from scgpt_runtime.errors import MissingDependencyError

pytest.importorskip("igraph")


@pytest.fixture(scope="module")
def groups() -> tuple[Edges, np.ndarray]:
    """Edges of genes around three centres, and the centre of each: 8, 20 and 12 genes, then 3 by themselves."""
    random_numbers = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2, 3], [8, 20, 12, 3])
    centres = 4 * random_numbers.normal(size=(4, 16))
    vectors = centres[truth] + random_numbers.normal(size=(len(truth), 16))
    return near_edges(unit(vectors.astype(np.float32)), 5, 0.5), truth


def test_groups_are_found_and_numbered_by_size(groups):
    edges, truth = groups
    found = metagenes(edges, len(truth), 1.0, 5, 0)
    assert found.tolist() == np.array([3, 1, 2, 0])[truth].tolist()


def test_a_seed_gives_the_same_groups_and_leaves_the_callers_draws_alone(groups):
    edges, truth = groups
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = metagenes(edges, len(truth), 20.0, 2, 3)
    assert random.random() == expected
    assert metagenes(edges, len(truth), 20.0, 2, 3).tobytes() == first.tobytes()


def test_genes_that_no_edge_joins_are_in_no_metagene():
    none = np.zeros(0, np.int32)
    found = metagenes(Edges(none, none, np.zeros(0, np.float32)), 6, 1.0, 2, 0)
    assert found.tolist() == [0] * 6


def test_lists_begin_with_the_genes_that_are_joined_most():
    ends = np.array([[0, 1], [1, 2], [1, 3], [4, 5], [0, 4]], np.int32)
    network = GeneNetwork(
        tuple("abcdef"), *ends.T, np.ones(5, np.float32), False, {}, metagenes=np.array([1, 1, 1, 1, 2, 2], np.int32)
    )
    assert network.gene_lists == {"metagene_1": ("b", "a", "c", "d"), "metagene_2": ("e", "f")}


def test_without_igraph_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[networks\]"), seeded_igraph(0):
        pass
