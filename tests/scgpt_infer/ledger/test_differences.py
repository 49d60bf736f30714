"""Which plans are of the same work, what is said where they are not, and what is told and refuses nothing."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from scgpt_infer.job import _address
from scgpt_infer.ledger.made_on import told_apart
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.ledger.readying import make_ready


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "cells.h5ad"
    path.write_bytes(b"cells")
    return Plan(
        origin=Origin.of([path]),
        n_cells=5000,
        range_rows=1024,
        dim=64,
        dtype="float32",
        key="X_scGPT",
        prefix="scgpt_",
        kind="cell_types",
        facts={"vector_id": "v", "min_match": 0.1, "annotation_reference": "ref", "annotation_reference_sha256": "r"},
        asked={"how": {"k": 3, "batches": {"batch": "day", "batch_map": {}}}},
        made_on={"processor": "one", "onnxruntime": "1"},
    )


def test_what_changes_no_row_is_no_difference(plan, tmp_path):
    link = tmp_path / "by-another-name.h5ad"
    link.symlink_to(tmp_path / "cells.h5ad")
    facts = {**plan.facts, "min_match": 0.2, "annotation_reference": "moved"}
    assert plan.differences(replace(plan, origin=Origin.of([link]), facts=facts, made_on={})) == []
    facts["annotation_reference_sha256"] = "s"
    assert plan.differences(replace(plan, facts=facts)) == ["annotation_reference_sha256 r instead of s"]


def test_a_nested_option_is_named_alone(plan):
    asked = {"how": {"k": 5, "batches": {"batch": "lane", "batch_map": {"a": "b"}}}}
    assert plan.differences(replace(plan, asked=asked)) == [
        "how.batches.batch day instead of lane",
        "how.batches.batch_map.a None instead of b",
        "how.k 3 instead of 5",
    ]


@pytest.mark.parametrize(("one", "other"), [("x" * 100 + "one" + "y" * 100, "x" * 100 + "two"), ("x" * 70, "x" * 71)])
def test_of_long_values_the_part_that_differs_is_shown(plan, one, other):
    (said,) = replace(plan, asked={"where": one}).differences(replace(plan, asked={"where": other}))
    left, right = said.removeprefix("where ").split(" instead of ")
    assert left != right
    assert max(len(left), len(right)) < 70


def test_another_machine_goes_on_with_a_warning(plan, tmp_path, caplog):
    folder = tmp_path / "x.npy.parts"
    folder.mkdir()
    plan.write(folder)
    (folder / "ledger.jsonl").write_text(
        '{"first_row":0,"n_cells":1024,"n_bad":0,"sha256":"0","size":1,"longest":1,"batch_tokens":1}\n'
    )
    with caplog.at_level(logging.WARNING):
        make_ready(folder, plan, None, True, lambda line: None)
        assert not caplog.records
        make_ready(folder, replace(plan, made_on={"processor": "two", "openvino": "3"}), None, True, lambda line: None)
    assert "processor one | two" in caplog.text
    assert told_apart({"a": "1"}, {"b": "2"}) == []


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ({"census_version": "2025-01-30", "organism": "homo_sapiens"}, "census:2025-01-30"),
        ({"uri": "s3://bucket/atlas", "census_version": "2025-01-30"}, "s3://bucket/atlas"),
    ],
)
def test_cells_of_elsewhere_are_kept_by_their_address(plan, origin, address):
    (found,) = _address(SimpleNamespace(origin=origin, joinids=range))
    assert Origin.of([found]).paths == (address,)
    assert Origin.of([found]).size == 0
    assert _address(object()) == ()
