"""The clock of the tokenizer runs the right things: the same tokens, whoever makes them, however they are stored."""

import json

import numpy as np
import pytest

from benchmarks import tokenizer
from benchmarks.peers import original_tokens
from scgpt_infer import demo
from scgpt_runtime.kernels import bins_from_draws


@pytest.mark.parametrize("n", [1, 2, 49, 50, 51, 700])
def test_the_rendering_bins_as_the_original_does(n: int):
    values = np.random.default_rng(n).poisson(1.5, n).astype(np.float32) + 1
    np.random.seed(n)  # noqa: NPY002
    draws = np.random.rand(n)  # noqa: NPY002
    np.random.seed(n)  # noqa: NPY002
    assert np.array_equal(original_tokens.binning(values), bins_from_draws(values, draws, np.linspace(0, 1, 50)))


def test_the_rendering_pads_and_samples():
    row = np.array([[0, 3, 0, 1, 2], [5, 0, 0, 0, 0]], np.float32)
    cells = list(original_tokens.items(row, np.arange(10, 15), cls_id=99))
    assert [genes.tolist() for genes, _ in cells] == [[99, 11, 13, 14], [99, 10]]
    ids, values = original_tokens.by_numpy(cells, max_length=3, pad_id=98)
    assert ids.shape == values.shape == (2, 3)
    assert ids[:, 0].tolist() == [99, 99]
    assert set(ids[0, 1:]) < {11, 13, 14}
    assert ids[1].tolist() == [99, 10, 98]
    assert values[:, 0].tolist() == [-2, -2]
    assert values[1, 2] == -2


def test_every_case_makes_the_same_tokens(tmp_path, capsys, monkeypatch):
    made: dict[str, int] = {}
    rounds = tokenizer.rounds

    def noted(cases, n):
        made.update({name: case() for name, case in cases.items()})
        return rounds(cases, n)

    monkeypatch.setattr(tokenizer, "rounds", noted)
    monkeypatch.setattr(tokenizer, "ORIGINAL_CELLS", 10_000)
    code = tokenizer.main([str(demo.CELLS), "--rounds", "1", "--json", str(tmp_path / "speeds.json")])
    assert code in (0, 3)
    read_alone = {n for name, n in made.items() if "h5py" in name or "inflated" in name if "tokenized" not in name}
    assert len(read_alone) == 1  # stored values
    assert len(set(made.values()) - read_alone) == 1  # tokens
    record = json.loads((tmp_path / "speeds.json").read_text())
    names = [*record["tokens_from_memory"], *record["values_from_file"], *record["tokens_from_file"]]
    assert sorted(names) == sorted(made)
    assert "million tokens/s from a file" in capsys.readouterr().out
