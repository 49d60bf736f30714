"""A folder of parts that several begin and end at once: nobody removes what another is at."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.api import embed_file
from scgpt_infer.ledger.folder import Ledger
from scgpt_infer.ledger.lock import Lock
from scgpt_infer.ledger.parts import Kept
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.spans import Shard
from scgpt_infer.writers import Part
from scgpt_runtime.errors import OutputError

WORK = Plan(None, 4, 2, 3, "float32", "X_scGPT", "scgpt_", "embeddings", {"seed": 1})


def part(first_row: int) -> Kept:
    return Kept(Part(first_row, np.ones((2, 3), np.float32), ("", "")), (f"c{first_row}", f"c{first_row + 1}"))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "x.npy.parts"


def test_a_shard_that_begins_while_the_whole_ends_keeps_its_lock_and_its_folder(folder):
    with ExitStack() as whole:
        done = whole.enter_context(Ledger.open(folder, WORK))
        done.keep(part(0), 4, 1024)

        def end_the_whole(line: str) -> None:
            done.remove()
            whole.close()

        with Ledger.open(folder, WORK, shard=Shard(1, 2), say=end_the_whole) as shard:
            assert sorted(path.name for path in folder.iterdir()) == ["lock.1-of-2", PLAN]
            shard.keep(part(2), 4, 1024)
            assert shard.is_complete
    assert sorted(path.name for path in folder.iterdir()) == ["ledger.1-of-2.jsonl", "part-000000000002.npz", PLAN]


def test_a_folder_that_goes_before_the_work_begins_is_made_again(folder, monkeypatch):
    write, taken = Plan.write, []

    def removed_first(plan: Plan, where: Path) -> None:
        if not taken:
            taken.append(where)
            shutil.rmtree(where)
        write(plan, where)

    monkeypatch.setattr(Plan, "write", removed_first)
    with Ledger.open(folder, WORK) as ledger:
        ledger.keep(part(0), 4, 1024)
    assert (folder / PLAN).exists()


def test_a_run_whose_progress_nobody_follows_says_once_that_it_waits(folder, toy_h5ad, toy_model, caplog):
    output = folder.with_suffix("")
    with Lock.take(folder / "lock", beat=0.05), pytest.raises(OutputError, match="Another process is at work"):
        embed_file(toy_h5ad, output, toy_model, EmbedOptions(provider="cpu"))
    assert [one.levelname for one in caplog.records if "is locked by" in one.message] == ["WARNING"]
