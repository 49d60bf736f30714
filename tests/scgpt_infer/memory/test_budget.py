"""A budget opens cells in pieces that fit, or is refused with the least that works."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scgpt_infer.memory import Budget, budget, held_bytes
from scgpt_infer.memory.demand import Workspace, of_engine, widest
from scgpt_infer.memory.opening import minded, open_within
from scgpt_infer.model import Model, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.sizes import bytes_of
from scgpt_infer.spans import grid
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError

PLENTY = 100_000_000_000
OPTIONS = EmbedOptions(provider="cpu", threads=2, instances=2)


def least(error: pytest.ExceptionInfo[OptionError]) -> int:
    found = re.search(r"at least --memory (\S+)\.", str(error.value))
    assert found is not None
    return bytes_of(found[1])


@pytest.mark.parametrize("layer", [None, "dense", "columns"])
def test_a_budget_too_small_is_refused_with_the_least_that_works(layer, toy_h5ad: Path, toy_model: Path, same_blocks):
    options = EmbedOptions(provider="cpu", layer=layer)
    with (
        pytest.raises(OptionError, match="do not do for these cells") as error,
        open_within(toy_h5ad, toy_model, options, WorkOptions(memory=1_000_000)),
    ):
        pass
    granted = least(error)
    with (
        open_within(toy_h5ad, toy_model, options, WorkOptions(memory=granted)) as (source, _),
        cells_of(toy_h5ad, options) as usual,
    ):
        assert held_bytes() <= granted
        assert same_blocks(source, usual)
    with pytest.raises(OptionError), open_within(toy_h5ad, toy_model, options, WorkOptions(memory=granted // 2)):
        pass


@pytest.fixture
def same_blocks():
    def same(ours, theirs) -> bool:
        pairs = zip(ours.blocks(grid(ours.n_cells, 256)), theirs.blocks(grid(theirs.n_cells, 256)), strict=True)
        return all(a.indices.tolist() == b.indices.tolist() and a.data.tolist() == b.data.tolist() for a, b in pairs)

    return same


def test_with_plenty_nothing_is_smaller_than_usual(toy_h5ad: Path, toy_model: Path):
    rooms: list[ReadingRoom] = []

    def opening(room: ReadingRoom):
        rooms.append(room)
        return cells_of(toy_h5ad, OPTIONS, room)

    with Model.open(toy_model, OPTIONS) as model, Budget(PLENTY).opened(model.engine, opening):
        assert model.engine.choice.instances == 2
    assert rooms == [ROOM]


def test_instances_that_do_not_fit_are_left_out(toy_h5ad: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch):
    rooms: list[ReadingRoom] = []

    def opening(room: ReadingRoom):
        rooms.append(room)
        return cells_of(toy_h5ad, OPTIONS, room)

    monkeypatch.setattr(budget, "of_engine", lambda engine: Workspace(each=10**12, kept=0))
    with (
        Model.open(toy_model, OPTIONS) as model,
        Budget(1_500_000_000_000).opened(model.engine, opening),
    ):
        assert model.engine.choice.instances == 1
    assert rooms[-1] == ReadingRoom.within(0)


def test_trying_the_model_changes_no_vector(toy_h5ad: Path, toy_model: Path, tmp_path: Path):
    outputs = []
    for memory in (None, PLENTY):
        output = tmp_path / f"{memory}.npy"
        with (
            open_within(toy_h5ad, toy_model, OPTIONS, WorkOptions(memory=memory)) as (source, model),
            minded(memory) as progress,
        ):
            model.job(source).into_file(output, progress)
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]


def test_the_longest_batch_is_what_is_tried(toy_model: Path, monkeypatch: pytest.MonkeyPatch):
    with Model.open(toy_model, OPTIONS) as model:
        seen: list[int] = []
        infer = model.engine.infer
        monkeypatch.setattr(model.engine, "infer", lambda batch: seen.append(batch.n_tokens) or infer(batch))
        assert of_engine(model.engine).each >= 0
    assert max(seen) > model.engine.batch_tokens - model.engine.settings.max_length


def test_the_widest_row_is_that_of_the_sample(toy_h5ad: Path):
    with cells_of(toy_h5ad, OPTIONS) as source:
        assert 0 < widest(source) <= source.n_genes


def test_workers_share_what_is_left_beside_this_process():
    held = held_bytes()
    part = Budget(held + 20_000_000_000).part(4)  # far more than what other threads take and free meanwhile
    assert 4_500_000_000 < part.memory < 5_000_000_000
    with pytest.raises(OptionError, match="nothing for 4 workers") as error:
        Budget(held + 50_000_000).part(4)
    told = re.search(r"well over --memory (\S+),", str(error.value))
    assert told is not None
    Budget(bytes_of(told[1])).part(4)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_workers_are_told_to_grant_does(n_workers, toy_h5ad: Path, toy_model: Path):
    with pytest.raises(OptionError) as error, open_within(toy_h5ad, toy_model, OPTIONS, budget=small(n_workers)):
        pass
    part = Budget(least(error)).part(n_workers)
    with open_within(toy_h5ad, toy_model, OPTIONS, budget=part) as (source, _):
        assert source.n_cells == 1100


def small(n_workers: int) -> Budget:
    """The part of a worker that is too small for anything."""
    return replace(Budget(held_bytes() + 500_000_000).part(n_workers), memory=1_000_000)


def test_a_worker_is_told_the_least_for_all(toy_h5ad: Path, toy_model: Path):
    part = Budget(1_000_000, workers=3, beside=500_000_000)
    with (
        pytest.raises(
            OptionError, match=r"leave 1\.0 MB for each of 3 workers.*All processes together need about"
        ) as error,
        open_within(toy_h5ad, toy_model, OPTIONS, budget=part),
    ):
        pass
    assert least(error) > 500_000_000 + 3 * held_bytes()


def test_those_who_leave_the_work_to_others_open_no_model(toy_h5ad: Path, toy_model: Path):
    with open_within(toy_h5ad, toy_model, OPTIONS, WorkOptions(memory=PLENTY), by_others=True) as (source, model):
        assert source.n_cells == 1100
        assert model._engine is None
