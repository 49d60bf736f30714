"""``scgpt-infer compare``: the demo model on shipped cells, and what cannot be compared."""

import json

import pytest

from scgpt_infer import cli, demo

CELLS = ["--cells", str(demo.CELLS), "--label", demo.LABEL_COLUMN]
DEMO = ["compare", "--model", "demo", *CELLS, "--limit", "120", "--provider", "cpu"]


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    told = {label: list(classes) for label, (_, classes) in demo.TYPES.items()}
    path.write_text(json.dumps(told | {"CD56+ NK": "NK cell"}))
    return path


def test_every_precision_has_a_row_and_fp32_is_the_measure(classes, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert cli.run([*DEMO, "--names", str(classes), "--json", str(file)]) == 0
    out = capsys.readouterr().out
    told = json.loads(file.read_text())
    assert (told["model"], told["cells"], told["reference"]) == ("demo", 120, "cpu fp32")
    fp32, *others = told["rows"]
    assert [row["precision"] for row in told["rows"]] == ["fp32", "fp16", "int8"]
    assert (fp32["median"], fp32["worst"], fp32["neighbours"]) == (0, 0, 1)
    for row in others:
        assert 0 < row["median"] <= row["worst"] < 1e-3
        assert 0.9 < row["neighbours"] <= 1
        assert abs(row["classifier"]["accuracy"] - fp32["classifier"]["accuracy"]) < 0.05
    assert others[0]["worst"] < others[1]["worst"]  # fp16 is closer than int8
    assert 0.6 < fp32["classifier"]["accuracy"] < 0.9
    assert fp32["classifier"]["cells"] == 120
    assert all(row["cells_per_second"] > 0 for row in told["rows"])
    assert len({row["vector_id"] for row in told["rows"]}) == 3
    for row in told["rows"]:
        assert f"cpu {row['precision']}" in out


def test_labels_that_are_no_classes_are_told_and_do_not_judge(capsys):
    assert cli.run([*DEMO, "--precision", "int8"]) == 0
    out = capsys.readouterr().out
    assert "No class of the classifier stands for CD14+ Monocyte" in out
    assert "--names FILE.json" in out
    assert "class acc" not in out
    assert "cpu fp32" in out  # the measure, though not asked for
    assert "fp16" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--precision", "fp8"], "There is no precision fp8 to compare; expected fp32"),
        (["--provider", "tpu"], "There is no provider tpu to compare; expected cpu, openvino"),
        (["--label", "type"], "has no column 'type'"),
        (["--batch", "type"], "has no column 'type'"),
        (["--cells", "missing.h5ad"], "There is no file missing.h5ad"),
        (["--names", "missing.json"], "missing.json cannot be read as JSON"),
    ],
)
def test_bad_words_are_told_without_a_traceback(words, told, capsys):
    assert cli.run([*DEMO, *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"CD56+ NK": "natural killer"}', "--names names natural killer, which the model's classifier does not"),
        ('{"CD56+ NK": [1]}', "every name is a text"),
        ("[1]", "cannot be read as JSON of labels"),
    ],
)
def test_classes_that_the_model_does_not_know_are_told(text, told, tmp_path, capsys):
    (tmp_path / "classes.json").write_text(text)
    assert cli.run([*DEMO, "--names", str(tmp_path / "classes.json")]) == 2
    assert told in capsys.readouterr().err
