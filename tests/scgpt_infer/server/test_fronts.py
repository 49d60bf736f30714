"""Front ends are started again, whatever ends them or keeps them from starting."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from scgpt_infer.server import fronts as module
from scgpt_infer.server.fronts import Fronts
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.server.wire import Message

SETTINGS = Settings(models=(ModelAsked("demo", "demo"),))


class Front:
    """Stands in for a process."""

    def __init__(self, *words):
        self.told, self._words, self._over = [], list(words), asyncio.Event()
        self.process = SimpleNamespace(pid=0, returncode=None, wait=self._wait)

    def tell(self, message):
        self.told.append(message.kind)

    async def hear(self):
        if self._words:
            return Message(self._words.pop(0), {"message": "no certificate"})
        await self._over.wait()
        return None

    async def fate(self):
        return f"exit code {await self._wait()}"

    async def _wait(self):
        await self._over.wait()
        return self.process.returncode

    def die(self, code=1):
        self.process.returncode = code
        self._over.set()

    def kill(self):
        if self.process.returncode is None:
            self.die(-9)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)


async def until(true):
    while not true():
        await asyncio.sleep(0.001)


def work(monkeypatch, starts, test, settings=SETTINGS):
    """Run a test of fronts whose processes start as they are told: a front, or an error."""
    failed, begun = [], []

    async def start(module, handles, environment):
        made = starts.pop(0)()
        if isinstance(made, Exception):
            raise made
        begun.append(made)
        return made

    async def run():
        monkeypatch.setattr(module.Child, "start", start)
        found = Fronts(settings, 3, {}, lambda: Message("table"), lambda front, message: None, failed.append)
        found.start()
        try:
            async with asyncio.timeout(20):
                await test(found, begun, failed)
        finally:
            await found.close()

    asyncio.run(run())


def test_one_that_cannot_be_started_is_tried_again(monkeypatch):
    def no_process():
        return OSError(11, "no process")

    async def test(fronts, begun, failed):
        await until(lambda: len(begun) == 1)
        begun[0].die()
        await until(lambda: len(begun) == 2)
        assert failed == []

    work(monkeypatch, [lambda: Front("listening"), no_process, no_process, lambda: Front("listening")], test)


def test_one_that_never_listened_ends_the_server_with_what_it_says(monkeypatch):
    async def dies(fronts, begun, failed):
        await until(lambda: begun)
        begun[0].die()
        await until(lambda: failed)
        assert failed == ["Front end 0 ended with exit code 1."]

    work(monkeypatch, [Front], dies)

    async def says(fronts, begun, failed):
        await until(lambda: begun)
        begun[0].die(0)
        await until(lambda: failed)
        assert failed == ["no certificate"]

    work(monkeypatch, [lambda: Front("failed")], says)


def test_one_that_cannot_be_had_later_is_tried_again_and_ends_nothing(monkeypatch):
    async def test(fronts, begun, failed):
        for number in range(3):
            await until(lambda number=number: len(begun) == number + 1)
            begun[number].die()
        await until(lambda: len(begun) == 4)
        assert failed == []

    work(monkeypatch, [lambda: Front("listening"), lambda: Front("failed"), lambda: Front("failed"), Front], test)


def test_the_end_does_not_wait_for_one_that_is_to_be_started_again(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 60.0)
    ended = []

    async def test(fronts, begun, failed):
        await until(lambda: len(begun) == 2)
        begun[0].die()
        await until(lambda: ended)
        async with asyncio.timeout(5):
            await fronts.close()

    monkeypatch.setattr(module.metrics, "ended", ended.append)
    work(monkeypatch, [lambda: Front("listening")] * 2, test, replace(SETTINGS, frontends=2))


def test_one_that_starts_while_the_server_drains_is_told_so(monkeypatch):
    async def test(fronts, begun, failed):
        await until(lambda: begun)
        fronts.drain()
        begun[0].die()
        await until(lambda: len(begun) == 2)
        await until(lambda: "drain" in begun[1].told)

    work(monkeypatch, [lambda: Front("listening"), lambda: Front("listening")], test)


def test_whether_all_ended_by_themselves(monkeypatch):
    async def test(fronts, begun, failed):
        await until(lambda: begun)
        fronts.end()
        waiting = asyncio.create_task(fronts.wait())
        await asyncio.sleep(0)
        begun[0].die(0)
        assert await waiting

    work(monkeypatch, [lambda: Front("listening")], test)

    async def shot_before(fronts, begun, failed):
        await until(lambda: begun)
        begun[0].die(-9)  # by somebody else, and not replaced yet
        fronts.end()
        assert await fronts.wait()

    work(monkeypatch, [lambda: Front("listening"), lambda: Front("listening")], shot_before)

    async def cut_off(fronts, begun, failed):
        await until(lambda: begun)
        fronts.kill()
        assert not await fronts.wait()

    work(monkeypatch, [lambda: Front("listening")], cut_off)
