from dataclasses import replace

import pytest

import toy_bundle as toy
from scgpt_infer.abilities import abilities, require
from scgpt_runtime.errors import BundleError
from scgpt_runtime.manifest import GraphRecord, TensorSpec


def with_tasks(*tasks, **changes):
    (graph,) = toy.manifest().graphs
    return replace(toy.manifest(), graphs=tuple(replace(graph, task=task) for task in tasks), **changes)


def test_a_pretrained_model_can_do_what_its_graphs_allow():
    manifest = with_tasks("embed", "tokens", "genes", "expression", "mvc")
    assert abilities(manifest) == ("embed", "annotate", "integrate", "impute", "grn", "genes")
    for command in abilities(manifest):
        require(manifest, command)


@pytest.mark.parametrize(
    ("command", "lacks"), [("perturb", "perturbation generator"), ("multiomic", "modalities"), ("impute", "head")]
)
def test_the_error_names_what_is_lacking_and_what_the_bundle_can_do(command, lacks):
    with pytest.raises(BundleError, match=rf"{command} needs .*{lacks}.*It can embed, annotate, integrate, grn, gen"):
        require(with_tasks("embed", "genes"), command)


def test_a_generator_perturbs_and_nothing_else():
    manifest = with_tasks("perturb", "classify", "mvc")
    assert abilities(manifest) == ("perturb",)
    with pytest.raises(BundleError, match="It can perturb"):
        require(manifest, "embed")


def test_a_model_with_batch_labels_is_for_integrate():
    (graph,) = toy.manifest().graphs
    wanting: GraphRecord = replace(graph, inputs=(*graph.inputs, TensorSpec("batch", "int32", ("cells",))))
    manifest = replace(toy.manifest(), graphs=(wanting,))
    assert abilities(manifest) == ("integrate",)
    with pytest.raises(BundleError, match=r"integrate with --batch"):
        require(manifest, "annotate")


def test_a_bundle_with_modalities_is_multiomic():
    assert "multiomic" in abilities(with_tasks("embed", modalities=("Protein", "RNA")))
