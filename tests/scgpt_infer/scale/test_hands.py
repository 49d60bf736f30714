"""What is told of workers."""

import pytest

from scgpt_infer.scale.hands import why_of
from scgpt_infer.scale.seats import Seat
from scgpt_runtime.choosing import as_asked
from scgpt_runtime.providers import ProviderChoice


@pytest.mark.parametrize(("threads", "told"), [(1, "1 thread, its share"), (4, "4 threads, its share")])
def test_threads_of_a_seat_are_a_share_and_nobody_asked_for_them(threads, told):
    why = f"provider cpu as asked; fp32; {as_asked(threads)}, 1 used by 1 instances of 1 on 1 cores"
    choice = ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 1, why)
    assert why_of(choice, Seat(threads=threads)) == why.replace(as_asked(threads), told)
    assert why_of(choice, Seat()) == why
