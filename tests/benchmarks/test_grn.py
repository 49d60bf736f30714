"""benchmarks/grn.py: families are what their names say, and edges within them are counted right."""

import numpy as np

from benchmarks import grn
from scgpt_infer.networks.similarity import Edges

GENES = [
    *("RPL3", "RPL13A", "RPS4X", "RPSA", "RPLP1", "RPS6KA1", "RPL5"),
    *("MT-ND1", "MT-ND4L", "MT-RNR1", "HLA-A", "HLA-B", "HLA-DRA", "IFIT1", "ISG15", "CD3D", "CD3EAP", "LYZ"),
]


def test_families_hold_their_members_and_not_their_namesakes():
    found = {name: [GENES[place] for place in places] for name, places in grn.families(GENES).items()}
    assert found == {
        "ribosomal proteins": ["RPL3", "RPL13A", "RPS4X", "RPSA", "RPLP1", "RPL5"],
        "mitochondrial genome": ["MT-ND1", "MT-ND4L"],
        "HLA class I": ["HLA-A", "HLA-B"],
        "interferon response": ["IFIT1", "ISG15"],
    }


def test_edges_within_families_are_counted_with_and_without_the_largest():
    ends = np.array([[0, 1], [0, 4], [0, 5], [7, 8], [7, 10], [10, 11]], np.int32)
    edges = Edges(*ends.T, np.linspace(0.9, 0.4, 6).astype(np.float32))
    told = grn.judged(edges, grn.families(GENES), len(GENES), 5)
    pairs, possible = 15 + 1 + 1 + 1, len(GENES) * (len(GENES) - 1) / 2
    assert told["all"]["within"] == 3
    assert np.isclose(told["all"]["at random"], 5 * pairs / possible)
    assert told["without ribosomal"]["within"] == 1
    assert told["pairs"]["ribosomal proteins"] == [2, 15]
    assert told["pairs"]["HLA class I"] == [0, 1]


def test_the_best_metagene_of_a_family_is_found():
    groups = np.zeros(len(GENES), np.int32)
    groups[[0, 1, 2, 17]] = 2
    groups[3] = 1
    assert grn.held_together(groups, grn.families(GENES)) == {"ribosomal proteins": [3, 4, 6]}
