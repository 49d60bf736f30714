import json
import os
import threading
from types import SimpleNamespace

import pytest

from scgpt_runtime.engine_cache import NotPrivateError, place

ENGINE = {"bundle": "b", "graph": "embed.fp16.portable.onnx"}
MACHINE = {"gpu": "H100", "tensorrt": "10.9.0"}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "cache" / "tensorrt"


def test_folders_are_private_whatever_the_umask(home):
    before = os.umask(0)
    try:
        kept = place(home, ENGINE, MACHINE)
    finally:
        os.umask(before)
    for folder in (home, home / "engines", home / "timings", kept.engine, kept.timings):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_engines_are_kept_apart_by_all_that_they_depend_on_and_timings_by_the_machine(home):
    first = place(home, ENGINE, MACHINE)
    again = place(home, dict(reversed(ENGINE.items())), MACHINE)
    other_bundle = place(home, {**ENGINE, "bundle": "c"}, MACHINE)
    other_gpu = place(home, ENGINE, {**MACHINE, "gpu": "A100"})
    assert again == first
    assert len({first.engine, other_bundle.engine, other_gpu.engine}) == 3
    assert other_bundle.timings == first.timings != other_gpu.timings


def test_an_engine_is_there_once_it_was_sealed_and_as_long_as_it_is_what_was_sealed(home):
    kept = place(home, ENGINE, MACHINE)
    assert not kept.sealed()
    (kept.engine / "one.engine").write_bytes(b"whole")
    assert not kept.sealed()
    assert kept.seal()
    assert place(home, ENGINE, MACHINE).sealed()
    assert json.loads((kept.engine / "sealed.json").read_text())["about"] == {**ENGINE, **MACHINE}
    (kept.engine / "one.engine").write_bytes(b"whol")
    assert not kept.sealed()
    (kept.engine / "one.engine").write_bytes(b"whole")
    assert kept.sealed()
    (kept.engine / "two.engine").write_bytes(b"foreign")
    assert not kept.sealed()


def test_a_damaged_seal_counts_as_none(home):
    kept = place(home, ENGINE, MACHINE)
    for damaged in ("", "{", "[]", "null", '{"files": 3}'):
        (kept.engine / "sealed.json").write_text(damaged)
        assert not kept.sealed()


def test_nothing_is_sealed_where_nothing_was_written(home):
    kept = place(home, ENGINE, MACHINE)
    assert not kept.seal()
    kept.engine.rename(kept.engine.with_suffix(".moved"))
    assert not kept.seal()


def test_clearing_takes_the_engine_and_forgetting_the_timings_but_not_their_lock(home):
    kept = place(home, ENGINE, MACHINE)
    (kept.engine / "one.engine").write_bytes(b"whole")
    (kept.timings / "x.timing").write_bytes(b"learnt")
    kept.seal()
    with kept.locked(lambda: None):
        kept.clear()
        kept.forget_timings()
    assert list(kept.engine.iterdir()) == []
    assert [found.name for found in kept.timings.iterdir()] == ["lock"]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_that_others_may_write_to_is_refused(home, mode):
    place(home, ENGINE, MACHINE).engine.chmod(mode)
    with pytest.raises(NotPrivateError, match="chmod 700"):
        place(home, ENGINE, MACHINE)


def test_a_folder_of_somebody_else_is_refused(home, monkeypatch):
    place(home, ENGINE, MACHINE)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(NotPrivateError, match=f"belongs to user {me}, not to you"):
        place(home, ENGINE, MACHINE)


def test_a_link_is_refused_wherever_it_leads(home, tmp_path):
    kept = place(home, ENGINE, MACHINE)
    kept.engine.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    kept.engine.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotPrivateError, match="is a link"):
        place(home, ENGINE, MACHINE)


def test_a_cache_that_cannot_be_made_or_written_is_an_oserror(home, monkeypatch):
    home.parent.parent.joinpath("cache").write_text("a file")
    with pytest.raises(OSError, match="cache"):
        place(home, ENGINE, MACHINE)
    home.parent.unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="cannot be written"):
        place(home, ENGINE, MACHINE)


def test_one_compiles_at_a_time_and_who_waits_is_told(home):
    kept, told, order = place(home, ENGINE, MACHINE), [], []

    def second():
        with place(home, {**ENGINE, "bundle": "other"}, MACHINE).locked(lambda: told.append("waiting")):
            order.append("second")

    with kept.locked(lambda: told.append("never")):
        thread = threading.Thread(target=second)
        thread.start()
        for _ in range(500):
            if told:
                break
            thread.join(0.01)
        order.append("first")
    thread.join(5)
    assert told == ["waiting"]
    assert order == ["first", "second"]


def test_a_file_system_without_locks_is_no_obstacle(home, monkeypatch):
    def no_locks(file, how):
        raise OSError("not supported")

    names = {"flock": no_locks, "LOCK_EX": 2, "LOCK_NB": 4}
    monkeypatch.setattr("scgpt_runtime.engine_cache.fcntl", SimpleNamespace(**names))
    with place(home, ENGINE, MACHINE).locked(lambda: pytest.fail("there is nothing to wait for")):
        pass
