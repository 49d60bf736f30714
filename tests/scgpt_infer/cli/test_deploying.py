"""The ready examples of docs/deploying: each command line parses, and what can be run here is run."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml

from scgpt_infer import cli
from scgpt_infer.cli import commands

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = DOCS / "deploying"

_PLACE = r"(?:\$\([A-Z_]+\)|\$?\{[^{}]*\}|\$\w+)"
"""What a shell, Kubernetes, Snakemake or Nextflow fills in."""
_COMMAND = re.compile(r"^(?:exec )?scgpt-infer ((?:embed|merge)\b[^|&#]*)")


def commands_in(text: str) -> list[list[str]]:
    """The command lines of an example, with words in the places to be filled in."""
    text = text.replace("\\\n", " ")
    text = re.sub(r'"\s*\n\s*"', "", text)  # two pieces of one text in a Snakefile
    text = re.sub(rf"{_PLACE}/(?:{_PLACE}|(\d+))", r"0/8", text)
    text = re.sub(_PLACE, "2", text)
    lines = (line.strip() for line in text.split("\n"))
    lines = (line.strip('"') if line.startswith('"') else line for line in lines)
    starts = (line[line.find("scgpt-infer") :] if line.startswith(("srun", "seq")) else line for line in lines)
    return [shlex.split(found[1]) for line in starts if (found := _COMMAND.match(line))]


def listed_commands(path: Path) -> list[list[str]]:
    """Those of a Kubernetes manifest, in which a command is a list."""
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == "Job"]
    containers = [one for document in documents for one in document["spec"]["template"]["spec"]["containers"]]
    return [[re.sub(_PLACE, "0", word) for word in one["command"][1:]] for one in containers]


def parse(words: list[str]) -> dict[str, object]:
    """The options of a command line, by click's own parser; nothing runs."""
    name, *rest = words
    with commands.make_context("scgpt-infer", [name]) as context:
        command = commands.get_command(context, name)
        assert command is not None, name
        return command.make_context(name, rest).params


@pytest.mark.parametrize(
    "path",
    sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".yaml"),
    ids=lambda path: path.name,
)
def test_each_command_of_an_example_is_one_that_the_program_takes(path):
    found = commands_in(path.read_text())
    told = len(re.findall(r"(?<!/)scgpt-infer (?:embed|merge)", path.read_text()))
    assert len(found) == told, "a command of the example was not recognised"
    for words in found:
        assert parse(words)["output"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_each_manifest_is_yaml_and_its_commands_are_ones_that_the_program_takes(path):
    for words in listed_commands(path):
        assert parse(words)["output"]


def test_the_number_of_shards_is_that_of_the_tasks():
    job = yaml.safe_load((EXAMPLES / "kubernetes/embed.yaml").read_text())["spec"]
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{job['completions']}" in str(job)
    array = (EXAMPLES / "slurm/shard.sbatch").read_text()
    assert f"$SLURM_ARRAY_TASK_ID/{int(re.search(r'--array=0-([0-9]+)', array)[1]) + 1}" in array


def test_each_file_that_the_page_links_is_there_and_each_example_is_linked():
    linked = set(re.findall(r"\]\((deploying/[^)#]+)\)", (DOCS / "deploying.md").read_text()))
    assert linked == {str(path.relative_to(DOCS)) for path in EXAMPLES.rglob("*") if path.is_file()}


@pytest.fixture
def on_path(monkeypatch) -> None:
    """The command scgpt-infer is the one of these tests."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def test_two_processes_make_what_one_makes(toy_model, toy_h5ad, tmp_path, on_path):
    whole, shards = tmp_path / "whole.npy", tmp_path / "shards.h5ad"
    assert cli.run(["embed", str(toy_h5ad), "--model", str(toy_model), "-o", str(whole), "--quiet"]) == 0
    script = [EXAMPLES / "two-processes.sh", toy_h5ad, toy_model, shards]
    done = subprocess.run(script, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = ad.read_h5ad(shards)
    assert made.obsm["X_scGPT"].tobytes() == np.load(whole).tobytes()
    assert list(made.obs.columns) == ["kind"]


def test_bad_input_of_two_processes_ends_with_its_code(toy_model, tmp_path, on_path):
    script = [EXAMPLES / "two-processes.sh", tmp_path / "none.h5ad", toy_model, tmp_path / "x.npy"]
    done = subprocess.run(script, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "none.h5ad" in done.stderr


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A function that puts programs of our own, by name and text, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(**programs: str) -> None:
        for name, text in programs.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(0o755)

    return put


def test_two_processes_are_told_to_stop_when_the_script_is(stand_ins, tmp_path):
    told = f"trap 'echo \"$7\" >> {tmp_path}/told; exit 75' TERM; touch {tmp_path}/up.$$; while :; do sleep 0.05; done"
    stand_ins(scgpt_infer=told)
    script = subprocess.Popen([EXAMPLES / "two-processes.sh", "cells", "model", "out"])
    end = time.monotonic() + 20
    while len(list(tmp_path.glob("up.*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait(20) == 75
    assert sorted((tmp_path / "told").read_text().split()) == ["--shard", "--shard"]


def test_two_processes_merge_where_a_file_of_a_set_was_bad_and_say_so(stand_ins, tmp_path):
    stand_ins(scgpt_infer=f'echo "$1" >> {tmp_path}/told; [[ $1 == merge ]] || exit 3')
    done = subprocess.run([EXAMPLES / "two-processes.sh", "cells", "model", "out"], check=False)
    assert done.returncode == 3
    assert (tmp_path / "told").read_text().split() == ["embed", "embed", "merge"]


@pytest.mark.parametrize(("code", "ends", "requeued"), [(75, 75, True), (3, 0, False), (2, 2, False), (0, 0, False)])
def test_the_slurm_task_goes_back_into_the_queue_only_when_it_was_asked_to_stop(
    stand_ins, tmp_path, code, ends, requeued
):
    stand_ins(srun=f"exit {code}", scontrol=f'echo "$@" > {tmp_path}/asked', sleep="")
    job = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "2"}
    names = {"CELLS": "cells", "MODEL": "model", "OUTPUT": "out"}
    done = subprocess.run([EXAMPLES / "slurm/shard.sbatch"], check=False, env=os.environ | job | names)
    assert done.returncode == ends
    assert (tmp_path / "asked").exists() == requeued
    if requeued:
        assert (tmp_path / "asked").read_text() == "requeue 17_3\n"
