"""The whole server: it starts, answers, outlives its processes, and ends in order."""

import http.client
import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from scgpt_infer.models import resolve

from .conftest import serving

GENES = ["CD3D", "CD3E", "IL7R", "MS4A1", "CD79A", "LYZ", "S100A8", "NKG7", "GNLY", "FCER1A", "PPBP", "no such gene"]


def body(first, n_cells=1):
    """A request of the Open Inference Protocol; cells of the same number are the same."""
    rows = [[1 + (first + cell) * (gene + 3) % 17 for gene in range(len(GENES))] for cell in range(n_cells)]
    nnz = n_cells * len(GENES)
    tensors = {
        "genes": ("BYTES", [nnz], GENES * n_cells),
        "values": ("FP32", [nnz], [value for row in rows for value in row]),
        "indptr": ("INT64", [n_cells + 1], list(range(0, nnz + 1, len(GENES)))),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": shape, "data": data} for name, (kind, shape, data) in tensors.items()
    ]
    return json.dumps({"inputs": inputs, "outputs": [{"name": "embedding"}]}).encode()


def ask(url, first, n_cells=1, model="demo"):
    """(n_cells, dim) vectors."""
    request = urllib.request.Request(f"{url}/v2/models/{model}/infer", body(first, n_cells), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        (output,) = json.load(answer)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def process_of(server, role, other_than=None):
    """Number of the first process of a role, as soon as there is one; one that was killed may not be gone yet."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        for child in map(int, children):
            if child != other_than and role in _command(child):
                return child
        time.sleep(0.02)
    raise AssertionError(f"no {role} among {children}")


def _command(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return ""


def post(url, path):
    with urllib.request.urlopen(urllib.request.Request(url + path, b"{}", method="POST"), timeout=60) as answer:
        return answer.status


class Load:
    """Clients that ask without a pause until the block ends; every answer is kept, every failure too."""

    def __init__(self, url, clients=4):
        self.answers, self.failures = [], []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(100 * client,)) for client in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.until(8)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, more):
        """Wait for so many further answers."""
        wanted, limit = len(self.answers) + more, time.monotonic() + 60
        while len(self.answers) < wanted and not self.failures:
            assert time.monotonic() < limit
            time.sleep(0.01)

    def _ask(self, number):
        while not self._stop.is_set():
            try:
                self.answers.append((number, ask(self._url, number)))
            except urllib.error.HTTPError as error:
                self.failures.append((error.code, error.read()))
                return
            except Exception as error:
                self.failures.append(error)
                return
            number += 1


def test_it_is_ready_when_its_model_has_answered(running):
    told = running.get("/readyz")
    assert told == {"status": "ready", "models": [{"name": "demo", "state": "ready"}]}


def test_a_cell_alone_and_among_others_has_the_same_vector(running):
    together = ask(running.url, 0, 32)
    with ThreadPoolExecutor(8) as threads:
        alone = np.concatenate(list(threads.map(lambda cell: ask(running.url, cell), range(32))))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_its_vectors_are_those_of_embed(running):
    import anndata

    from scgpt_infer import embed

    rows = np.array(json.loads(body(0, 5))["inputs"][1]["data"], np.float32).reshape(5, -1)
    cells = anndata.AnnData(rows)
    cells.var_names = GENES
    found = embed(cells, model="demo", provider="cpu", min_match=0).obsm["X_scGPT_demo"]
    np.testing.assert_allclose(ask(running.url, 0, 5), found, rtol=0, atol=1e-5)


def test_what_was_accepted_is_answered_though_the_models_process_is_killed(tmp_path):
    with serving(tmp_path) as server:
        before = {number: ask(server.url, number) for number in range(3)}
        with Load(server.url) as load:
            seat = process_of(server, "seat.process")
            for _ in range(2):
                os.kill(seat, signal.SIGKILL)
                seat = process_of(server, "seat.process", other_than=seat)
                load.until(12)  # by the new one
        assert load.failures == []
        for number, vectors in load.answers:
            if number in before:
                np.testing.assert_array_equal(vectors, before[number])
        assert any("another one takes its place" in line["message"] for line in server.lines())
        # a front end that dies takes its connections along, and is there again
        os.kill(process_of(server, "front.process"), signal.SIGKILL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                np.testing.assert_array_equal(ask(server.url, 1), before[1])
                break
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        else:
            pytest.fail("no front end came back")


def test_a_reload_drops_no_request(running):
    with Load(running.url) as load:
        assert post(running.url, "/v2/repository/models/demo/load") == 200
        load.until(8)
    assert load.failures == []


def test_a_model_that_was_written_into_answers_nothing_more(tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(resolve("demo").path, bundle)
    with serving(tmp_path, models=[{"name": "demo", "path": str(bundle)}]) as server:
        good = ask(server.url, 1)
        (weights,) = bundle.glob("graphs/weights.float32*")
        with weights.open("r+b") as stream:
            stream.seek(1000)
            stream.write(os.urandom(100_000))
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server.url, 1)
        assert refused.value.code == 503
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.get("/readyz")
        assert refused.value.code == 503
        told = json.load(refused.value)["models"][0]
        assert told["state"] in ("failed", "loading")
        shutil.copytree(resolve("demo").path, bundle, dirs_exist_ok=True)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                np.testing.assert_array_equal(ask(server.url, 1), good)
                return
            except urllib.error.HTTPError:
                time.sleep(0.2)
        pytest.fail("it did not come back with its files")


def test_sigterm_answers_what_was_accepted_and_ends_well(tmp_path):
    with serving(tmp_path, drain_seconds=2) as server:
        expected = ask(server.url, 0, 256)
        found, seat = [], process_of(server, "seat.process")
        os.kill(seat, signal.SIGSTOP)  # so that none is answered before all are there
        threads = [threading.Thread(target=lambda: found.append(ask(server.url, 0, 256))) for _ in range(4)]
        for thread in threads:
            thread.start()
        host = urlsplit(server.url)
        limit = time.monotonic() + 60
        while running_requests(server) < 4:
            assert time.monotonic() < limit
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        os.kill(seat, signal.SIGCONT)
        assert not_ready(server)  # told to those who look, while it drains
        for thread in threads:
            thread.join()
        assert server.process.wait(30) == 0
        assert len(found) == 4
        for vectors in found:
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection(host.hostname, host.port, timeout=5).connect()


def not_ready(server):
    """Whether the server says by itself that it is not ready any more."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            server.get("/readyz")
        except urllib.error.HTTPError as error:
            return error.code == 503
        except OSError:
            return False
    return False


def running_requests(server):
    """Requests that are being answered now, as metrics tell them."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("scgpt_infer_requests_in_flight "):
                return float(line.split()[1])
    raise AssertionError("no such metric")


def test_a_model_that_cannot_be_opened_ends_the_start_with_its_reason(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, "-m", "scgpt_infer", "serve", "--model", f"x={tmp_path / 'nothing'}", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "nothing" in ended.stderr
    assert "Traceback" not in ended.stderr
