"""The JSON Schema: its examples keep to it, and what a reader may rely on cannot be broken unseen."""

import copy
import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from scgpt_infer import schema
from scgpt_infer.writers.sink import Kind

WHOLE = schema.schema()
EXAMPLES = {example["kind"]: example for example in WHOLE["examples"]}
CHECK = Draft202012Validator(WHOLE)


def changed(kind: str, change) -> dict:
    document = copy.deepcopy(EXAMPLES[kind])
    change(document)
    return document


def test_it_is_a_schema_and_names_its_version():
    Draft202012Validator.check_schema(WHOLE)
    assert WHOLE["$defs"]["schema"]["const"] == schema.NAME
    assert schema.PATH.name == f"{schema.NAME.replace('/', '-')}.schema.json"
    assert WHOLE["$id"].endswith(f":{schema.NAME.partition('/')[2]}")
    assert [*schema.KINDS, *schema.WITHOUT_CELLS] == WHOLE["$defs"]["kind"]["enum"] == list(EXAMPLES)
    assert set(Kind.__args__) <= set(schema.KINDS)


@pytest.mark.parametrize("kind", schema.KINDS)
def test_the_example_of_each_kind_keeps_to_it_as_a_document_and_as_lines(kind):
    CHECK.validate(EXAMPLES[kind])
    line = Draft202012Validator(schema.line_schema(kind))
    for cell in EXAMPLES[kind]["cells"]:
        line.validate(cell)


@pytest.mark.parametrize("kind", schema.KINDS)
def test_every_kind_has_an_example_of_a_cell_without_a_result(kind):
    *_, bad = EXAMPLES[kind]["cells"]
    assert bad["error"]
    assert not any(value for name, value in bad.items() if name not in ("cell", "row", "error"))


@pytest.mark.parametrize("kind", schema.KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(schema="scgpt-infer/2"),
        lambda document: document.pop("run"),
        lambda document: document["run"].pop("vector_id"),
        lambda document: document["run"].update(path="cells.h5ad"),
        lambda document: document["run"].update(n_genes=100),
        lambda document: document.update(seconds=1.0),
        lambda document: document["cells"][0].pop("row"),
        lambda document: document["cells"][0].update(error=""),
        lambda document: document["cells"][0].update(error="a value is NaN"),
        lambda document: document["cells"][-1].update(error=None),
        lambda document: document["cells"][0].update(umap=[0, 1]),
        lambda document: document["cells"].__setitem__(0, {"cell": "x", "row": 0, "error": None}),
    ],
)
def test_what_breaks_the_contract_is_refused(kind, change):
    with pytest.raises(ValidationError):
        CHECK.validate(changed(kind, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("network"),
        lambda document: document.update(cells=[]),
        lambda document: document["network"].pop("edges"),
        lambda document: document["network"]["edges"][0].pop("weight"),
        lambda document: document["network"]["edges"][0].update(weight=None),
        lambda document: document["network"]["genes"][0].update(umap=[0, 1]),
        lambda document: document["network"]["metagenes"][0]["groups"][0].update(scaled=2),
        lambda document: document["run"].update(path="cells.h5ad"),
    ],
)
def test_a_network_is_whole_and_nothing_else(change):
    CHECK.validate(EXAMPLES["gene_network"])
    with pytest.raises(ValidationError):
        CHECK.validate(changed("gene_network", change))


def test_cells_of_one_kind_are_not_those_of_another():
    for kind in schema.KINDS:
        for other in set(schema.KINDS) - {kind}:
            with pytest.raises(ValidationError):
                CHECK.validate(changed(kind, lambda document, other=other: document.update(kind=other)))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("cell_types", lambda cell: cell.update(label=None)),
        ("cell_types", lambda cell: cell.update(confidence=1.5)),
        ("cell_types", lambda cell: cell.update(embedding=None)),
        ("cell_types", lambda cell: cell["candidates"][0].pop("confidence")),
        ("embeddings", lambda cell: cell.update(embedding=[None])),
        ("imputed_values", lambda cell: cell["imputed"].pop("genes")),
        ("imputed_values", lambda cell: cell["imputed"].update(nonzero=[2])),
        ("multimodal", lambda cell: cell["modalities"]["protein"].pop("values")),
        ("multimodal", lambda cell: cell["modalities"].update(atac={})),
    ],
)
def test_a_cell_that_is_half_told_is_refused(kind, change):
    with pytest.raises(ValidationError):
        CHECK.validate(changed(kind, lambda document: change(document["cells"][0])))


def test_a_cell_type_may_have_its_embedding():
    CHECK.validate(changed("cell_types", lambda document: document["cells"][0].update(embedding=[0.5])))


def test_facts_of_the_file_the_machine_and_the_output_are_not_told():
    told = {"model": "m", "seed": 1, "annotation_top": 3, "annotation_prefix_length": 2}
    others = {"counts": "X", "n_genes": 5, "threads": 2, "gene_col": "index", "annotation_prefix": "scgpt_", "seeds": 1}
    assert schema.run_facts(told | others) == told
    for name in others:
        with pytest.raises(ValidationError):
            CHECK.validate(changed("embeddings", lambda document, name=name: document["run"].update({name: 1})))


def test_numbers_come_back_bit_for_bit_from_the_fewest_digits():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = np.nan_to_num(bits.view(np.float32), nan=0.1, posinf=1e-45, neginf=-3.4028235e38)
    text = schema.numbers(values)
    assert np.array(json.loads(f"[{','.join(text)}]")).astype(np.float32).tobytes() == values.tobytes()
    told = schema.numbers(np.array([[0.1, -0.0, 1e-5], [np.nan, np.inf, 3]], np.float32))
    assert told == [["0.1", "-0.0", "1e-05"], ["null", "null", "3.0"]]


NAMES = [
    'quote"',
    "back\\slash",
    "new\nline",
    "tab\t\x00",
    "ünï 細胞",
    "line\u2028separator\x85",
    "\ud800",
    "</script>",
]


def test_any_name_comes_back_and_stays_on_its_line():
    lines = [schema.cell(name, row, "", {"embedding": "[1.0]"}) for row, name in enumerate(NAMES)]
    assert all(line.isascii() and len(line.splitlines()) == 1 for line in lines)
    assert [json.loads(line)["cell"] for line in lines] == NAMES


def test_the_pieces_of_a_document_make_one():
    cells = [
        schema.cell("a", 0, "", {"embedding": "[0.5]"}),
        schema.cell("b", 1, 'it is "bad"', {"embedding": "null"}),
    ]
    run = {"model": "m", "vector_id": "0" * 32, "dim": 1, "precision": "fp32"}
    document = json.loads(schema.opening("embeddings") + ",\n".join(cells) + schema.closing(run))
    CHECK.validate(document)
    assert document["cells"][1]["error"] == 'it is "bad"'
    beside = json.loads(schema.about("embeddings", run))
    assert beside == {name: document[name] for name in ("schema", "kind", "run")}
    Draft202012Validator(schema.line_schema("about")).validate(beside)
