"""A job that is about to hold too much ends, keeps what is done, and goes on from there when more is granted."""

from pathlib import Path

import pytest

from scgpt_infer.api import embed_file
from scgpt_infer.interrupts import asked_to_stop
from scgpt_infer.memory import watch
from scgpt_infer.memory.opening import open_within
from scgpt_infer.memory.watch import Watch
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError

GRANTED = 1_000_000_000
OPTIONS = EmbedOptions(provider="cpu", instances=1, batch_tokens=24)


@pytest.mark.parametrize("held", [GRANTED - 1000, GRANTED + 1000], ids=["near the limit", "above it"])
def test_what_is_done_is_kept(held: int, toy_h5ad: Path, toy_model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(watch, "trim", lambda: None)
    output, holds = tmp_path / "vectors.npy", [0]
    minding = Watch(GRANTED, lambda: holds[0])

    def progress(done: int, total: int) -> None:
        if done > 1024 and not minding.peak:  # the first range is kept, the second one in work
            holds[0] = held
            minding.look()

    with pytest.raises(OptionError, match="What was done is kept") as told:  # noqa: SIM117 -- the error is of the job
        with open_within(toy_h5ad, toy_model, OPTIONS) as (source, model), minding:
            model.job(source).into_file(output, minding.telling(progress))
    assert told.value.exit_code == 2
    assert any("1,0" in note or "1,1" in note for note in told.value.__notes__)
    assert not output.exists()
    assert asked_to_stop() is None
    again = embed_file(toy_h5ad, output, toy_model, OPTIONS)
    assert again.n_kept >= 1024
    embed_file(toy_h5ad, tmp_path / "undisturbed.npy", toy_model, OPTIONS)
    assert output.read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()


def test_a_job_within_its_memory_gives_the_same_file(toy_h5ad: Path, toy_model: Path, tmp_path: Path):
    for name, memory in (("bound", 10**10), ("free", None)):
        embed_file(toy_h5ad, tmp_path / f"{name}.npy", toy_model, OPTIONS, work=WorkOptions(memory=memory))
    assert (tmp_path / "bound.npy").read_bytes() == (tmp_path / "free.npy").read_bytes()


def test_too_little_memory_is_refused_before_anything_is_written(toy_h5ad: Path, toy_model: Path, tmp_path: Path):
    with pytest.raises(OptionError, match=r"Grant at least --memory \d+MB"):
        embed_file(toy_h5ad, tmp_path / "vectors.npy", toy_model, OPTIONS, work=WorkOptions(memory=1_000_000))
    assert not (tmp_path / "vectors.npy").exists()
    assert not (tmp_path / "vectors.npy.parts").exists()
