"""Teaching from end to end: the bundle that comes out annotates, and differs from its base in the head alone."""

import json
import sys
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import scgpt_infer
import toy_bundle
from scgpt_infer import api
from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.learning import LearnOptions, learn
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle, pack, seal
from scgpt_runtime.errors import CellsError, GenesError, MissingDependencyError, OptionError, OutputError
from scgpt_runtime.manifest import ParityRecord

BY_DONOR = LearnOptions(by="donor")
ON_CPU = EmbedOptions(provider="cpu")


@pytest.fixture
def taught(file, toy_model, tmp_path):
    """A taught bundle and what was told of it."""
    return learn(file, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU, how=BY_DONOR), tmp_path / "taught"


def test_a_taught_bundle_annotates(taught, labelled):
    found, bundle = taught
    cells = api.annotate(labelled, model=bundle, options=ON_CPU)
    assert (cells.obs["scgpt_label"].astype(str) == labelled.obs["kind"]).mean() > 0.95
    assert found.held_out.accuracy > 0.95
    assert (found.taught.folds, found.taught.groups, found.taught.cells) == (4, 4, 240)


def test_vectors_and_their_id_stay_those_of_the_base(taught, labelled, toy_model, tmp_path):
    base, new = Bundle.open(toy_model).manifest, Bundle.open(taught[1]).manifest
    assert (new.weights, new.vector_ids) == (base.weights, base.vector_ids)
    assert (new.name, new.labels) == ("taught", ("a", "b", "c"))
    before, after = (scgpt_infer.embed(labelled, model=model, provider="cpu") for model in (toy_model, taught[1]))
    np.testing.assert_array_equal(before.obsm["X_scGPT"], after.obsm["X_scGPT"])
    assert before.uns["scgpt_infer"]["vector_id"] == after.uns["scgpt_infer"]["vector_id"]
    before.write_h5ad(tmp_path / "embedded.h5ad")
    told = api.annotate_file(tmp_path / "embedded.h5ad", tmp_path / "out.h5ad", taught[1], ON_CPU)
    assert "lay with the cells" in told.summary.why


def test_what_a_bundle_tells_of_its_head_is_what_was_measured(taught):
    found, bundle = taught
    told = Bundle.open(bundle).manifest.taught
    assert told == found.taught
    assert told.vector_id == found.taught.vector_id != ""
    assert told.accuracy == found.held_out.accuracy
    assert [one.cells for one in told.classes] == [80, 80, 80]
    assert len(told.file) == len(told.vectors) == 64


def test_the_same_cells_give_the_same_bytes(file, toy_model, tmp_path):
    folders = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folders.append(tmp_path / name / "taught")
        learn(file, "kind", folders[-1], model=toy_model, options=ON_CPU, how=BY_DONOR)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == second


def test_a_classifier_that_was_there_is_replaced(taught, file, tmp_path):
    base = taught[1]
    how = LearnOptions(ignore=("c",))
    learn(file, "kind", tmp_path / "again", model=base, options=ON_CPU, how=how)
    again = Bundle.open(tmp_path / "again")
    assert again.manifest.labels == ("a", "b")
    assert [graph.task for graph in again.manifest.graphs].count("classify") == 1
    assert again.graph("classify", "fp32").outputs[0].shape == ("cells", 2)


def test_figures_of_a_fine_tuned_classifier_go_with_it_and_so_do_its_files(file, tmp_path):
    base = toy_bundle.write(tmp_path / "base")
    (base / "graphs" / "old.onnx").write_bytes(toy_bundle.model(external="old.bin").SerializeToString())
    np.ones(toy_bundle.DIM, np.float32).tofile(base / "graphs" / "old.bin")
    (embed,) = toy_bundle.manifest().graphs
    graphs = (embed, replace(embed, task="classify", path="graphs/old.onnx"))
    parity = tuple(ParityRecord(task, "fp32", "X 1", "relative", 0.0, 1.0, 16) for task in ("embed", "classify"))
    seal(base, toy_bundle.manifest(graphs=graphs, parity=parity, labels=("old",)))
    learn(file, "kind", tmp_path / "taught", model=base, options=ON_CPU)
    manifest = Bundle.open(tmp_path / "taught").manifest
    assert [record.task for record in manifest.parity] == ["embed"]
    names = {record.path for record in manifest.files}
    assert names == {
        "golden.npz",
        "graphs/classify.taught.onnx",
        "graphs/embed.onnx",
        "graphs/weights.bin",
        "vocab.json",
    }


def test_zips_in_and_out(file, toy_model, tmp_path):
    pack(toy_model, tmp_path / "toy.zip")
    learn(file, "kind", tmp_path / "taught.zip", model=tmp_path / "toy.zip", options=ON_CPU)
    assert Bundle.open(tmp_path / "taught.zip").manifest.name == "taught"


def test_cells_in_memory(labelled, toy_model, tmp_path):
    found = learn(labelled, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU)
    assert found.taught.file == ""
    assert "share donors" in found.notes[0]


def test_vectors_that_lie_with_the_cells_are_taken(labelled, toy_model, tmp_path):
    embedded = scgpt_infer.embed(labelled, model=toy_model, provider="cpu")
    how = LearnOptions(exclude=(("donor", "d1"),))
    one = learn(embedded, "kind", tmp_path / "one", model=toy_model, options=ON_CPU, how=how)
    other = learn(labelled, "kind", tmp_path / "other", model=toy_model, options=ON_CPU, how=how)
    assert "lay with the cells" in one.vectors_from
    assert "lay with the cells" not in other.vectors_from
    assert one.taught.vectors == other.taught.vectors


def test_a_cell_that_cannot_be_embedded_teaches_nothing(labelled, toy_model, tmp_path):
    labelled.X = labelled.X.multiply(np.arange(240)[:, None] != 7).tocsr()
    found = learn(labelled, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU)
    assert found.taught.left_out == {"no embedding": 1}
    assert found.taught.cells == 239


def test_classes_that_one_donor_alone_has_are_named(labelled, toy_model, tmp_path):
    others = np.where(np.arange(240) % 2, "b", "e")
    labelled.obs["kind"] = np.where(labelled.obs["donor"] == "d0", labelled.obs["kind"], others)
    found = learn(labelled, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU, how=BY_DONOR)
    assert any("in one donor alone: a, c" in note for note in found.notes)


def test_settings_that_the_bundle_does_not_have_are_named(file, toy_model, tmp_path):
    options = EmbedOptions(provider="cpu", max_length=12, seed=3)
    found = learn(file, "kind", tmp_path / "taught", model=toy_model, options=options)
    assert any("(max_length, seed): annotate with the same" in note for note in found.notes)
    assert found.taught.vector_id not in Bundle.open(tmp_path / "taught").manifest.vector_ids.values()


def test_json_is_whole(taught):
    told = json.loads(taught[0].to_json())
    assert told["taught"]["classes"][0]["label"] == "a"
    assert told["held_out"]["accuracy"] == told["taught"]["accuracy"]
    assert told["tried"][0] == {"c": 0.01, "log_loss": taught[0].tried[0.01]}


def test_refused_before_any_work(file, toy_model, tmp_path, monkeypatch):
    ask = {"model": toy_model, "options": ON_CPU}
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        learn(file, "kind", tmp_path / "there", **ask)
    with pytest.raises(OutputError, match=r"The folder .* does not exist"):
        learn(file, "kind", tmp_path / "no" / "taught", **ask)
    with pytest.raises(CellsError, match=r"no column 'type'; it has kind, donor, assay"):
        learn(file, "type", tmp_path / "taught", **ask)
    with pytest.raises(CellsError, match="needs two classes, and the cells have 1"):
        learn(file, "assay", tmp_path / "taught", **ask)
    with pytest.raises(OptionError, match="All 240 cells have the value '10x' in column 'assay'"):
        learn(file, "kind", tmp_path / "taught", **ask, how=LearnOptions(by="assay"))
    with pytest.raises(OptionError, match=r"--ignore .* names 'd', which no cell has in column 'kind'; it has a, b, c"):
        learn(file, "kind", tmp_path / "taught", **ask, how=LearnOptions(ignore=("d",)))
    with pytest.raises(OptionError, match=r"--exclude .* names 'd9'"):
        learn(file, "kind", tmp_path / "taught", **ask, how=LearnOptions(exclude=(("donor", "d9"),)))
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"scgpt-infer\[annotate\]\""):
        learn(file, "kind", tmp_path / "taught", **ask)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reference", "there"]


def test_cells_without_a_vector_teach_nothing(labelled, toy_model, tmp_path):
    labelled.X = labelled.X * 0
    with pytest.raises(CellsError, match="None of the 240 cells has an embedding"):
        learn(labelled, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU)
    labelled.var_names = [f"other-{i}" for i in range(labelled.n_vars)]
    with pytest.raises(GenesError):
        learn(labelled, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU)


def test_judging_a_taught_head_on_other_cells(taught, file, tmp_path):
    how = AnnotateOptions(truth="kind", by=("donor",))
    told = api.annotate_file(file, tmp_path / "out.h5ad", taught[1], ON_CPU, how)
    assert told.evaluation.accuracy > 0.95
    assert "scgpt_confidence" in ad.read_h5ad(tmp_path / "out.h5ad").obs
