"""A front end's links: answers in any order, and what a seat did not answer is asked again of the next."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

import toy_bundle
from scgpt_infer.server.asking import Ask, Cells
from scgpt_infer.server.desk import Status
from scgpt_infer.server.front.link import Link, LinkLost
from scgpt_infer.server.front.models import Entered, Models
from scgpt_infer.server.refusals import Broken, Expired, NotFound, NotReady, QueueFull, Refusal
from scgpt_infer.server.wire import Message, packed, read

CELLS = Cells(np.array([0, 1]), np.array([3], np.int32), np.array([2], np.float32))


class Seat:
    """Stands in for a seat: says who it is, and does with the rest what a test says."""

    def __init__(self, path, manifest, vocabulary, vector_id="0" * 32):
        self.path, self.heard, self.cancelled = str(path), [], []
        self._about = {"manifest": manifest, "vocabulary": vocabulary, "vector_id": vector_id}
        self.answer = self.at_once
        self._writers = []

    @asynccontextmanager
    async def open(self):
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            server.close()
            self.die()

    def die(self):
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        while (message := await read(reader)) is not None:
            if message.kind == "about":
                told = {"name": "toy", "generation": 1, "abilities": ["embed"], "labels": [], "run": {"model": "toy"}}
                reply = Message("about", {**message.fields, **told, **self._about})
            elif message.kind == "cancel":
                self.cancelled.append(message.fields["id"])
                continue
            else:
                self.heard.append(message)
                reply = await self.answer(message)
            if reply is not None:
                writer.writelines(packed(reply))

    async def at_once(self, message):
        fields = {"id": message.fields["id"], "kind": "embeddings", "reasons": [""], "columns": [], "run": {}}
        return Message("answer", {**fields, "tokens": 2, "seconds": {}}, (np.full((1, 4), 0.5, np.float32),))


@pytest.fixture
def texts(tmp_path):
    from scgpt_runtime.bundle import Bundle

    bundle = Bundle.open(toy_bundle.write(tmp_path / "toy"), None)
    return bundle.manifest.to_json(), bundle.vocabulary().to_json()


async def no_control(word, name):
    raise AssertionError(word)


@asynccontextmanager
async def models(*seats, patience=20.0):
    found = Models(no_control, patience)
    await found.enter([Entered(Status("toy", 1, "ready"), seat.path) for seat in seats], ["toy"])
    while seats and not found.ready:
        await asyncio.sleep(0)
    try:
        yield found
    finally:
        await found.close()


def test_an_answer_comes_back_with_what_decided_it(texts, tmp_path):
    async def work():
        async with Seat(tmp_path / "s", *texts).open() as seat, models(seat) as found:
            answer = await found.ask(found.here("toy"), Ask("embed", CELLS, "me", None, {"top": 2}))
            assert answer.part.vectors.tolist() == [[0.5] * 4]
            assert answer.run == {"model": "toy"}
            (message,) = seat.heard
            assert (message.fields["client"], message.fields["options"]) == ("me", {"top": 2})
            assert message.arrays[1].tolist() == [3]

    asyncio.run(work())


def test_answers_find_their_questions_in_any_order(texts, tmp_path):
    async def work():
        seat = Seat(tmp_path / "s", *texts)
        async with seat.open():
            link = await Link.open(seat.path)
            first_asked = asyncio.Event()

            async def late_first(message):
                if not first_asked.is_set():
                    first_asked.set()
                    return
                writer = seat._writers[0]
                for number in (message.fields["id"], message.fields["id"] - 1):
                    writer.writelines(packed(Message("answer", {"id": number})))
                return

            seat.answer = late_first
            answers = await asyncio.gather(link.ask(Message("ask")), link.ask(Message("ask")))
            assert [answer.fields["id"] for answer in answers] == [0, 1]
            link.close()

    asyncio.run(work())


def test_what_a_dead_seat_did_not_answer_is_asked_again(texts, tmp_path):
    async def work():
        first, second = Seat(tmp_path / "1", *texts), Seat(tmp_path / "2", *texts)
        asked = asyncio.Event()

        async def nothing(message):
            asked.set()

        first.answer = nothing
        async with first.open(), models(first) as found:
            task = asyncio.create_task(found.ask(found.here("toy"), Ask("embed", CELLS)))
            await asked.wait()
            first.die()
            await found.enter([Entered(Status("toy", 1, "loading"), None)], ["toy"])
            assert not task.done()
            async with second.open():
                await found.enter([Entered(Status("toy", 1, "ready"), second.path)], ["toy"])
                answer = await task
            assert answer.part.n_cells == 1
            assert len(second.heard) == 1

    asyncio.run(work())


def test_who_asks_while_a_seat_is_started_again_waits_for_it(texts, tmp_path):
    async def work():
        first, second = Seat(tmp_path / "1", *texts), Seat(tmp_path / "2", *texts)
        async with first.open(), models(first) as found:
            first.die()
            while found.ready:
                await asyncio.sleep(0)
            await found.enter([Entered(Status("toy", 1, "loading"), None)], ["toy"])
            task = asyncio.create_task(found.ask(found.here("toy"), Ask("embed", CELLS)))
            async with second.open():
                await found.enter([Entered(Status("toy", 2, "ready"), second.path)], ["toy"])
                assert (await task).part.n_cells == 1
            await found.enter([Entered(Status("toy", 2, "failed", "damaged"), None)], ["toy"])
            while found.ready:
                await asyncio.sleep(0)
            with pytest.raises(NotReady, match="damaged"):
                found.here("toy")
            await found.enter([], [])  # unloaded, and forgotten
            await found.enter([Entered(Status("toy", 3, "loading"), None)], [])
            with pytest.raises(NotReady, match="being loaded"):
                found.here("toy")

    asyncio.run(work())


def test_cells_that_end_two_seats_are_given_to_no_third(texts, tmp_path):
    async def work():
        seats = [Seat(tmp_path / str(number), *texts) for number in range(2)]
        for seat in seats:

            async def dies(message, seat=seat):
                seat.die()

            seat.answer = dies
        async with seats[0].open(), seats[1].open(), models(seats[0]) as found:
            task = asyncio.create_task(found.ask(found.here("toy"), Ask("embed", CELLS)))
            while not seats[0].heard:
                await asyncio.sleep(0)
            await found.enter([Entered(Status("toy", 1, "ready"), seats[1].path)], ["toy"])
            with pytest.raises(Broken, match="2 times"):
                await task

    asyncio.run(work())


def test_who_leaves_has_the_seat_let_go(texts, tmp_path):
    async def work():
        seat = Seat(tmp_path / "s", *texts)
        asked = asyncio.Event()

        async def nothing(message):
            asked.set()

        seat.answer = nothing
        async with seat.open(), models(seat) as found:
            task = asyncio.create_task(found.ask(found.here("toy"), Ask("embed", CELLS)))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not seat.cancelled:
                await asyncio.sleep(0)
            with pytest.raises(Expired):
                await found.ask(found.here("toy"), Ask("embed", CELLS, within=0.01))
            while len(seat.cancelled) < 2:
                await asyncio.sleep(0)

    asyncio.run(work())


def test_a_time_that_has_passed_is_not_even_asked(texts, tmp_path):
    async def work():
        async with Seat(tmp_path / "s", *texts).open() as seat, models(seat) as found:
            with pytest.raises(Expired):
                await found.ask(found.here("toy"), Ask("embed", CELLS, within=0.0))
            assert seat.heard == []

    asyncio.run(work())


def test_a_refusal_of_the_seat_keeps_its_status_and_time(texts, tmp_path):
    async def work():
        seat = Seat(tmp_path / "s", *texts)

        async def full(message):
            fields = {"id": message.fields["id"], "status": 429, "code": "queue_full", "message": "full"}
            return Message("refused", {**fields, "retry_after": 7.5})

        seat.answer = full
        async with seat.open(), models(seat) as found:
            with pytest.raises(Refusal) as refused:
                await found.ask(found.here("toy"), Ask("embed", CELLS))
            assert (refused.value.status, refused.value.code, refused.value.retry_after) == (429, QueueFull.code, 7.5)

    asyncio.run(work())


def test_a_model_that_is_another_one_now_is_not_asked_with_the_old_genes(texts, tmp_path):
    async def work():
        old, new = Seat(tmp_path / "1", *texts), Seat(tmp_path / "2", *texts, vector_id="1" * 32)
        async with old.open(), new.open(), models(old) as found:
            here = found.here("toy")
            await found.enter([Entered(Status("toy", 2, "ready"), new.path)], ["toy"])
            while found.here("toy") is here:
                await asyncio.sleep(0)
            with pytest.raises(NotReady, match="another"):
                await found.ask(here, Ask("embed", CELLS))

    asyncio.run(work())


def test_models_that_are_not_there_are_told_apart(texts, tmp_path):
    async def work():
        async with models() as found:
            assert not found.ready
            with pytest.raises(NotFound):
                found.here("toy")
            await found.enter([Entered(Status("toy", 1, "loading"), None)], ["toy"])
            with pytest.raises(NotReady, match="being loaded"):
                found.here("toy")
            await found.enter([Entered(Status("toy", 1, "failed", "no such bundle"), None)], ["toy"])
            with pytest.raises(NotReady, match="no such bundle"):
                found.here()
            assert not found.ready
        with pytest.raises(LinkLost):
            await Link.open(str(tmp_path / "nobody"))

    asyncio.run(work())


def test_a_request_waits_for_a_seat_no_longer_than_its_patience(texts, tmp_path):
    async def work():
        async with Seat(tmp_path / "s", *texts).open() as seat, models(seat, patience=0.01) as found:
            here = found.here("toy")
            await found.enter([Entered(Status("toy", 1, "loading"), None)], ["toy"])
            seat.die()
            while found.statuses()[0].state == "ready" or found._open:
                await asyncio.sleep(0)
            with pytest.raises(NotReady, match="started again"):
                await found.ask(here, Ask("embed", CELLS))

    asyncio.run(work())
