"""What is timed of an engine, and what of it is counted."""

import time

import numpy as np
import pytest

import toy_bundle
from scgpt_infer.bench.combination import latencies, read, throughput
from scgpt_infer.bench.energy import Counter, EnergyMeter
from scgpt_infer.bench.lengths import save_tokens
from scgpt_infer.bench.reading import Order
from scgpt_runtime.cells import Batch


class Sleeper:
    """An engine that takes its time and keeps a list of what it answered."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.asked = seconds, []

    def infer(self, batch):
        time.sleep(self.seconds)
        self.asked.append(batch)
        return {}

    def answers(self, stream):
        for batch in stream:
            yield batch, self.infer(batch)


def batch(*lengths: int) -> Batch:
    longest = max(lengths)
    shape = (len(lengths), longest)
    return Batch(
        np.zeros(shape, np.uint16), np.zeros(shape, np.uint8), np.array(lengths, np.int32), np.arange(shape[0])
    )


def test_batches_go_round_and_padding_does_not_count():
    engine, work = Sleeper(), [batch(5, 3), batch(2)]
    run = throughput(engine, work, 5, None, 5)
    assert [id(found) for found in engine.asked] == [id(work[place]) for place in (0, 1, 0, 1, 0)]
    assert (run.cells, run.tokens, run.length) == (3 * 2 + 2 * 1, 3 * 8 + 2 * 2, 5)
    assert run.seconds > 0
    assert run.joules is None


def test_energy_is_read_around_the_run(tmp_path):
    counter = tmp_path / "energy_uj"
    counter.write_text("10")

    class Burner(Sleeper):
        def infer(self, batch):
            counter.write_text(str(int(counter.read_text()) + 2_000_000))
            return super().infer(batch)

    meter = EnergyMeter((Counter(counter, "package-0", 10**9),))
    assert throughput(Burner(), [batch(4)], 3, meter).joules == pytest.approx(6)


def test_one_cell_alone_is_answered_at_least_five_times_after_warming_up():
    engine, cell = Sleeper(0.002), batch(4)
    found = latencies(engine, cell, 0.0)
    assert len(found) == 5
    assert len(engine.asked) == 7
    assert min(found) >= 0.002


@pytest.mark.parametrize("with_sample", [False, True])
def test_a_bundle_is_read_whole(toy_model, tmp_path, with_sample):
    sample = toy_bundle.tokens_of([9, 5, 24, 2])
    save_tokens(sample, tmp_path / "sample.npz")
    order = Order(
        bundle=str(toy_model),
        provider="cpu",
        precision="fp32",
        threads=1,
        batch_tokens=None,
        lengths=(5, 24),
        seconds=0.001,
        seed=0,
        sample=str(tmp_path / "sample.npz") if with_sample else None,
        prove=True,
        began=time.monotonic(),
    )
    found = read(order)
    assert [run.length for run in found.runs] == [at.length for at in found.latencies] == [5, 24]
    assert all(run.tokens == run.cells * run.length for run in found.runs)
    assert found.one_minus_cosine is not None
    assert found.one_minus_cosine < 1e-6
    assert len(found.sample) == with_sample
    assert all((run.cells % 4, run.tokens) == (0, run.cells * 10) for run in found.sample)  # whole turns, mean 10
    assert min(found.process_s, found.open_s, found.first_s) >= 0
    assert found.opened is None or found.opening_peak is None or found.opening_peak >= found.opened // 2
