"""A network as files: what other programs read is what was found; all files appear, or none."""

import csv
import json
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import schema
from scgpt_infer.networks import GeneNetwork, GroupScores
from scgpt_infer.networks.outputs import check_outputs, write
from scgpt_runtime.errors import GenesError, MissingDependencyError, OutputError

RECORD = {
    "version": "0.1.0",
    "model": "toy & <co>",
    "vector_id": "0" * 32,
    "dim": 4,
    "precision": "fp32",
    "network_from": "embeddings",
    "network_resolution": 20.0,
}
NAMES = ('quote"<&>', "B,comma", "tab\tand\x01control", "Dollar$x$", "E")


@pytest.fixture
def network() -> GeneNetwork:
    """Five genes in a circle with a chord; two metagenes, the second unknown to the cells."""
    ends = np.array([[0, 1], [1, 2], [0, 2], [3, 4], [2, 3]], np.int32)
    scores = np.array([[0.1, 0.3], [np.nan, np.nan]], np.float32)
    groups = GroupScores("kind", ("a", "b"), np.array([3, 4]), scores, np.array([[0, 1], [np.nan] * 2], np.float32))
    return GeneNetwork(
        NAMES,
        *ends.T,
        np.array([0.9, 0.8, 0.7, 0.6, 0.1], np.float32),
        False,
        RECORD,
        metagenes=np.array([1, 1, 1, 2, 2], np.int32),
        scores=groups,
    )


@pytest.fixture
def directed() -> GeneNetwork:
    ends = np.array([[0, 1], [0, 2]], np.int32)
    values = {"control": np.array([0.5, 0.25], np.float32), "against": np.array([1, np.nan], np.float32)}
    record = {**RECORD, "network_from": "attention"}
    return GeneNetwork(NAMES[:3], *ends.T, np.array([0.5, -0.2], np.float32), True, record, edge_values=values)


def written(network: GeneNetwork, path: Path) -> Path:
    write(network, check_outputs([path]))
    return path


def test_graphml_comes_back_in_igraph(network, tmp_path):
    igraph = pytest.importorskip("igraph")
    graph = igraph.Graph.Read_GraphML(str(written(network, tmp_path / "net.graphml")))
    assert graph.vs["name"] == [name.replace("\x01", "�") for name in NAMES]
    assert graph.vs["metagene"] == [1, 1, 1, 2, 2]
    assert np.array(graph.es["weight"], np.float32).tobytes() == network.weight.tobytes()
    assert [edge.tuple for edge in graph.es] == list(zip(network.source, network.target, strict=True))
    assert not graph.is_directed()
    assert graph["model"] == "toy & <co>"


def test_directed_graphml_has_the_values_of_its_edges_and_none_for_nan(directed, tmp_path):
    root = ElementTree.parse(written(directed, tmp_path / "net.graphml")).getroot()
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    assert root.find("g:graph", space).get("edgedefault") == "directed"
    assert [len(edge.findall("g:data", space)) for edge in root.iterfind("g:graph/g:edge", space)] == [3, 2]


def test_csv_has_an_edge_a_line_the_strongest_first(directed, tmp_path):
    with written(directed, tmp_path / "net.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["source", "target", "weight", "control", "against"],
        [NAMES[0], NAMES[1], "0.5", "0.5", "1.0"],
        [NAMES[0], NAMES[2], "-0.2", "0.25", ""],
    ]


@pytest.mark.parametrize("kind", ["network", "directed"])
def test_json_keeps_to_the_schema(kind, request, tmp_path):
    network = request.getfixturevalue(kind)
    text = written(network, tmp_path / "net.json").read_text(encoding="ascii")
    document = json.loads(text)
    Draft202012Validator(schema.schema()).validate(document)
    told = document["network"]
    assert [gene["gene"] for gene in told["genes"]] == list(network.genes)
    assert [edge["weight"] for edge in told["edges"]] == [float(str(weight)) for weight in network.weight]
    assert [entry["genes"] for entry in told["metagenes"]] == [list(genes) for genes in network.gene_lists.values()]
    assert document["run"]["network_from"] == network.record["network_from"]


def test_a_folder_has_everything(network, tmp_path):
    pytest.importorskip("igraph")
    pytest.importorskip("matplotlib")
    folder = written(network, tmp_path / "net")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("edges.csv", "genes.csv", "metagenes", "metagenes.gmt"),
        *("network.graphml", "network.json", "network.png", "network.svg", "run.json", "scores.csv"),
    ]
    assert [line.split("\t")[0] for line in (folder / "metagenes.gmt").read_text().splitlines()][1] == "metagene_2"
    assert (folder / "metagenes" / "metagene_2.txt").read_text().splitlines() == ["Dollar$x$", "E"]
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [
        ["metagene", "kind", "cells", "score", "scaled"],
        ["metagene_1", "a", "3", "0.1", "0.0"],
        ["metagene_1", "b", "4", "0.3", "1.0"],
    ]
    assert rows[3][3:] == ["", ""]


@pytest.mark.parametrize("kind", ["network", "directed"])
def test_pictures_are_the_same_each_time_and_show_every_name(kind, request, tmp_path):
    pytest.importorskip("igraph")
    pytest.importorskip("matplotlib")
    network = request.getfixturevalue(kind)
    for suffix in ("png", "svg"):
        first, again = (written(network, tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
        assert first == again
    width, height = struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24])
    assert min(width, height) > 200
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(name in drawn for name in ("quote", "B,comma", "tab and"))


def test_all_outputs_appear_or_none(network, tmp_path):
    bare = GeneNetwork(network.genes, network.source, network.target, network.weight, False, RECORD)
    with pytest.raises(GenesError, match="no metagene"):
        write(bare, check_outputs([tmp_path / "net.csv", tmp_path / "net.gmt"]))
    assert list(tmp_path.iterdir()) == []
    write(network, check_outputs([tmp_path / "net.csv", tmp_path / "net.gmt"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.csv", "net.gmt"]


def test_a_network_without_an_edge_is_an_error(tmp_path):
    none = np.zeros(0, np.int32)
    with pytest.raises(GenesError, match="no network to write"):
        write(GeneNetwork(("a", "b"), none, none, np.zeros(0, np.float32), False, RECORD), [tmp_path / "net.csv"])


def test_names_that_cannot_be_are_refused_before_the_work(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "folder.csv").mkdir()
    for wrong, told in {
        (): "No output",
        ("net.txt",): "networks go to .graphml",
        ("no/net.csv",): "does not exist",
        ("there",): "exists already",
        ("folder.csv",): "is not a file",
        ("net.csv", "net.csv"): "named twice",
    }.items():
        with pytest.raises(OutputError, match=told):
            check_outputs([tmp_path / name for name in wrong])


@pytest.mark.parametrize("package", ["igraph", "matplotlib"])
def test_a_package_that_draws_is_missed_before_the_work(package, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[networks\]"):
        check_outputs([tmp_path / "net.png"])
    assert check_outputs([tmp_path / "net.graphml"])
