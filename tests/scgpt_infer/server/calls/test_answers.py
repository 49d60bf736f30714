"""Each task, asked as a request asks it: the bytes are those that the command line writes for the same cells."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

import toy_bundle
import toy_generator
from scgpt_infer import cli, demo, schema
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.calls import BODIES, answer
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, GenesError
from scgpt_runtime.kept import Kept
from scgpt_runtime.session import Session

OPTIONS = EmbedOptions(provider="cpu", precision="fp32", threads=1)
RUN = ("--provider", "cpu", "--precision", "fp32", "--threads", 1, "--quiet")
WANTED = ("LYZ", "CD3D", "MS4A1")


@pytest.fixture(scope="module")
def kept():
    with Kept() as found:
        yield Bundle.open(demo.BUNDLE).keeping(found)


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """A few cells of the demo, one of them empty."""
    found = ad.read_h5ad(demo.CELLS)[::60].copy()
    dense = found.X.toarray()
    dense[3] = 0
    found = ad.AnnData(dense.astype(np.float32), obs=pd.DataFrame(index=found.obs_names), var=found.var[[]])
    found.obs["kind"] = ["a", "b"] * (found.n_obs // 2)
    return found


def asked(cells: ad.AnnData, lists: bool = False) -> list[dict]:
    """The cells as a request has them: what is not zero."""
    told = []
    for row, name in enumerate(cells.obs_names):
        places = np.flatnonzero(cells.X[row])
        genes, values = cells.var_names[places].tolist(), cells.X[row, places].tolist()
        cell = {"genes": genes, "values": values} if lists else {"genes": dict(zip(genes, values, strict=True))}
        told.append({"cell": name, **cell, "obs": {column: str(cells.obs[column].iloc[row]) for column in cells.obs}})
    return told


def by_command(task: str, cells: ad.AnnData | None, folder: Path, *words: object, model: object = "demo") -> bytes:
    """What the command writes."""
    files: list[object] = []
    if cells is not None:
        cells.write_h5ad(folder / "cells.h5ad")
        files = [folder / "cells.h5ad"]
    code = cli.run([task, *map(str, (*files, "--model", model, "-o", folder / "out.json", *words, *RUN))])
    assert code == 0
    return (folder / "out.json").read_bytes()


@pytest.mark.parametrize(
    ("task", "body", "words"),
    [
        ("impute", {"genes": WANTED}, ("--only", ",".join(WANTED))),
        (
            "impute",
            {"genes": WANTED[:2], "hide": "each", "units": "bins"},
            ("--only", ",".join(WANTED[:2]), "--hide", "each", "--units", "bins"),
        ),
        (
            "impute",
            {"genes": WANTED, "predict_from": "embedding"},
            ("--only", ",".join(WANTED), "--from", "embedding"),
        ),
        ("integrate", {}, ()),
        ("genes", {"by": "kind", "min_cells": 2}, ("--by", "kind", "--min-cells", 2)),
        ("grn", {"targets": WANTED[:1], "variable": 30, "top": 5}, ("--targets", "LYZ", "--variable", 30, "--top", 5)),
        (
            "grn",
            {"condition": "kind", "control": "a", "against": "b", "only": WANTED},
            ("--condition", "kind", "--control", "a", "--against", "b", "--only", ",".join(WANTED)),
        ),
    ],
)
def test_the_answer_is_the_file_of_the_command(kept, cells, tmp_path, task, body, words):
    measured = cells.var_names.tolist()
    found = answer(kept, task, {"cells": asked(cells), "measured": measured, **body}, OPTIONS)
    assert found == by_command(task, cells, tmp_path, *words)
    Draft202012Validator(schema.schema()).validate(json.loads(found))


@pytest.mark.parametrize(
    ("task", "body", "words"),
    [
        ("genes", {"only": WANTED}, ("--only", ",".join(WANTED))),
        ("grn", {"only": WANTED, "threshold": 0.01}, ("--only", ",".join(WANTED), "--threshold", 0.01)),
    ],
)
def test_what_needs_no_cells_is_answered_without(kept, tmp_path, task, body, words):
    assert answer(kept, task, body, OPTIONS) == by_command(task, None, tmp_path, *words)


def test_cells_may_be_parallel_lists(kept, cells):
    body = {"genes": WANTED}
    assert answer(kept, "impute", {**body, "cells": asked(cells, lists=True)}, OPTIONS) == answer(
        kept, "impute", {**body, "cells": asked(cells)}, OPTIONS
    )


def test_batches_stand_in_obs(tmp_path):
    model = toy_bundle.write(tmp_path / "toy", labelled=True)
    counts = np.random.default_rng(0).poisson(0.6, (6, 60)).astype(np.float32)
    obs = pd.DataFrame(
        {"day": [*toy_bundle.BATCHES, "other", *toy_bundle.BATCHES[:2]]}, [f"c{row}" for row in range(6)]
    )
    cells = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{number}" for number in range(60)]))
    body = {"cells": asked(cells), "batch": "day", "batch_fallback": "day2"}
    found = answer(Bundle.open(model), "integrate", body, OPTIONS)
    words = ("--batch", "day", "--batch-fallback", "day2")
    assert found == by_command("integrate", cells, tmp_path, *words, model=model)
    assert json.loads(found)["run"]["batch_column"] == "day"


def test_perturbations_are_of_the_cells_of_a_request(tmp_path):
    model = toy_generator.write(tmp_path / "toy")
    counts = np.random.default_rng(0).poisson(3, (9, 6)).astype(np.float32)
    obs = pd.DataFrame({"guide": ["NT", "A", "NT"] * 3}, [f"c{row}" for row in range(9)])
    cells = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list("ABCDEF")))
    body = {"cells": asked(cells), "perturbations": ["A", "B+C"], "control": ["guide", "NT"], "only": ["A", "F"]}
    found = answer(Bundle.open(model), "perturb", body, OPTIONS)
    words = ("-p", "A", "-p", "B+C", "--control", "guide=NT", "--only-genes", "A,F")
    assert found == by_command("perturb", cells, tmp_path, *words, model=model)


def test_no_call_opens_a_session_that_another_has_opened(cells, monkeypatch):
    opened: list[Path] = []
    real = Session.open
    monkeypatch.setattr(Session, "open", lambda path, choice: opened.append(path) or real(path, choice))
    bodies = {
        "impute": {"cells": asked(cells), "genes": WANTED},
        "integrate": {"cells": asked(cells)},
        "genes": {"only": WANTED},
        "grn": {"cells": asked(cells), "targets": WANTED[:1], "only": WANTED},
    }
    with Kept() as kept:
        bundle = Bundle.open(demo.BUNDLE).keeping(kept)
        first = {task: answer(bundle, task, body, OPTIONS) for task, body in bodies.items()}
        before = len(opened)
        assert {task: answer(bundle, task, body, OPTIONS) for task, body in bodies.items()} == first
        longer = {"cells": asked(cells), "targets": WANTED[:1], "variable": 20}
        answer(bundle, "grn", longer, OPTIONS)  # other genes are other lengths, and the same graph
    assert len(opened) == before == 5  # tokens, expression, embed, genes, attention


def test_options_of_files_are_not_those_of_requests(kept, cells):
    of_files = EmbedOptions(provider="cpu", precision="fp32", threads=1, layer="counts", limit=2, gene_col="symbol")
    body = {"cells": asked(cells)}
    assert answer(kept, "integrate", body, of_files) == answer(kept, "integrate", body, OPTIONS)


def test_what_a_model_cannot_do_is_told_as_by_the_command(kept, cells):
    with pytest.raises(BundleError, match="perturb needs a perturbation generator"):
        answer(kept, "perturb", {"cells": asked(cells), "perturbations": ["LYZ"]}, OPTIONS)
    with pytest.raises(GenesError, match="NOGENE"):
        answer(kept, "impute", {"cells": asked(cells), "genes": ["NOGENE"]}, OPTIONS)


def test_every_task_but_those_of_single_cells_has_a_body():
    from scgpt_infer.abilities import _NEEDS

    assert {*BODIES} == {*_NEEDS} - {"embed", "annotate"}
