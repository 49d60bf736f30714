"""Ranges are shared out in neighbourhoods, each once."""

from itertools import pairwise

from scgpt_infer.scale.zones import Zones
from scgpt_infer.spans import grid


def test_each_range_is_taken_once_and_neighbours_stay_together() -> None:
    spans = grid(100, 1)
    zones = Zones(spans)
    taken: dict[int, list[range]] = {0: [], 1: [], 2: []}
    while len(zones):
        for number in taken:
            span = zones.take(number)
            if span is not None:
                taken[number].append(span)
    assert sorted(span.start for own in taken.values() for span in own) == list(range(100))
    for own in taken.values():
        apart = sum(after.start != before.stop for before, after in pairwise(own))
        assert apart <= 8, "a worker reads a file in few runs"


def test_ranges_of_a_lost_worker_come_first() -> None:
    zones = Zones(grid(10, 1))
    lost = [zones.take(0), zones.take(0)]
    zones.leave(0)
    zones.put_back([span for span in lost if span is not None])
    assert [zones.take(1) for _ in range(3)] == [range(0, 1), range(1, 2), range(2, 3)]
    assert len(zones) == 7
