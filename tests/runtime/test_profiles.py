"""Predicted profiles are held against a generator's golden cells, length and direction."""

import math
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.errors import InternalError
from scgpt_runtime.profiles import main_task, worst_profile
from scgpt_runtime.proof import golden_tokens


def perturbed():
    """Golden cells whose values after the perturbation are their own plus one, plus the flag."""
    golden = toy.golden(6)
    flags = (np.arange(len(golden.ids)) % 3 == 0).astype(np.uint8)
    return replace(golden, flags=flags, profiles=(golden.values + 1.0 + flags).astype(np.float32))


class Graph:
    """Answers as the golden cells say, times a factor."""

    inputs = ()
    provider = "graph"

    def __init__(self, factor=1.0, spoiled=None):
        self.factor, self.spoiled, self.asked = factor, spoiled, 0

    def run(self, batch):
        self.asked += 1
        value = (batch.values + 1.0 + batch.flags).astype(np.float32) * self.factor
        if self.spoiled is not None:
            value[0, 0] = self.spoiled
        return {"value": value, "cell": np.zeros((len(batch.cells), 4), np.float32)}


def worst(graph, times=1):
    golden = perturbed()
    made = batches(golden_tokens(golden), toy.SETTINGS, BatchPlan("exact", 64))
    return worst_profile(golden, made, graph, times)


def test_the_task_is_told_by_the_golden_cells():
    assert main_task(perturbed()) == "perturb"
    assert main_task(toy.golden(2)) == "embed"


def test_equal_profiles_have_no_error():
    assert worst(Graph()) == 0


def test_a_profile_of_another_length_counts_as_well_as_one_of_another_direction():
    assert worst(Graph(factor=1.1)) == pytest.approx(0.1**2 / 2, rel=1e-4)


def test_what_is_no_number_is_infinitely_wrong():
    assert worst(Graph(spoiled=np.nan)) == math.inf


def test_each_instance_answers_each_batch():
    once, thrice = Graph(), Graph()
    worst(once)
    worst(thrice, times=3)
    assert thrice.asked == 3 * once.asked


def test_cells_of_another_model_are_refused():
    with pytest.raises(InternalError, match="perturbation generator"):
        worst_profile(toy.golden(2), [], Graph())
