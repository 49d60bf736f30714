"""Actors of a Ray cluster share a job: the same bytes as of one process, whatever happens to them. A real cluster."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from scgpt_infer.scale.actors import cluster_seats
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError, ProviderError

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one core each, both played by this one."""
    from ray.cluster_utils import Cluster

    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    room = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=room)
    made.add_node(num_cpus=1, object_store_memory=100 << 20)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    for name, handler in before.items():  # Ray puts its own in their place, and leaves them behind
        signal.signal(name, handler)


def test_actors_on_two_machines_give_the_bytes_of_one_process(cluster, place, pids, slowly):
    summary = place.embed("two", WorkOptions(ray="auto"), slowly(2))
    assert place.bytes("two") == place.bytes("alone")
    assert len(pids()) == 2, "as many as fit"
    assert summary.n_embedded == summary.n_cells - 1
    assert ray.is_initialized(), "the caller's connection is left open"


def test_an_actor_that_is_killed_costs_nothing_but_time(cluster, place, pids, slowly, caplog):
    kill = slowly(2, lambda: os.kill(pids()[0], signal.SIGKILL))
    place.embed("killed", WorkOptions(ray="auto", workers=2), kill)
    assert place.bytes("killed") == place.bytes("alone")
    assert place.parts_hash("killed") == place.parts_hash("alone")
    assert "is lost: The actor is dead because its worker process has died" in caplog.text


def test_a_machine_that_comes_late_takes_part(cluster, place, pids, slowly):
    nodes = []

    def add() -> None:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=100 << 20))

    grow, wait = slowly(2, add), slowly(3)

    def progress(done: int, total: int) -> None:
        grow(done, total)
        wait(done, total)

    try:
        place.embed("late", WorkOptions(ray="auto", workers=4), progress)
    finally:
        for node in nodes:
            cluster.remove_node(node)
    assert place.bytes("late") == place.bytes("alone")
    assert place.parts_hash("late") == place.parts_hash("alone")
    assert len(pids()) == 3, "the fourth has found no room"


def test_an_error_of_an_actor_is_that_of_one_process(cluster, place):
    with pytest.raises(ProviderError, match="has no int8 graph for embed"):
        place.embed("no", WorkOptions(ray="auto"), options=replace(place.options, precision="int8"))
    assert not list(place.folder.glob("no*"))


def test_a_cluster_without_room_has_to_be_told_for_how_much(cluster):
    with pytest.raises(OptionError, match=r"no GPU now.*--workers N"):
        cluster_seats(None, None, None, gpu=True)
    assert len(cluster_seats(3, None, None, gpu=True)) == 3
    assert [seat.threads for seat in cluster_seats(2, 8, None, gpu=False)] == [4, 4]


@pytest.mark.parametrize("address", ["ray://head:10001", "127.0.0.1:1"])
def test_an_address_where_no_cluster_is_ends_with_what_to_do(place, address):
    words = [sys.executable, "-m", "scgpt_infer", "embed", str(place.cells), "-m", str(place.model)]
    done = subprocess.run(
        [*words, "-o", str(place.folder / "x.npy"), f"--ray={address}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert address in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_on_a_cluster_of_its_own_stops_as_asked_and_goes_on_without(place):
    output = place.folder / "out.npy"
    words = [sys.executable, "-m", "scgpt_infer", "embed", str(place.cells), "-m", str(place.model), "-o", str(output)]
    words += ["--provider", "cpu", "--precision", "fp32", "--batch-tokens", "24"]
    with subprocess.Popen([*words, "--workers", "2", "--ray=local"], stderr=subprocess.PIPE, text=True) as process:
        place.wait_for_a_mark(process)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=100)
    assert process.returncode == 75, told
    assert "are done and kept" in told
    again = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(again.stdout)["n_kept"] > 0
    assert place.bytes("out") == place.bytes("alone")
