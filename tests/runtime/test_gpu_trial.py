import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

import fake_driver as fake
import toy_bundle as toy
from scgpt_runtime import gpu_trial, proof, trial
from scgpt_runtime.batching import batches
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import PackedBatch
from scgpt_runtime.choosing import Asked
from scgpt_runtime.errors import DeviceMemoryError, ProviderError
from scgpt_runtime.gpu_trial import ragged
from scgpt_runtime.gpus import Driver
from scgpt_runtime.proof import golden_tokens
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.routes import CudaVersions
from scgpt_runtime.trial import fastest_first

PACKED, FLASH, EXACT = (
    ProviderChoice("cuda", "fp16", "fp16", route, 2, 1, "by rule", (0,))
    for route in ("cuda-packed", "cuda-flash", "cuda-exact")
)
CPU = ProviderChoice("cpu", "fp32", "fp32", "portable", 2, 1, "by rule")
RANKED = (PACKED, FLASH, EXACT, CPU)


class Runner:
    """Takes a time for each batch; remembers what it was given."""

    provider = "Fake 1"

    def __init__(self, pause=0.0):
        self.pause, self.given, self.closed = pause, [], False

    def run(self, batch):
        time.sleep(self.pause)
        self.given.append(batch)
        return {"cell": np.zeros((len(batch.cells), toy.DIM), np.float32)}

    def close(self):
        self.closed = True


class Opener:
    """Opens runners by dialect, and keeps them."""

    def __init__(self, **pauses):
        self.pauses, self.opened = pauses, {}

    def __call__(self, bundle, task, choice):
        self.opened[choice] = Runner(self.pauses.get(choice.dialect.removeprefix("cuda-"), 0.004))
        return self.opened[choice]


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(toy.write(tmp_path / "toy"))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(proof, "gpus", lambda: (fake.gpu(), fake.gpu(1)))
    monkeypatch.setattr(proof, "driver", lambda: Driver("580.65.06", (13, 0)))
    monkeypatch.setattr(proof, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))
    monkeypatch.setattr(gpu_trial, "_SECONDS", 0.02)


def test_cells_of_many_lengths_begin_as_golden_cells_do(bundle):
    golden = golden_tokens(bundle.golden())
    found = ragged(golden, 50)
    lengths, longest = np.diff(found.offsets), np.diff(golden.offsets).max()
    assert int(0.3 * longest) <= lengths.min() <= int(0.35 * longest)
    assert longest - 1 <= lengths.max() <= longest
    assert len(np.unique(lengths)) > 10
    starts = {
        tuple(zip(golden.ids[start : start + n], golden.values[start : start + n], strict=True))
        for start, stop in zip(golden.offsets, golden.offsets[1:], strict=False)
        for n in range(1, stop - start + 1)
    }
    for start, stop in zip(found.offsets, found.offsets[1:], strict=False):
        assert tuple(zip(found.ids[start:stop], found.values[start:stop], strict=True)) in starts


def test_every_round_has_cells_that_no_round_before_had_and_every_choice_the_same(bundle, monkeypatch):
    def given(choice):
        passes, runner = [], Runner()
        monkeypatch.setattr(
            gpu_trial, "_pass", lambda _, made: passes.append([one.ids.tobytes() for one in made]) or 1.0
        )
        gpu_trial.cells_per_second(bundle, choice, runner)
        return passes

    passes = given(FLASH)
    assert len(passes) > 3
    for first, second in itertools.combinations(passes, 2):
        assert set(first).isdisjoint(second)
    assert given(FLASH) == passes


def test_a_route_pays_for_shapes_that_do_not_recur(bundle, monkeypatch):
    class Preparing(Runner):
        """Needs time for each shape that it has not seen."""

        def __init__(self):
            super().__init__()
            self.shapes = set()

        def run(self, batch):
            new = batch.ids.shape not in self.shapes
            self.shapes.add(batch.ids.shape)
            time.sleep(0.02 if new else 0.0005)
            return {}

    class Widths:
        """Cells of ever other shapes, as those of long cells are: golden cells of the toy are too short."""

        made = 0

        def __call__(self, block, settings, plan):
            self.made += 1
            found = batches(block, settings, plan)[:1]
            return [replace(one, ids=np.zeros(self.made, np.uint16)) for one in found]

    steady = gpu_trial.cells_per_second(bundle, FLASH, Preparing())
    monkeypatch.setattr(gpu_trial, "batches", Widths())
    assert gpu_trial.cells_per_second(bundle, FLASH, Preparing()) < steady / 2


def test_the_route_that_is_fastest_comes_first_and_is_remembered_with_all_figures(bundle, tmp_path):
    found = fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=Opener(flash=0.0))
    assert [one.dialect for one in found] == ["cuda-flash", "cuda-packed", "cuda-exact", "portable"]
    for route in ("cuda-packed", "cuda-flash", "cuda-exact"):
        assert f"cuda fp16 {route}" in found[0].why
    assert "cells/s on one GPU" in found[0].why
    assert found[0].instances == 2
    again = fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=lambda *_: pytest.fail("measured twice"))
    assert again == found


def test_each_route_is_given_batches_of_its_kind_and_the_processor_none(bundle, tmp_path):
    opener = Opener(packed=0.0, flash=0.0, exact=0.0)
    fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=opener)
    assert set(opener.opened) == {PACKED, FLASH, EXACT}
    assert all(runner.closed for runner in opener.opened.values())
    assert all(isinstance(batch, PackedBatch) for batch in opener.opened[PACKED].given)
    assert all(len(set(batch.lengths)) == 1 for batch in opener.opened[EXACT].given)
    assert any(len(set(batch.lengths)) > 1 for batch in opener.opened[FLASH].given)


def test_jobs_on_other_gpus_of_a_kind_and_on_more_of_them_find_the_same_outcome(bundle, tmp_path):
    first = fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=Opener(exact=0.0))
    assert first[0].dialect == "cuda-exact"
    many = tuple(replace(one, devices=(0, 1), instances=4) if one.devices else one for one in RANKED)
    never = lambda *_: pytest.fail("measured twice")  # noqa: E731
    found = fastest_first(bundle, many, Asked(device="all"), "embed", tmp_path, opener=never)
    assert (found[0].dialect, found[0].devices, found[0].instances) == ("cuda-exact", (0, 1), 4)
    other = tuple(replace(one, devices=(1,)) if one.devices else one for one in RANKED)
    assert fastest_first(bundle, other, Asked(device="1"), "embed", tmp_path, opener=never)[0].dialect == "cuda-exact"


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ({"cuda-packed": 100, "cuda-flash": 102, "bf16": 105}, "cuda-packed"),  # within the noise
        ({"cuda-packed": 100, "cuda-flash": 105, "bf16": 110}, "cuda-flash"),  # bf16 is less exact
        ({"cuda-packed": 100, "cuda-flash": 105, "bf16": 120}, "bf16"),
    ],
)
def test_a_route_has_to_be_faster_and_another_precision_clearly_so(bundle, tmp_path, monkeypatch, rates, taken):
    def rate(bundle, choice, runner):
        return float(rates[choice.dialect if choice.precision == "fp16" else choice.precision])

    monkeypatch.setattr(trial, "cells_per_second", rate)
    bf16 = replace(FLASH, precision="bf16", sealed="bf16")
    first = fastest_first(bundle, (PACKED, FLASH, bf16), Asked(), "embed", tmp_path, opener=Opener())[0]
    assert taken in (first.dialect, first.precision)


def test_one_gpu_of_several_is_measured(bundle, tmp_path):
    opener = Opener()
    many = tuple(replace(one, devices=(0, 1), instances=4) for one in (PACKED, FLASH))
    fastest_first(bundle, many, Asked(device="all"), "embed", tmp_path, opener=opener)
    assert {(choice.devices, choice.instances) for choice in opener.opened} == {((0,), 2)}


def test_routes_of_a_precision_that_was_asked_for_are_measured_too(bundle, tmp_path):
    asked = Asked("cuda", "fp16")
    found = fastest_first(bundle, (PACKED, FLASH), asked, "embed", tmp_path, opener=Opener(flash=0.0))
    assert found[0].dialect == "cuda-flash"


@pytest.mark.parametrize(
    "ranked", [(PACKED, CPU), (replace(PACKED, provider="tensorrt"), replace(FLASH, provider="tensorrt"))]
)
def test_nothing_is_measured_where_there_is_one_route_or_each_would_be_built_for_minutes(bundle, tmp_path, ranked):
    assert fastest_first(bundle, ranked, Asked(), "embed", tmp_path, opener=Opener()) == ranked


@pytest.mark.parametrize("error", [ProviderError("no kernel"), DeviceMemoryError("no room")])
def test_a_route_that_fails_is_passed_over(bundle, tmp_path, error):
    class Failing(Opener):
        def __call__(self, bundle, task, choice):
            if choice == PACKED:
                raise error
            return super().__call__(bundle, task, choice)

    found = fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=Failing(flash=0.0))
    assert [one.dialect for one in found] == ["cuda-flash", "cuda-packed", "cuda-exact", "portable"]


def test_an_outcome_that_lacked_memory_is_not_kept(bundle, tmp_path):
    class Full(Opener):
        def __call__(self, bundle, task, choice):
            if choice == PACKED:
                raise DeviceMemoryError("another program has it all")
            return super().__call__(bundle, task, choice)

    fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=Full())
    again = Opener(packed=0.0)
    found = fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=again)
    assert PACKED in again.opened
    assert found[0].dialect == "cuda-packed"


def test_where_every_route_fails_the_rule_stands(bundle, tmp_path):
    def failing(*_):
        raise ProviderError("no")

    assert fastest_first(bundle, RANKED, Asked(), "embed", tmp_path, opener=failing) == RANKED
