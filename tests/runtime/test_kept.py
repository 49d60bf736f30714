import threading

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.kept import Kept
from scgpt_runtime.runners import open_head
from scgpt_runtime.session import Session

PLAIN = EngineOptions(provider="cpu", threads=2)


@pytest.fixture
def opened(monkeypatch) -> list[Session]:
    """Sessions in the order in which they were opened."""
    found: list[Session] = []
    real = Session.open

    def noted(path, choice):
        found.append(real(path, choice))
        return found[-1]

    monkeypatch.setattr(Session, "open", noted)
    return found


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return Bundle.open(toy.write(tmp_path / "toy"))


def vectors(engine: Engine) -> np.ndarray:
    blocks = toy.split(toy.cells(40), 8)
    return np.concatenate([result.outputs["cell"] for result in engine.run(blocks, np.arange(toy.GENES + 2))])


def test_the_same_key_is_opened_once_whoever_asks_at_once():
    kept, inside, go = Kept(), threading.Event(), threading.Event()
    found, opened = [], []

    def slowly():
        opened.append(object())
        inside.set()
        assert go.wait(10)
        return opened[-1]

    threads = [threading.Thread(target=lambda: found.append(kept.of("slow", slowly))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    assert kept.of("other", lambda: 7) == 7  # what takes long keeps nobody from the rest
    go.set()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert found == opened * 4


def test_what_fails_to_open_is_tried_again():
    kept = Kept()
    with pytest.raises(ProviderError):
        kept.of("graph", lambda: (_ for _ in ()).throw(ProviderError("no room")))
    assert kept.of("graph", lambda: 1) == 1


def test_all_is_closed_in_the_end_the_last_first_and_once():
    closed: list[int] = []
    with Kept() as kept:
        for number in (1, 2):
            kept.of(number, lambda number=number: number, closed.append)
    kept.close()
    assert closed == [2, 1]
    with pytest.raises(InternalError, match="after it was closed"):
        kept.of(1, lambda: 1)


def test_engines_of_a_bundle_that_keeps_things_open_share_a_session(bundle, opened):
    with Engine.open(bundle, PLAIN) as engine:
        expected = vectors(engine)
    with Kept() as kept:
        lasting = bundle.keeping(kept)
        with Engine.open(lasting, PLAIN) as first, Engine.open(lasting, PLAIN) as second:
            assert first.choice == second.choice
            found = [vectors(first), vectors(second)]
        with Engine.open(lasting, PLAIN) as third:  # the others are closed, and the session is not
            found.append(vectors(third))
            assert third.vocabulary is first.vocabulary
        assert len(opened) == 2
        for each in found:
            np.testing.assert_array_equal(each, expected)
        late = Engine.open(lasting, PLAIN)
    with pytest.raises(InternalError, match="after it was closed"):
        vectors(late)


def test_other_wishes_have_other_sessions(bundle, opened):
    with Kept() as kept:
        for threads in (1, 2, 1):
            Engine.open(bundle.keeping(kept), EngineOptions(provider="cpu", threads=threads)).close()
    assert len(opened) == 2


def test_a_lent_session_answers_several_engines_at_once(bundle):
    with Kept() as kept:
        engines = [Engine.open(bundle.keeping(kept), PLAIN) for _ in range(4)]
        expected, found = vectors(engines[0]), {}
        threads = [threading.Thread(target=lambda one=one: found.update({one: vectors(one)})) for one in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4
    for each in found.values():
        np.testing.assert_array_equal(each, expected)


def test_heads_are_kept_too(bundle, opened):
    with Kept() as kept:
        for _ in range(2):
            head = open_head(bundle.keeping(kept), "embed")
            assert head.provider.startswith("CPUExecutionProvider")
            assert head.inputs
            head.close()
        assert len(opened) == 1
    with pytest.raises(InternalError, match="after it was closed"):
        head.feed({})
