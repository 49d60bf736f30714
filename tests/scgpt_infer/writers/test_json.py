"""Documents and lines of JSON: they keep to the schema, come back bit for bit, and tell nothing of the file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import schema
from scgpt_infer.writers import WRITERS, Part, Target
from scgpt_infer.writers.sink import Column

NAMES = ["plain", 'quote"', "new\nline\u2028", "ünï 細胞", "", "\ud800"]
WORDS = ("B cell", 'T "cell"', "unknown")
COLUMNS = (
    Column("label", WORDS),
    Column("confidence"),
    Column("label_1", WORDS),
    Column("confidence_1"),
    Column("label_2", WORDS),
    Column("confidence_2"),
)
RECORD = {"model": "toy", "vector_id": "0" * 32, "dim": 3, "precision": "fp32", "seed": 7, "annotation_top": 2}
OF_THE_FILE = {"counts": "layers/counts", "n_genes": 70, "threads": 2, "gene_col": "index"}
DOCUMENT = Draft202012Validator(schema.schema())


def parts() -> list[Part]:
    """Six cells in two parts; the fourth has no result, and the second has one candidate only."""
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    vectors[3] = np.nan
    nan = np.nan
    columns = {
        "label": [0, 2, 1, -1, 0, 1],
        "confidence": np.array([0.9, 0.4, 1.0, nan, 0.1, 1e-5], np.float32),
        "label_1": [0, 0, 1, -1, 0, 1],
        "confidence_1": np.array([0.9, 0.4, 1.0, nan, 0.1, 1e-5], np.float32),
        "label_2": [1, -1, 0, -1, 1, 0],
        "confidence_2": np.array([0.1, nan, 0.0, nan, 0.05, 0.0], np.float32),
    }
    reasons = ("", "", "", "a value is NaN", "", "")
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return [
        Part(
            start, vectors[start:stop], reasons[start:stop], {name: found[start:stop] for name, found in arrays.items()}
        )
        for start, stop in ((0, 2), (2, 6))
    ]


def target(path, kind="embeddings", **changes) -> Target:
    columns = COLUMNS if kind == "cell_types" else ()
    wanted = Target(path, 6, 3, "X_scGPT", lambda start, stop: NAMES[start:stop], columns=columns, kind=kind)
    return replace(wanted, **changes)


def write(wanted: Target, record=RECORD):
    with WRITERS[wanted.path.suffix].open(wanted) as sink:
        for part in parts():
            sink.write(part)
        sink.commit(record)
    return wanted.path


def test_a_document_of_embeddings_keeps_to_the_schema_and_comes_back_bit_for_bit(tmp_path):
    document = json.loads(write(target(tmp_path / "x.json")).read_text())
    DOCUMENT.validate(document)
    assert [cell["cell"] for cell in document["cells"]] == NAMES
    assert [cell["row"] for cell in document["cells"]] == list(range(6))
    assert document["cells"][3] == {"cell": NAMES[3], "row": 3, "error": "a value is NaN", "embedding": None}
    told = np.array([cell["embedding"] or [np.nan] * 3 for cell in document["cells"]]).astype(np.float32)
    assert told.tobytes() == np.concatenate([part.vectors for part in parts()]).tobytes()
    assert document["run"] == RECORD


@pytest.mark.parametrize("with_vectors", [False, True])
def test_a_document_of_cell_types_has_label_confidence_and_candidates(tmp_path, with_vectors):
    document = json.loads(write(target(tmp_path / "x.json", "cell_types", with_vectors=with_vectors)).read_text())
    DOCUMENT.validate(document)
    first, second, _, bad, *_ = document["cells"]
    assert (first["label"], first["confidence"]) == ("B cell", 0.9)
    assert first["candidates"] == [{"label": "B cell", "confidence": 0.9}, {"label": 'T "cell"', "confidence": 0.1}]
    assert (second["label"], second["candidates"]) == ("unknown", [{"label": "B cell", "confidence": 0.4}])
    assert (bad["label"], bad["confidence"], bad["candidates"]) == (None, None, [])
    assert all(("embedding" in cell) == with_vectors for cell in document["cells"])
    assert bad.get("embedding") is None


@pytest.mark.parametrize("kind", ["embeddings", "cell_types"])
def test_each_line_is_a_cell_of_the_document_and_the_run_lies_beside(tmp_path, kind):
    lines = write(target(tmp_path / "x.jsonl", kind)).read_text().splitlines()
    document = json.loads(write(target(tmp_path / "x.json", kind)).read_text())
    assert [json.loads(line) for line in lines] == document["cells"]
    line_schema = Draft202012Validator(schema.line_schema(kind))
    for line in lines:
        line_schema.validate(json.loads(line))
    beside = json.loads((tmp_path / "x.jsonl.json").read_text())
    Draft202012Validator(schema.line_schema("about")).validate(beside)
    assert beside == {"schema": document["schema"], "kind": kind, "run": document["run"]}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_facts_of_the_file_and_the_machine_change_no_byte(tmp_path, suffix):
    before = write(target(tmp_path / f"a{suffix}", "cell_types"))
    after = write(target(tmp_path / f"b{suffix}", "cell_types", source=tmp_path), RECORD | OF_THE_FILE)
    assert after.read_bytes() == before.read_bytes()
    if suffix == ".jsonl":
        assert (tmp_path / "a.jsonl.json").read_bytes() == (tmp_path / "b.jsonl.json").read_bytes()


@pytest.mark.parametrize("kind", ["embeddings", "cell_types"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_room_is_asked_for_all_of_it(tmp_path, suffix, kind):
    wanted = target(tmp_path / f"x{suffix}", kind)
    write(wanted)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= WRITERS[suffix].bytes_needed(wanted)


def test_rows_are_on_the_disk_as_they_come(tmp_path):
    wanted = target(tmp_path / "x.json")
    with WRITERS[".json"].open(wanted) as sink:
        sink.write(parts()[0])
        (partial,) = tmp_path.iterdir()
        assert partial.read_text().count('"cell"') == 2


def test_a_document_without_cells_is_one(tmp_path):
    with WRITERS[".json"].open(target(tmp_path / "x.json", n_cells=0)) as sink:
        sink.commit(RECORD)
    document = json.loads((tmp_path / "x.json").read_text())
    DOCUMENT.validate(document)
    assert document["cells"] == []
