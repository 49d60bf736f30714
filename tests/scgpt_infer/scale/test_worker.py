"""A worker keeps what it has read of the input of the plan, and nothing else. It runs in this process."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anndata as ad
import pytest

from cell_files import write_zarr
from scgpt_infer.ledger.plan import PLAN
from scgpt_infer.model import Model, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.scale.errand import EmbedErrand
from scgpt_infer.scale.messages import Begin, Done, Ended, Failed, FromWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.scale.worker import Inbox, work
from scgpt_infer.spans import grid

OPTIONS = EmbedOptions(provider="cpu", precision="fp32", threads=1, instances=1)

Word = TypeVar("Word", Done, Ended, Failed)
Begun = tuple[EmbedErrand, Begin]


@dataclass
class Told:
    """What a worker says; `then` is called at its first mark."""

    then: Callable[[], None] = lambda: None
    words: list[FromWorker] = field(default_factory=list)

    def __call__(self, word: FromWorker) -> None:
        self.words.append(word)
        if isinstance(word, Done) and len(self.of(Done)) == 1:
            self.then()

    def of(self, kind: type[Word]) -> list[Word]:
        return [word for word in self.words if isinstance(word, kind)]


def begun_with(cells: Path, toy_model: Path, tmp_path: Path) -> Begun:
    """A job that is about to be done by workers."""
    with cells_of(cells, OPTIONS) as source, Model.open(toy_model, OPTIONS) as opened:
        job = opened.job(source)
        plan = job.plan(job.checked_target(tmp_path / "x.npy"))
        errand = EmbedErrand.of(cells, source, toy_model, opened)
    folder = tmp_path / "x.npy.parts"
    folder.mkdir()
    plan.write(folder)
    return errand, Begin(folder, (folder / PLAN).read_bytes(), "float32")


@pytest.fixture
def begun(toy_h5ad: Path, toy_model: Path, tmp_path: Path) -> Begun:
    return begun_with(toy_h5ad, toy_model, tmp_path)


def worked(errand: EmbedErrand, begin: Begin, told: Told) -> Told:
    inbox = Inbox()
    for word in (begin, *grid(1100, 1024), None):
        inbox.put(word)
    work(errand, Seat(threads=1, instances=1), inbox, told)
    return told


def exchange(path: Path) -> None:
    """Put other cells of the same shape in the place of a file."""
    cells = ad.read_h5ad(path)
    cells.X = cells.X[::-1].copy()
    cells.write_h5ad(path.with_name("other.h5ad"))
    os.replace(path.with_name("other.h5ad"), path)


def test_all_ranges_are_kept_of_the_input_of_the_plan(begun: Begun) -> None:
    told = worked(*begun, Told())
    assert [len(done.mark.rows) for done in told.of(Done)] == [1024, 76]
    assert told.of(Ended)


def test_a_worker_that_comes_up_after_the_input_was_replaced_keeps_nothing(begun: Begun, toy_h5ad: Path) -> None:
    exchange(toy_h5ad)
    told = worked(*begun, Told())
    (failed,) = told.of(Failed)
    assert failed.kind == "CellsError"
    assert "since the job began" in failed.message
    assert not list(begun[1].folder.glob("part-*"))


def test_what_is_read_of_a_store_that_is_written_to_is_not_kept(
    toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path
) -> None:
    """Of a store the reader sees only whether its root was written."""
    store = write_zarr(toy_adata, tmp_path / "cells.zarr", version=2)
    errand, begin = begun_with(store, toy_model, tmp_path)
    told = worked(errand, begin, Told(lambda: os.utime(store / "X" / "data" / "0", (1e9, 1e9))))
    assert [done.mark.first_row for done in told.of(Done)] == [0]
    assert "since the job began" in told.of(Failed)[0].message
    assert len(list(begin.folder.glob("part-*"))) == 1


def test_batches_are_as_small_as_those_of_parts_that_are_there(begun: Begun) -> None:
    errand, begin = begun
    large = worked(errand, begin, Told()).of(Done)[0].mark.batch_tokens
    begin = Begin(begin.folder, begin.plan, begin.dtype, large // 2)
    assert worked(errand, begin, Told()).of(Done)[0].mark.batch_tokens == large // 2
