"""The proof on a GPU: what replays recordings is judged by what it replays."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import fake_driver as fake
import toy_bundle as toy
from scgpt_runtime import proof, verify
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import DeviceMemoryError, ProviderError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.gpus import Driver
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.proof import prove, worst_answer
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.routes import CudaVersions
from scgpt_runtime.tensorrt import bucket_for
from toy_gpu import MODELS

LONGEST = 1200


def choice_of(dialect, instances=2):
    return ProviderChoice("cuda", "fp16", "fp16", dialect, instances, 1, "by rule", (0,))


class Lanes:
    """Lanes that are taken in turn; each records a shape and replays it, with the fault that it is given.

    Parameters
    ----------
    golden
        What a right answer is taken from.
    lanes
        How many.
    at_once
        Whether a shape is recorded when it comes first, as packed ones are, or when it comes again.
    fault
        ``stale``: a replay answers as the recording did; ``moved``: a recording does not outlive a larger batch.
    wrong
        Lanes that have the fault.
    room
        Most tokens of a batch.
    """

    provider = "Fake 1"

    def __init__(self, golden, lanes=2, at_once=False, fault="", wrong=(1,), room=10**9):
        self.golden, self.at_once, self.fault, self.wrong, self.room = golden, at_once, fault, wrong, room
        self.turn = itertools.cycle(range(lanes))
        self.seen = [{} for _ in range(lanes)]
        self.recorded = [{} for _ in range(lanes)]
        self.largest = [0] * lanes
        self.contents = [{} for _ in range(lanes)]

    def run(self, batch):
        if batch.n_tokens > self.room:
            raise DeviceMemoryError("no room")
        lane = next(self.turn)
        shape = tuple(array.shape for array in batch.arrays.values())
        self.contents[lane].setdefault(shape, []).append(batch.ids.tobytes() + batch.values.tobytes())
        self.seen[lane][shape] = self.seen[lane].get(shape, 0) + 1
        answer = self.right(batch)
        if shape in self.recorded[lane]:
            return {"cell": self.replayed(lane, shape, answer)}
        self.largest[lane] = max(self.largest[lane], batch.n_tokens)
        if self.at_once or self.seen[lane][shape] > 1:
            self.recorded[lane][shape] = answer, self.largest[lane]
        return {"cell": answer}

    def right(self, batch):
        if (batch.ids == toy.SETTINGS.pad_id).all():
            return np.ones((len(batch.cells), toy.DIM), np.float32)
        return self.golden.vectors[batch.cells]

    def replayed(self, lane, shape, answer):
        then, largest = self.recorded[lane][shape]
        if lane not in self.wrong:
            return answer
        if self.fault == "stale" or (self.fault == "moved" and largest < self.largest[lane]):
            return then if self.fault == "stale" else np.zeros_like(answer)
        return answer

    def feed(self, arrays):
        raise NotImplementedError

    def close(self):
        pass


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "gpus", lambda: (fake.gpu(),))
    monkeypatch.setattr(proof, "driver", lambda: Driver("580.65.06", (13, 0)))
    monkeypatch.setattr(proof, "cuda_versions", lambda: CudaVersions((1, 31), (9, 28, 1)))
    (graph,) = toy.manifest().graphs
    graphs = (graph, *(replace(graph, precision="fp16", dialect=dialect) for dialect in CUDA_DIALECTS))
    ids = dict.fromkeys(("fp32", "fp16"), "0" * 32)
    return Bundle.open(toy.write(tmp_path / "toy", graphs=graphs, precisions=("fp32", "fp16"), vector_ids=ids))


ROUTES = [(dialect, dialect == "cuda-packed") for dialect in CUDA_DIALECTS]


@pytest.mark.parametrize(("dialect", "at_once"), ROUTES)
@pytest.mark.parametrize("fault", ["stale", "moved"])
@pytest.mark.parametrize("wrong", [(0,), (1,), (2,)])
def test_a_lane_that_replays_wrongly_is_found(bundle, dialect, at_once, fault, wrong):
    lanes = Lanes(bundle.golden(), 3, at_once, fault, wrong)
    with pytest.raises(ProviderError, match="answers wrongly"):
        prove(bundle, choice_of(dialect, 3), lanes, "embed")


@pytest.mark.parametrize(("dialect", "at_once"), ROUTES)
def test_every_lane_replays_every_shape_with_other_cells_than_it_was_recorded_with(bundle, dialect, at_once):
    lanes = Lanes(bundle.golden(), 2, at_once)
    assert prove(bundle, choice_of(dialect), lanes, "embed") < 1e-12
    for contents, recorded in zip(lanes.contents, lanes.recorded, strict=True):
        assert len(recorded) > 1
        for shape in recorded:
            recording = contents[shape][0 if at_once else 1]
            assert any(content != recording for content in contents[shape][2:])


def test_batches_that_do_not_fit_are_halved(bundle):
    lanes = Lanes(bundle.golden(), room=300)
    assert prove(bundle, choice_of("cuda-flash"), lanes, "embed") < 1e-12
    with pytest.raises(DeviceMemoryError):
        prove(bundle, choice_of("cuda-flash"), Lanes(bundle.golden(), room=1), "embed")


def test_what_records_nothing_answers_once(bundle):
    class Counting(Lanes):
        runs = 0

        def run(self, batch):
            self.runs += 1
            return super().run(batch)

    lanes = Counting(bundle.golden())
    worst_answer(bundle, replace(choice_of("portable"), precision="fp32", sealed="fp32"), lanes)
    assert lanes.runs == 1


@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_sessions_that_drive_gpus_pass_with_all_shapes_recorded(bundle, tmp_path, dialect):
    path = tmp_path / "graph.onnx"
    path.write_bytes(MODELS[dialect]().SerializeToString())
    choice = choice_of(dialect)
    session = GpuSession.open(path, replace(choice, provider="cpu", precision="fp32", sealed="fp32", devices=()))
    try:
        assert worst_answer(bundle, choice, session) <= 1e-6
        for lane in session._lanes:
            shapes = lane._buffers.shapes.values()
            assert len(shapes) > 1
            assert all(shape.recorded and shape.seen > 2 for shape in shapes)
    finally:
        session.close()


def test_verify_judges_replays_too(bundle, monkeypatch):
    monkeypatch.setattr(verify, "candidates", lambda *_: (choice_of("cuda-flash"),))
    monkeypatch.setattr(verify, "open_graph", lambda *_: Lanes(bundle.golden(), fault="stale"))
    assert not any(result.passed for result in verify.verify(bundle, "cuda", "fp16"))
    monkeypatch.setattr(verify, "open_graph", lambda *_: Lanes(bundle.golden()))
    assert all(result.passed for result in verify.verify(bundle, "cuda", "fp16"))


def test_verify_tells_of_what_fails_beside_what_runs(bundle, monkeypatch):
    def opened(bundle, task, choice, cache_dir):
        if choice.dialect == "cuda-packed":
            raise DeviceMemoryError("no room")
        return Lanes(bundle.golden())

    monkeypatch.setattr(verify, "candidates", lambda *_: (choice_of("cuda-packed"), choice_of("cuda-flash")))
    monkeypatch.setattr(verify, "open_graph", opened)
    failed, passed = verify.verify(bundle, "cuda", "fp16")
    assert passed.passed
    assert not failed.passed
    assert (failed.provider, failed.error) == ("cuda cuda-packed", "no room")


def test_each_of_tensorrts_engines_is_proven(tmp_path):
    class Engines:
        """Answers as the model does, but for one bucket, which may be wrong."""

        provider = "an engine"

        def __init__(self, golden, wrong=0):
            self.golden, self.wrong, self.lengths = golden, wrong, set()

        def run(self, batch):
            longest = bucket_for(batch.ids.shape[1], LONGEST).longest
            self.lengths.add(longest)
            sign = -1 if longest == self.wrong else 1
            return {"cell": sign * self.golden.vectors[batch.cells]}

        def close(self):
            pass

    settings = replace(toy.SETTINGS, max_length=LONGEST)
    bundle = Bundle.open(toy.write(tmp_path / "toy", tokenizer=settings))
    choice = ProviderChoice("tensorrt", "fp32", "fp32", "portable", 1, 1, "by rule", (0,))
    engines = Engines(bundle.golden())
    assert worst_answer(bundle, choice, engines) < 1e-12
    assert engines.lengths == {256, 512, 768, 1216}
    for wrong in engines.lengths:
        assert worst_answer(bundle, choice, Engines(bundle.golden(), wrong)) > 1


def test_a_packed_batch_is_recorded_with_cells_of_other_lengths(bundle):
    (batch, *_) = proof._batches(bundle, choice_of("cuda-packed"), 4096)
    other = proof._emptied(batch, bundle.manifest.tokenizer)
    assert {name: array.shape for name, array in other.arrays.items()} == {
        name: array.shape for name, array in batch.arrays.items()
    }
    for name in ("offsets", "places", "firsts"):
        assert not np.array_equal(getattr(other, name), getattr(batch, name))
    assert other.offsets[-1] == batch.offsets[-1]
    assert sorted(other.places.ravel()) == sorted(batch.places.ravel())


def test_a_proof_without_all_recordings_is_not_kept(bundle, tmp_path, monkeypatch):
    class Ceasing(Lanes):
        """Stops recording on the way, as a GPU may that another program records on."""

        recording = True

        def run(self, batch):
            self.recording = False
            return super().run(batch)

    monkeypatch.setattr(proof, "GpuSession", Lanes)
    choice = choice_of("cuda-flash")
    assert prove(bundle, choice, Ceasing(bundle.golden()), "embed", tmp_path) < 1e-12
    with pytest.raises(ProviderError, match="answers wrongly"):  # proven again, or it would pass
        prove(bundle, choice, Ceasing(bundle.golden(), fault="stale"), "embed", tmp_path)


class TokenLanes(Lanes):
    """The same for all tokens: what the model says of ``<cls>`` is the cell's vector."""

    def run(self, batch):
        cells = super().run(batch)["cell"]
        hidden = np.full((*batch.ids.shape, cells.shape[1]), np.nan, np.float32)
        hidden[:, 0] = cells
        return {"hidden": hidden}


def of_tokens(bundle, pooling):
    """The same bundle with graphs for all tokens."""
    graphs = bundle.manifest.graphs
    told = tuple(replace(graph, task="tokens") for graph in graphs if graph.dialect != "cuda-packed")
    return replace(bundle, manifest=replace(bundle.manifest, graphs=(*graphs, *told), pooling=pooling))


@pytest.mark.parametrize("dialect", ["cuda-lengths", "cuda-flash", "cuda-exact"])
def test_a_graph_of_all_tokens_is_proven_itself_by_what_it_says_of_cls(bundle, dialect, monkeypatch):
    monkeypatch.delattr(proof, "open_graph")
    found = of_tokens(bundle, "cls")
    assert prove(found, choice_of(dialect), TokenLanes(bundle.golden()), "tokens") < 1e-12
    with pytest.raises(ProviderError, match="answers wrongly"):
        prove(found, choice_of(dialect), TokenLanes(bundle.golden(), fault="stale"), "tokens")


def test_where_vectors_are_no_hidden_state_the_graph_of_cells_is_proven(bundle, monkeypatch):
    opened = []

    def open_graph(bundle, task, choice, cache_dir):
        opened.append(task)
        return Lanes(bundle.golden())

    monkeypatch.setattr(proof, "open_graph", open_graph)
    wrong = TokenLanes(bundle.golden(), fault="stale")
    assert prove(of_tokens(bundle, "w-pool"), choice_of("cuda-flash"), wrong, "tokens") < 1e-12
    assert opened == ["embed"]


def test_proofs_of_two_tasks_are_kept_apart(bundle, tmp_path):
    found = of_tokens(bundle, "cls")
    assert prove(found, choice_of("cuda-flash"), Lanes(bundle.golden()), "embed", tmp_path) < 1e-12
    with pytest.raises(ProviderError, match="answers wrongly"):
        prove(found, choice_of("cuda-flash"), TokenLanes(bundle.golden(), fault="stale"), "tokens", tmp_path)
