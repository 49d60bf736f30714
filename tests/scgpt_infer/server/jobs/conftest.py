"""A seat over the toy model, and a store with a job."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.records import Job, Submitted, upload_in
from scgpt_infer.server.jobs.store import JobStore
from tests.scgpt_infer.server.jobs.seat_stand_in import Seat, seat


@pytest.fixture
def toy_seat(toy_model: Path, tmp_path: Path) -> Iterator[Seat]:
    with seat(toy_model, tmp_path / "seat") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs")


@pytest.fixture
def submit(store: JobStore, toy_h5ad: Path) -> Callable[..., Job]:
    """Submits the toy cells as a job."""

    def submit(owner: str = "", created: float = 1.0, **asked: object) -> Job:
        told = JobAsked(**{"model": "toy", "name": "my cells.h5ad", "task": "embed", "output": "npy", **asked})
        folder = store.begin()
        shutil.copyfile(toy_h5ad, upload_in(folder, ".h5ad"))
        return store.submit(folder, Submitted(told, owner, created))

    return submit
