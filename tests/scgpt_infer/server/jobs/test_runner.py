"""What the process of a job makes: the bytes that the command line makes, once, whatever ended it before."""

import sys
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer.api import embed_file
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.errand import Advanced, Errand, Word
from scgpt_infer.server.jobs.remote import TryAgain
from scgpt_infer.server.jobs.runner import do
from scgpt_runtime.errors import InputError, OutputError
from tests.scgpt_infer.server.jobs.seat_stand_in import Seat


def _errand(seat: Seat, cells: Path, tmp_path: Path, room_bytes: int = 2**40, **asked: object) -> Errand:
    told = JobAsked(**{"model": "toy", "name": "my cells.h5ad", "task": "embed", "output": "npy", **asked})
    return Errand(told, str(cells), str(tmp_path / "results"), str(seat.path), room_bytes)


def test_vectors_are_those_of_the_command_line_byte_by_byte(toy_seat, toy_model, toy_h5ad, tmp_path):
    told: list[Word] = []
    summary = do(_errand(toy_seat, toy_h5ad, tmp_path), told.append)
    embed_file(toy_h5ad, tmp_path / "own.npy", toy_model)
    made = tmp_path / "results" / "my_cells.embedded.npy"
    assert made.read_bytes() == (tmp_path / "own.npy").read_bytes()
    assert summary["n_cells"] == 1100
    assert summary["vector_id"] == toy_seat.engine.vector_id
    assert isinstance(told[-1], Advanced)
    assert (told[-1].done, told[-1].cells) == (1100, 1100)


def test_a_job_goes_on_with_what_was_kept_when_its_model_went_away(toy_seat, toy_h5ad, tmp_path):
    errand = _errand(toy_seat, toy_h5ad, tmp_path)
    toy_seat.answers_left = 1
    with pytest.raises(TryAgain):
        do(errand, lambda word: None)
    toy_seat.answers_left = None
    toy_seat.asked.clear()
    summary = do(errand, lambda word: None)
    assert toy_seat.asked == [1024]
    assert summary["n_kept"] == 1024
    toy_seat.asked.clear()
    assert do(errand, lambda word: None) == summary  # killed behind its last word: nothing is done again
    assert toy_seat.asked == []


def test_a_process_that_another_server_has_left_at_work_is_waited_for(toy_seat, toy_h5ad, tmp_path):
    (tmp_path / "results").mkdir()
    parts = tmp_path / "results" / "my_cells.embedded.npy.parts"
    with Lock.take(parts / "lock", beat=0.1), pytest.raises(TryAgain, match="still at this job"):
        do(_errand(toy_seat, toy_h5ad, tmp_path), lambda word: None)
    assert do(_errand(toy_seat, toy_h5ad, tmp_path), lambda word: None)["n_cells"] == 1100


def test_what_another_model_has_begun_is_begun_anew(toy_seat, toy_h5ad, tmp_path):
    toy_seat.answers_left = 1
    with pytest.raises(TryAgain):
        do(_errand(toy_seat, toy_h5ad, tmp_path), lambda word: None)
    toy_seat.answers_left = None
    other = _errand(toy_seat, toy_h5ad, tmp_path, layer="dense")  # as a server with another provider: another plan
    assert do(other, lambda word: None)["n_kept"] == 0


def test_an_h5ad_has_a_report_beside_it(toy_seat, toy_adata, tmp_path):
    toy_adata[:10].write_h5ad(tmp_path / "few.h5ad")  # too few for UMAP, which takes its time
    do(_errand(toy_seat, tmp_path / "few.h5ad", tmp_path, output="h5ad", report=True), lambda word: None)
    results = tmp_path / "results"
    assert (results / "my_cells.report.html").read_text(encoding="utf-8").startswith("<!")
    assert (results / "my_cells.embedded.h5ad").is_file()


def test_a_report_that_cannot_be_made_is_no_reason_to_lose_the_result(toy_seat, toy_h5ad, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    summary = do(_errand(toy_seat, toy_h5ad, tmp_path, output="h5ad", report=True), lambda word: None)
    assert "umap-learn" in summary["report_error"]
    assert {path.suffix for path in (tmp_path / "results").glob("[!.]*.*")} == {".h5ad", ".csv"}


def test_a_result_without_room_is_refused_before_the_work(toy_seat, toy_h5ad, tmp_path):
    with pytest.raises(OutputError, match="needs about"):
        do(_errand(toy_seat, toy_h5ad, tmp_path, room_bytes=100), lambda word: None)
    assert toy_seat.asked == []


def test_a_model_without_classifier_tells_no_types(toy_seat, toy_h5ad, tmp_path):
    with pytest.raises(InputError, match="annotate"):
        do(_errand(toy_seat, toy_h5ad, tmp_path, task="annotate", output="json"), lambda word: None)


def test_a_bundle_that_was_exchanged_waits_for_its_reload(toy_seat, toy_h5ad, tmp_path, monkeypatch):
    monkeypatch.setattr(toy_seat.engine, "vector_id", "0" * 32)
    with pytest.raises(TryAgain, match="another one"):
        do(_errand(toy_seat, toy_h5ad, tmp_path), lambda word: None)
    assert not np.any(toy_seat.asked)
