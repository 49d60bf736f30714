"""The whole benchmark, with processes that answer at once instead of measuring."""

import json
from dataclasses import asdict

import pytest

from scgpt_infer.bench import measure
from scgpt_infer.bench.measure import BenchOptions, plans
from scgpt_infer.models import resolve
from scgpt_runtime.errors import ProviderError


class Children:
    """Answers every order, and keeps them in their order."""

    def __init__(self, reading) -> None:
        self.reading, self.orders = reading, []
        self.failing: set[str] = set()

    def __call__(self, order):
        self.orders.append(order)
        json.dumps(order)  # it has to cross to another process
        if order["task"] == "choose":
            return {"provider": "cpu", "precision": "int8", "why": ""}
        if order["task"] == "peak":
            return {precision: len(self.orders) * 1e11 for precision in order["precisions"]}
        if order["precision"] in self.failing:
            raise ProviderError("its process was ended by SIGKILL")
        return json.loads(json.dumps(asdict(self.reading)))

    def read(self) -> list[str]:
        return [order["precision"] for order in self.orders if order["task"] == "read"]


@pytest.fixture
def children(reading, monkeypatch) -> Children:
    found = Children(reading)
    monkeypatch.setattr(measure, "ask", found)
    return found


CPU = BenchOptions(providers=("cpu",), rounds=2, lengths=(64,))


def test_combinations_take_turns_and_auto_s_choice_is_first(children):
    result = measure.measure("demo", CPU)
    assert [found.name for found in result.combinations] == ["cpu int8", "cpu fp32", "cpu fp16"]
    assert [found.is_auto for found in result.combinations] == [True, False, False]
    assert children.read() == ["int8", "fp32", "fp16"] * 2


def test_accuracy_is_proven_once_and_peaks_are_taken_in_every_round(children):
    measure.measure("demo", CPU)
    assert [order["prove"] for order in children.orders if order["task"] == "read"] == [True] * 3 + [False] * 3
    assert sum(order["task"] == "peak" for order in children.orders) == 2


def test_the_best_round_of_a_peak_counts(children):
    result = measure.measure("demo", CPU)
    best = max(place + 1 for place, order in enumerate(children.orders) if order["task"] == "peak")
    assert {peak.tflops for peak in result.peaks} == {best / 10}


def test_a_combination_that_dies_says_why_and_the_others_go_on(children):
    children.failing = {"int8"}
    result = measure.measure("demo", CPU)
    assert result.combinations[0].error == "its process was ended by SIGKILL"
    assert children.read().count("int8") == 1
    assert all(found.error is None and found.lengths for found in result.combinations[1:])


def test_the_sample_of_the_user_s_cells_reaches_the_processes(children, toy_model, toy_h5ad):
    result = measure.measure(toy_model, BenchOptions(providers=("cpu",), rounds=1, cells=toy_h5ad, sample=20))
    assert result.cells is not None
    assert result.cells.sampled == 20
    (order,) = (order for order in children.orders if order["task"] == "read")
    assert order["sample"].endswith(".npz")
    assert result.combinations[0].cells is not None


def names(options: BenchOptions) -> dict[str, bool]:
    return {f"{plan.provider} {plan.precision}": plan.error is None for plan in plans(resolve("demo"), options, None)}


def test_by_default_only_what_can_run_is_planned():
    found = names(BenchOptions())
    assert all(found.values())
    assert {"cpu fp32", "cpu fp16", "cpu int8"} <= found.keys()


def test_what_was_named_and_cannot_run_is_planned_with_its_reason():
    assert names(BenchOptions(("cpu",), ("fp32", "bf16"))) == {"cpu fp32": True, "cpu bf16": False}
    found = names(BenchOptions(providers=("cuda", "cpu")))
    assert not any(runs for name, runs in found.items() if name.startswith("cuda"))
    assert found["cpu fp32"]


def test_a_gpu_is_held_against_its_own_products(children, monkeypatch):
    monkeypatch.setattr(measure, "candidates", lambda *_: ())
    result = measure.measure("demo", BenchOptions(("cuda", "cpu"), ("fp16",), rounds=1, lengths=(64,)))
    asked = [order["provider"] for order in children.orders if order["task"] == "peak"]
    assert asked == ["cpu", "cuda"]
    assert [(peak.by, peak.on_gpu) for peak in result.peaks] == [("cuda fp16", True), ("cpu fp16", False)]
    shares = [found.lengths[0].throughput.share for found in result.combinations]
    assert shares[0] != shares[1]


def test_a_precision_that_one_provider_runs_is_not_held_against_the_others():
    assert names(BenchOptions(providers=None, precisions=("int8",)))["cpu int8"]
    assert all(names(BenchOptions(providers=None, precisions=("int8",))).values())
