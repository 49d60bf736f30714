import logging
from dataclasses import replace

import numpy as np
import pytest

import fake_driver as fake
import toy_bundle as toy
from scgpt_runtime import opening, proof, trial
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import Asked
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import DeviceMemoryError, InternalError, ProviderError
from scgpt_runtime.gpus import Driver
from scgpt_runtime.machine import CoreReport
from scgpt_runtime.opening import cell_bytes, open_best, within_memory
from scgpt_runtime.proof import LIMITS, prove
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.routes import CudaVersions
from scgpt_runtime.trial import fastest_first

OPENVINO = ProviderChoice("openvino", "bf16", "fp32", "portable", 2, 1, "by rule")
FP32 = ProviderChoice("openvino", "fp32", "fp32", "portable", 2, 1, "by rule")
CPU = ProviderChoice("cpu", "fp32", "fp32", "portable", 2, 1, "by rule")
CUDA = ProviderChoice("cuda", "fp32", "fp32", "portable", 2, 1, "by rule", (0,))


@pytest.fixture
def bundle(tmp_path):
    return Bundle.open(toy.write(tmp_path / "toy"))


class Runner:
    """Answers the golden cells as they were sealed, turned by an angle."""

    provider = "Fake 1"

    def __init__(self, bundle, angle=0.0, pause=0.0):
        self.golden, self.angle, self.pause = bundle.golden(), angle, pause
        self.runs, self.closed = 0, False

    def run(self, batch):
        import time

        time.sleep(self.pause)
        self.runs += 1
        vectors = self.golden.vectors[batch.cells]
        turned = vectors * np.cos(self.angle)
        turned[:, 0] += np.sin(self.angle)
        return {"cell": turned}

    def close(self):
        self.closed = True


def test_what_the_export_measured_needs_no_proof(bundle):
    assert prove(bundle, CPU, Runner(bundle), "embed") is None


def test_another_provider_proves_itself_once_and_is_remembered(bundle, tmp_path):
    first, second = Runner(bundle), Runner(bundle)
    worst = prove(bundle, OPENVINO, first, "embed", tmp_path / "cache")
    assert worst <= 1e-12
    assert first.runs > 0
    assert prove(bundle, OPENVINO, second, "embed", tmp_path / "cache") == worst
    assert second.runs == 0
    prove(bundle, FP32, second, "embed", tmp_path / "cache")
    assert second.runs > 0


@pytest.fixture
def on_gpu(monkeypatch):
    """Pretend GPUs and a driver to whatever keys a proof."""

    def pretend(*gpus, driver="580.65.06"):
        monkeypatch.setattr(proof, "gpus", lambda: gpus)
        monkeypatch.setattr(proof, "driver", lambda: Driver(driver, (13, 0)))
        monkeypatch.setattr(proof, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))

    return pretend


def test_a_proof_holds_for_gpus_of_its_kind_and_driver(bundle, tmp_path, on_gpu):
    on_gpu(fake.gpu(), fake.gpu(1))
    runner = Runner(bundle)
    prove(bundle, CUDA, runner, "embed", tmp_path)
    runs = runner.runs
    prove(bundle, replace(CUDA, devices=(1,)), runner, "embed", tmp_path)
    assert runner.runs == runs
    for change in ({"gpus": (fake.gpu(0, *fake.A100),)}, {"gpus": (fake.gpu(),), "driver": "590.1"}):
        on_gpu(*change.pop("gpus"), **change)
        prove(bundle, CUDA, runner, "embed", tmp_path)
        assert runner.runs > runs
        runs = runner.runs


def test_a_proof_that_does_not_fit_goes_on_with_half_the_tokens(bundle, on_gpu):
    class Small(Runner):
        def __init__(self, bundle, room):
            super().__init__(bundle)
            self.room, self.refused = room, 0

        def run(self, batch):
            if batch.n_tokens > self.room:
                self.refused += 1
                raise DeviceMemoryError("no room")
            return super().run(batch)

    on_gpu(fake.gpu())
    runner = Small(bundle, 256)
    assert prove(bundle, CUDA, runner, "embed") <= LIMITS["fp32"]
    assert runner.refused
    with pytest.raises(DeviceMemoryError):
        prove(bundle, CUDA, Small(bundle, 1), "embed")


def test_a_wrong_answer_is_refused_with_its_figure_and_not_remembered(bundle, tmp_path):
    for _ in range(2):
        wrong = Runner(bundle, angle=0.5)
        with pytest.raises(ProviderError, match=r"Fake 1 in bf16 answers wrongly .* 0\.\d+, at most 0\.001"):
            prove(bundle, OPENVINO, wrong, "embed", tmp_path / "cache")
    assert prove(bundle, OPENVINO, Runner(bundle), "embed", tmp_path / "cache") <= LIMITS["bf16"]


def test_an_answer_that_is_no_number_is_refused(bundle):
    class Broken(Runner):
        def run(self, batch):
            return {"cell": np.full((len(batch.cells), toy.DIM), np.nan, np.float32)}

    with pytest.raises(ProviderError, match="is inf"):
        prove(bundle, OPENVINO, Broken(bundle), "embed")


def test_auto_goes_on_to_the_next_with_a_warning(bundle, monkeypatch, caplog):
    opened = []

    def opener(bundle, task, choice, cache_dir):
        opened.append(Runner(bundle, angle=0.5 if choice.precision == "bf16" else 0.0))
        return opened[-1]

    monkeypatch.setattr(opening, "candidates", lambda *_: (OPENVINO, FP32, CPU))
    monkeypatch.setattr(opening, "open_graph", opener)
    with caplog.at_level(logging.WARNING):
        choice, runner = open_best(bundle, Asked(), "embed", None, 24)
    assert (choice.provider, choice.precision) == ("openvino", "fp32")
    assert "answers wrongly" in caplog.text
    assert [one.closed for one in opened] == [True, False]
    assert runner is opened[1]
    assert "proven on golden cells" in choice.why


def test_what_was_asked_for_by_name_is_refused_not_replaced(bundle, monkeypatch):
    monkeypatch.setattr(opening, "candidates", lambda *_: (OPENVINO,))
    monkeypatch.setattr(opening, "open_graph", lambda *_: Runner(bundle, angle=0.5))
    with pytest.raises(ProviderError, match="answers wrongly"):
        open_best(bundle, Asked("openvino", "bf16"), "embed", None, 24)


def slow(pauses):
    """Opens runners that take the given time a batch."""
    return lambda bundle, task, choice: Runner(bundle, pause=pauses[choice.provider, choice.precision])


PAUSES = {("openvino", "bf16"): 0.02, ("openvino", "fp32"): 0.02, ("cpu", "fp32"): 0.02}


def test_a_measurement_that_disagrees_with_the_rule_wins_and_is_remembered(bundle, tmp_path):
    told = bundle, (OPENVINO, FP32, CPU), Asked(), "embed", tmp_path
    found = fastest_first(*told, opener=slow({**PAUSES, ("cpu", "fp32"): 0.001}))
    assert found[0].provider == "cpu"
    assert "measured here" in found[0].why
    assert "e+" not in found[0].why  # rates of small models have more than three digits
    assert len(found) == 3
    again = fastest_first(*told, opener=lambda *_: pytest.fail("measured twice"))
    assert again == found


def test_the_rule_stands_where_nothing_is_clearly_faster(bundle, tmp_path):
    found = fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=slow(PAUSES))
    assert found[0].provider == "openvino"


def test_jobs_that_start_together_keep_the_outcome_that_was_first(bundle, tmp_path):
    told = bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path

    def meanwhile(bundle, task, choice):
        if choice.provider == "openvino":  # another process begins later, ends sooner, and finds the other one faster
            fastest_first(*told, opener=slow(PAUSES))
        return slow({**PAUSES, ("cpu", "fp32"): 0.001})(bundle, task, choice)

    assert fastest_first(*told, opener=meanwhile)[0].provider == "openvino"
    assert not list(tmp_path.glob("measured/*.part"))


def test_nothing_is_measured_where_the_folder_cannot_be_written(bundle, tmp_path):
    (tmp_path / "measured").write_text("in the way")
    assert fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=slow({})) == (OPENVINO, CPU)


def test_what_fails_while_it_is_measured_is_passed_over(bundle, tmp_path):
    class Failing(Runner):
        def run(self, batch):
            raise InternalError("no")

    def opener(bundle, task, choice):
        return Failing(bundle) if choice.provider == "openvino" else Runner(bundle)

    found = fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=opener)
    assert found[0].provider == "cpu"


def test_what_cannot_be_opened_is_not_measured(bundle, tmp_path):
    def opener(bundle, task, choice):
        if choice.provider == "openvino":
            raise ProviderError("no")
        return Runner(bundle)

    found = fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=opener)
    assert found[0].provider == "cpu"


@pytest.mark.parametrize("asked", [Asked("openvino", "bf16"), Asked("cpu", "fp32")])
def test_nothing_is_measured_where_nothing_is_open(bundle, tmp_path, asked):
    never = slow({})
    assert fastest_first(bundle, (OPENVINO,), asked, "embed", tmp_path, opener=never) == (OPENVINO,)


def test_nothing_is_measured_where_nothing_can_be_remembered(bundle):
    assert fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", None, opener=slow({})) == (OPENVINO, CPU)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("cells_per_second", "unheard_of"),
        lambda text: text.replace('"instances": 2', '"instances": 0'),
        lambda text: text.replace('"instances": 2', '"instances": "2"'),
        lambda text: text.replace('"provider": "cpu"', '"provider": null'),
        lambda text: text[: len(text) // 2],
    ],
)
def test_a_damaged_memory_is_measured_again(bundle, tmp_path, damage):
    told = bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path
    found = fastest_first(*told, opener=slow(PAUSES))
    (path,) = (tmp_path / "measured").iterdir()
    path.write_text(damage(path.read_text()))
    assert fastest_first(*told, opener=slow(PAUSES))[0].provider == found[0].provider


def test_another_machine_or_bundle_is_another_measurement(bundle, tmp_path, monkeypatch):
    fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=slow(PAUSES))
    monkeypatch.setattr(trial, "cores", lambda: CoreReport(3, 3, None))
    fastest_first(bundle, (OPENVINO, CPU), Asked(), "embed", tmp_path, opener=slow(PAUSES))
    assert len(list((tmp_path / "measured").iterdir())) == 2


def test_memory_of_the_machine_does_not_limit_a_gpu(bundle):
    many = replace(CUDA, instances=8)
    assert within_memory(bundle, "embed", many, 24, free=1) is many


def test_memory_that_is_short_takes_instances_away(bundle):
    many = replace(CPU, instances=8)
    assert within_memory(bundle, "embed", many, 24, free=1 << 40) is many
    few = within_memory(bundle, "embed", many, 24, free=1)
    assert (few.instances, few.threads) == (1, 8)
    assert "memory" in few.why


def test_a_cell_of_a_generator_takes_memory_by_its_tokens_not_by_their_square(bundle):
    manifest = replace(bundle.manifest, dim=512, args={"d_hid": 512, "nheads": 8})
    perturbed, embedded = (
        [cell_bytes(manifest, task, tokens) for tokens in (5_000, 10_000)] for task in ("perturb", "embed")
    )
    assert perturbed[1] == 2 * perturbed[0] == pytest.approx(220e6, rel=0.1)
    assert embedded[1] > 3.5 * embedded[0]


@pytest.mark.parametrize(("provider", "precision"), [("cpu", "fp32"), ("openvino", "fp32")])
@pytest.mark.parametrize("instances", [1, 2])
def test_the_same_cell_has_the_same_vector_on_any_number_of_instances(bundle, provider, precision, instances):
    found = []
    for options in (
        EngineOptions(provider, precision, threads=instances, instances=instances),
        EngineOptions(provider, precision, threads=1),
    ):
        with Engine.open(bundle, options) as engine:
            assert engine.choice.instances == options.threads
            columns = np.arange(toy.GENES, dtype=np.int64)
            (result,) = engine.run([toy.cells(40)], columns)
            found.append(result.outputs["cell"])
    np.testing.assert_array_equal(*found)


def test_the_proof_is_one_minus_cosine_of_the_worst_cell(bundle):
    golden = bundle.golden()
    turned = golden.vectors.copy()
    turned[3] = -turned[3]
    assert proof.worst_of(golden, turned) == pytest.approx(2.0)
