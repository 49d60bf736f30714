"""Places and memory: how they are shared, and that all comes back."""

import pytest

from scgpt_infer.server.front.limits import Limits, Share, Stay
from scgpt_infer.server.refusals import QueueFull

MIB = 2**20


def test_one_client_leaves_some_to_others_and_they_come_to_equal_parts():
    places = Share(90)
    for _ in range(90):
        if places.has("greedy"):
            places.take("greedy")
    for _ in range(90):
        if places.has("other"):
            places.take("other")
    assert places._held == {"greedy": 80, "other": 8}  # eight ninths of all, and of what was left
    for _ in range(60):  # of the greedy one, each asked again when it ends
        places.give_back("greedy")
        for client in ("greedy", "other"):
            if places.has(client):
                places.take(client)
    held = {client: places._held[client] for client in ("greedy", "other")}
    assert abs(held["greedy"] - held["other"]) < 10


def test_a_place_is_taken_when_the_body_is_there():
    limits = Limits(1)
    slow = [Stay(limits, "lab", arriving=True) for _ in range(3)]
    slow[0].work()
    with pytest.raises(QueueFull) as refused:
        slow[1].work()
    assert refused.value.retry_after == 1
    with pytest.raises(QueueFull):
        Stay(limits, "clinic", arriving=True)  # its body need not come
    slow[0].leave(0.1)
    slow[1].work()
    for stay in slow[1:]:
        stay.leave(0.1)
    Stay(limits, "clinic", arriving=False)


def test_bodies_take_no_more_memory_than_there_is_and_one_client_not_all_of_it():
    limits = Limits(100, max_body_bytes=64 * MIB)
    greedy = [Stay(limits, "greedy", arriving=True) for _ in range(8)]
    for stay in greedy[:7]:
        stay.keep(63 * MIB)
    with pytest.raises(QueueFull, match="memory"):
        greedy[7].keep(63 * MIB)
    other = Stay(limits, "other", arriving=True)
    other.keep(63 * MIB)
    for stay in (*greedy, other):
        stay.leave(0.1)
    assert not limits.memory._held
    Stay(limits, "other", arriving=True).keep(512 * MIB)


def test_bodies_on_their_way_have_a_bound_of_their_own():
    limits = Limits(1)
    for _ in range(910):  # eight ninths of 1,024
        Stay(limits, "greedy", arriving=True)
    with pytest.raises(QueueFull, match="received"):
        Stay(limits, "greedy", arriving=True)
    Stay(limits, "other", arriving=True)
