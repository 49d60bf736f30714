"""A weights file gives tensors or an error: never code, never a traceback of torch's own."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scgpt_export.weights import read_tensors
from scgpt_runtime.errors import CheckpointError

SMALL = Path(__file__).parents[1] / "golden" / "small_checkpoint"


class Malice:
    """A pickle of this makes a file when it is opened the careless way."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.proof),)


def malicious(path: Path, proof: Path, form: str) -> Path:
    content = {"encoder.embedding.weight": torch.zeros(2), "x": Malice(proof)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path, form: str) -> None:
    proof = tmp_path / "it_ran"
    path = malicious(tmp_path / "best_model.pt", proof, form)
    with pytest.raises(CheckpointError, match="not run"):
        read_tensors(path)
    assert not proof.exists()


def test_the_malicious_file_is_a_real_one(tmp_path: Path) -> None:
    proof = tmp_path / "it_ran"
    torch.load(malicious(tmp_path / "best_model.pt", proof, "zip"), weights_only=False)
    assert proof.exists()


def test_a_whole_model_is_refused_in_favour_of_its_state_dict(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"save model.state_dict\(\)"):
        read_tensors(tmp_path / "model.pt")


@pytest.mark.parametrize("kept", [0, 10, 1000, 500_000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes((SMALL / "best_model.pt").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole weights file"):
        read_tensors(path)


@pytest.mark.parametrize("kept", [0, 7, 60, -1])
def test_truncated_safetensors_are_refused(tmp_path: Path, kept: int) -> None:
    save_file({"a": torch.zeros(8)}, tmp_path / "whole.safetensors")
    path = tmp_path / "model.safetensors"
    path.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole weights file"):
        read_tensors(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    path.write_text("<html>Quota exceeded</html>\n" * 50)
    with pytest.raises(CheckpointError, match="not a whole weights file"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({}, "holds nothing"),
        ({"epoch": 3, "model_state_dict": {"a": torch.zeros(2)}}, "under epoch, model_state_dict"),
        ({1: torch.zeros(2)}, "under 1"),
    ],
)
def test_anything_but_a_flat_dict_of_tensors_is_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path / "model.pt")
