"""How work is done: what a job would not heed is refused before it begins, and what changes no row keeps nobody
from going on."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.api import annotate_file, embed_file
from scgpt_infer.imputation import impute_file
from scgpt_infer.indexing import index_file
from scgpt_infer.integration import IntegrateOptions, integrate_file
from scgpt_infer.multiomics import multiomic_file
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError, OutputError

CPU = EmbedOptions(provider="cpu", precision="fp32", threads=1)
FIRST, SECOND = WorkOptions(shard=Shard(0, 2)), WorkOptions(shard=Shard(1, 2))
LITTLE = WorkOptions(memory=1)


@pytest.mark.parametrize("changes", [{"memory": 0}, {"workers": -1}, {"workers": True}, {"memory": 1.5}])
def test_what_is_no_number_of_anything_is_refused(changes):
    (name,) = changes
    with pytest.raises(OptionError, match=f"{name} is"):
        WorkOptions(**changes)


def test_the_defaults_go_on_with_what_is_kept():
    assert WorkOptions().resume


def integrate(work, how=None):
    integrate_file("no.h5ad", "no.npy", "no", how or IntegrateOptions("day"), CPU, work=work)


@pytest.mark.parametrize(
    ("work", "called"),
    [
        (LITTLE, lambda work: annotate_file("no.h5ad", "no.csv", "no", CPU, work=work)),
        (LITTLE, integrate),
        (WorkOptions(strict=True), integrate),
        (WorkOptions(workers=2), integrate),
        (LITTLE, lambda work: multiomic_file("no.h5mu", "no.h5ad", "no", work=work)),
        (WorkOptions(ray="auto"), lambda work: multiomic_file("no.h5mu", "no.h5ad", "no", work=work)),
        (LITTLE, lambda work: impute_file("no.h5ad", "no.csv", "no", ["A"], work=work)),
        (FIRST, lambda work: impute_file("no.h5ad", "no.csv", "no", ["A"], work=work)),
    ],
)
def test_what_a_job_would_not_heed_is_refused_before_anything_is_opened(work, called):
    (asked,) = (name for name in ("memory", "strict", "workers", "ray", "shard") if getattr(work, name))
    with pytest.raises(OptionError, match=rf"{asked} of WorkOptions is not for \w+, which heeds resume.*Leave it out"):
        called(work)


def test_nothing_is_judged_of_a_share():
    with pytest.raises(OptionError, match="judged of shard 0/2 alone"):
        annotate_file("no.h5ad", "no.csv", "no", CPU, AnnotateOptions(truth="kind"), work=FIRST)
    with pytest.raises(OptionError, match="Shard 0/2 alone cannot be scored"):
        integrate(FIRST, IntegrateOptions("day", label="kind"))


def test_a_share_goes_into_no_input(toy_h5ad, toy_model):
    before = toy_h5ad.read_bytes()
    with pytest.raises(OptionError, match="shard and in_place do not go together"):
        embed_file(toy_h5ad, None, toy_model, replace(CPU, in_place=True), work=FIRST)
    assert toy_h5ad.read_bytes() == before
    assert not list(toy_h5ad.parent.glob("*.parts"))


def test_defaults_by_name_and_links_are_the_same_work(toy_h5ad, toy_model, tmp_path):
    link, output = tmp_path / "link.h5ad", tmp_path / "x.npy"
    link.symlink_to(toy_h5ad)
    embed_file(toy_h5ad, output, toy_model, CPU, work=FIRST)
    embed_file(link, output, toy_model, replace(CPU, batch_tokens=512, min_match=0.2), work=SECOND)
    with pytest.raises(OutputError, match="it has batch_tokens 512 instead of 64"):
        embed_file(toy_h5ad, output, toy_model, replace(CPU, batch_tokens=64), work=SECOND)


def test_a_reference_is_known_by_its_content(toy_h5ad, toy_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "x.csv"
    index_file(toy_h5ad, tmp_path / "ref", toy_model, "kind", CPU)
    annotate_file(toy_h5ad, output, toy_model, CPU, AnnotateOptions(reference=Path("ref")), work=FIRST)
    os.rename("ref", "moved")
    annotate_file(toy_h5ad, output, toy_model, CPU, AnnotateOptions(reference=tmp_path / "moved"), work=SECOND)
    with pytest.raises(OutputError, match="it has annotation_k 10 instead of 3"):
        annotate_file(toy_h5ad, output, toy_model, CPU, AnnotateOptions(reference=Path("moved"), k=3), work=SECOND)
