import json

import numpy as np
import pandas as pd
import pytest

from scgpt_infer.writers import Part, Target, csv
from scgpt_infer.writers.sink import Column

NAMES = ["plain", "comma,", 'quote"', "new\nline", "1"]


def write(path, vectors, reasons):
    target = Target(path, len(vectors), vectors.shape[1], "X_scGPT", lambda start, stop: NAMES[start:stop])
    with csv.open_csv(target) as sink:
        sink.write(Part(0, vectors[:3], reasons[:3]))
        sink.write(Part(3, vectors[3:], reasons[3:]))
        sink.commit({"vector_id": "abc"})
    return target


def test_the_table_comes_back_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, (5, 200), dtype=np.uint32)
    vectors = np.nan_to_num(bits.view(np.float32), nan=0.1, posinf=1e-45, neginf=-3.4028235e38)
    target = write(tmp_path / "x.csv", vectors, ("",) * 5)
    read = pd.read_csv(tmp_path / "x.csv", dtype={"cell": str, "error": str}, float_precision="round_trip")
    assert list(read.columns) == ["cell", *(f"e{i}" for i in range(200)), "error"]
    assert list(read["cell"]) == NAMES
    assert read.filter(like="e", axis=1).drop(columns=["cell", "error"]).to_numpy(np.float32).tobytes() == (
        vectors.tobytes()
    )
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= csv.bytes_needed(target)


def test_a_bad_cell_has_empty_fields_and_its_reason(tmp_path):
    vectors = np.full((5, 2), 0.5, np.float32)
    vectors[1] = np.nan
    write(tmp_path / "x.csv", vectors, ("", "a value is NaN", "", "", ""))
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[1] == "plain,0.5,0.5,"
    assert lines[2] == '"comma,",,,a value is NaN'


def test_the_record_lies_beside_it(tmp_path):
    write(tmp_path / "x.csv", np.zeros((5, 2), np.float32), ("",) * 5)
    assert json.loads((tmp_path / "x.csv.json").read_text()) == {"vector_id": "abc"}


COLUMNS = (Column("label", ('T, "CD4"', "unknown")), Column("confidence"))


@pytest.mark.parametrize("with_vectors", [False, True])
def test_what_is_told_of_a_cell_stands_between_its_name_and_its_vector(tmp_path, with_vectors):
    target = Target(
        tmp_path / "x.csv",
        3,
        2,
        "X_scGPT",
        lambda start, stop: NAMES[start:stop],
        columns=COLUMNS,
        kind="cell_types",
        with_vectors=with_vectors,
    )
    told = {"label": np.array([0, 1, -1], np.int32), "confidence": np.array([0.9312, 0.1, np.nan], np.float32)}
    vectors = np.array([[0.5, 1], [0.25, 2], [np.nan, np.nan]], np.float32)
    with csv.open_csv(target) as sink:
        sink.write(Part(0, vectors, ("", "", "all values are zero"), told))
        sink.commit({})
    read = pd.read_csv(tmp_path / "x.csv", float_precision="round_trip")
    assert list(read.columns) == ["cell", "label", "confidence", *(["e0", "e1"] if with_vectors else []), "error"]
    assert read["label"].tolist()[:2] == ['T, "CD4"', "unknown"]
    assert read["confidence"].to_numpy(np.float32).tobytes() == told["confidence"].tobytes()
    assert read.iloc[2].drop(["cell", "error"]).isna().all()
    assert '"T, ""CD4""",0.9312,' in (tmp_path / "x.csv").read_text()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= csv.bytes_needed(target)
