import threading
import time

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.instances import Instances


def some(n):
    return batches(toy.tokens_of([3] * n), toy.SETTINGS, BatchPlan("padded", 1))


def echo(batch):
    return {"ids": batch.ids.copy()}


def test_every_batch_comes_back_once_with_its_tag_and_answer():
    with Instances[int](echo, 3) as instances:
        done = list(instances.answers(enumerate(some(20))))
    assert sorted(one.tag for one in done) == list(range(20))
    assert all(np.array_equal(one.answers["ids"], one.batch.ids) and one.seconds >= 0 for one in done)


def test_as_many_work_at_a_time_as_there_are_instances():
    together = threading.Barrier(3, timeout=20)

    def meet(batch):
        together.wait()
        return echo(batch)

    with Instances[None](meet, 3) as instances:
        assert len(list(instances.answers((None, batch) for batch in some(6)))) == 6


def test_a_stream_is_taken_no_further_than_two_batches_an_instance():
    taken = []

    def stream():
        for batch in some(50):
            taken.append(batch)
            yield None, batch

    with Instances[None](echo, 2) as instances:
        next(instances.answers(stream()))
        assert len(taken) <= 4


class SomeError(Exception):
    pass


def test_an_error_of_an_instance_reaches_the_caller_and_the_threads_end():
    def fail(batch):
        raise SomeError

    with pytest.raises(SomeError), Instances[None](fail, 2) as instances:
        list(instances.answers((None, batch) for batch in some(4)))
    end = time.monotonic() + 10
    while working() and time.monotonic() < end:
        time.sleep(0.01)
    assert not working()


def working():
    return [thread for thread in threading.enumerate() if thread.name.startswith("scgpt-infer instance")]
