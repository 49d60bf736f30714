"""Whose turn it is: clients share the tokens, nobody is kept waiting by another's thousand cells."""

import numpy as np

from scgpt_infer.server.refusals import Expired
from scgpt_infer.server.seat.queue import FairQueue
from scgpt_infer.server.seat.request import Request

from .toy_engine import tokens


def request(client, *lengths, until=None, ended=None):
    return Request(tokens(*lengths), client, until, lambda one, error: None if ended is None else ended.append(error))


def taken(queue, budget, now=0.0):
    return [(piece.request.client, piece.start, piece.stop) for piece in queue.take(budget, now)]


def test_a_client_with_one_cell_comes_beside_one_with_many():
    queue = FairQueue(10)
    queue.put(request("many", *[5] * 100))
    queue.put(request("one", 5))
    assert taken(queue, 20) == [("many", 0, 2), ("one", 0, 1), ("many", 2, 4)]


def test_clients_get_equal_tokens_whatever_the_length_of_their_cells():
    queue = FairQueue(16)
    queue.put(request("short", *[2] * 400))
    queue.put(request("long", *[50] * 16))
    got = {"short": 0, "long": 0}
    for client, start, stop in taken(queue, 1000):
        got[client] += (stop - start) * (2 if client == "short" else 50)
    assert abs(got["short"] - got["long"]) <= 50 + 16


def test_how_much_comes_before_a_client_is_its_own_and_as_much_of_each_other():
    queue = FairQueue(10)
    queue.put(request("many", *[5] * 100))
    queue.put(request("few", 5, 5))
    assert queue.before("one", 5) == 10 + 10
    assert queue.before("one", 25) == 30 + 10
    assert queue.before("few", 5) == 10 + 20
    assert queue.before("many", 5) == 500 + 10
    order = [client for client, start, stop in taken(queue, 30) for _ in range(start, stop)]
    queue.take(400, 0.0)
    assert order == ["many", "many", "few", "few", "many", "many"]
    assert queue.before("few", 5) < 100


def test_requests_of_a_client_keep_their_order():
    queue = FairQueue(100)
    first, second = request("a", 5, 5), request("a", 5)
    queue.put(first)
    queue.put(second)
    assert [piece.request for piece in queue.take(100, 0.0)] == [first, second]


def test_what_waits_is_counted_as_it_comes_and_goes():
    queue = FairQueue(10)
    one, other = request("a", 4, 6), request("b", 3)
    queue.put(one)
    queue.put(other)
    assert (queue.tokens, queue.cells) == (13, 3)
    queue.take(4, 0.0)
    assert (queue.tokens, queue.cells) == (3, 1)
    queue.remove(other)
    assert (queue.tokens, queue.cells, queue.oldest) == (0, 0, None)


def test_a_request_whose_time_is_over_ends_and_is_not_given():
    ended = []
    queue = FairQueue(10)
    queue.put(request("a", 5, until=1.0, ended=ended))
    queue.put(request("a", 5, until=9.0))
    assert taken(queue, 100, now=2.0) == [("a", 0, 1)]
    assert [type(error) for error in ended] == [Expired]
    assert queue.tokens == 0


def test_a_cell_longer_than_a_turn_saves_up_for_its_own():
    queue = FairQueue(10)
    queue.put(request("a", 35))
    queue.put(request("b", *[10] * 5))
    order = taken(queue, 1000)
    assert ("a", 0, 1) in order
    assert order.index(("a", 0, 1)) == 3  # b had three turns of ten meanwhile


def test_every_cell_is_given_once():
    rng = np.random.default_rng(1)
    queue, wanted = FairQueue(16), {}
    for number in range(20):
        lengths = rng.integers(0, 40, rng.integers(1, 30)).tolist()
        one = request(f"client {number % 3}", *lengths)
        wanted[id(one)] = len(lengths)
        queue.put(one)
    given = dict.fromkeys(wanted, 0)
    while queue.cells:
        for piece in queue.take(100, 0.0):
            assert piece.start == given[id(piece.request)]
            given[id(piece.request)] = piece.stop
    assert given == wanted


def test_what_is_left_of_a_request_that_has_failed_is_not_given():
    ended = []
    queue = FairQueue(5)
    failed = request("a", 5, 5, ended=ended)
    queue.put(failed)
    queue.put(request("a", 5))
    assert taken(queue, 5) == [("a", 0, 1)]
    failed.fail(ValueError("no"))
    assert taken(queue, 100) == [("a", 0, 1)]
    assert (queue.tokens, queue.cells, len(ended)) == (0, 0, 1)
