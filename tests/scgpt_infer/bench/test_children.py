"""Processes of their own."""

import subprocess
import sys

import pytest

from scgpt_infer.bench.children import ask
from scgpt_runtime.errors import ProviderError


def test_an_answer_comes_back_from_another_process(toy_model):
    found = ask({"task": "choose", "bundle": str(toy_model), "threads": 1})
    assert found["precision"] in ("fp32", "bf16")


def test_what_cannot_run_comes_back_as_its_message(tmp_path):
    with pytest.raises(ProviderError, match="There is no"):
        ask({"task": "choose", "bundle": str(tmp_path / "nothing"), "threads": 1})


def test_a_process_that_fails_is_told_by_its_last_line():
    with pytest.raises(ProviderError, match="no such task: dance"):
        ask({"task": "dance"})


def test_a_process_that_is_killed_names_the_signal(monkeypatch):
    real = subprocess.Popen

    def killing_itself(command, **settings):
        script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        return real([sys.executable, "-c", script], **settings)

    monkeypatch.setattr(subprocess, "Popen", killing_itself)
    with pytest.raises(ProviderError, match="SIGKILL; memory may have run out"):
        ask({"task": "choose"})


def test_an_interrupt_leaves_no_process_behind(monkeypatch):
    started = []
    real = subprocess.Popen

    class Interrupted(real):
        def __init__(self, command, **settings):
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **settings)
            started.append(self)

        def communicate(self, *args, **settings):
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask({"task": "choose"})
    assert started[0].returncode is not None
    for pipe in (started[0].stdin, started[0].stdout, started[0].stderr):
        pipe.close()
