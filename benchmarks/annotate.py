"""Cell types by every way that there is, on the same cells: classifier, taught classifier, reference, PCA.

    python -m benchmarks.annotate --data FOLDER [-o benchmarks/results/annotate.json]

FOLDER holds the data sets of scripts/demo_data.py. Labelled cells of some batches or donors tell the types of others:
the demo model's own classifier, `learn` on its embeddings, `index` on its embeddings, and logistic regression on 50
principal components of all genes that both sides have, fitted by the same code as `learn`. The best guess of each
cell counts, whatever its confidence, and a type that a way cannot answer counts as wrong. Cells that are in both sides
are looked for and left out. The demo model was trained on most of the cells that tell here, so its embeddings know
their labels; none of the judged cells was among its training cells.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))

import demo_labels as words  # noqa: E402  # the path comes first
from demo_data import BATCH_TEST, KANG_TEST, PBMC3K_AGAIN, DataSet, read, without_copies  # noqa: E402
from demo_evaluation import components  # noqa: E402

from benchmarks.study.machine import describe  # noqa: E402
from scgpt_infer import api, judging  # noqa: E402
from scgpt_infer.annotating import AnnotateOptions  # noqa: E402
from scgpt_infer.indexing import index_file  # noqa: E402
from scgpt_infer.learning import LearnOptions, learn  # noqa: E402
from scgpt_infer.learning.fitting import fit  # noqa: E402
from scgpt_infer.options import EmbedOptions  # noqa: E402
from scgpt_infer.tasks.annotate import softmax  # noqa: E402

OPTIONS = EmbedOptions(provider="cpu", precision="fp32")
SURE = 0.5
COARSE = {**words.TEN_BATCHES_TYPES, "MAIT": words.TEN_BATCHES["MAIT"], "gdT": words.TEN_BATCHES["T gd1"]}
"""Of the column ``cell_type_coarse``: its labels and the demo model's labels that they stand for."""

LEFT_OUT = ("unknown", "pDC")
"""Labels of pbmc_10batches: the one is no type, the other stands on cells that are something else."""

Names = NDArray[np.str_]
Meaning = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Question:
    """Cells that tell, and cells that are judged.

    Attributes
    ----------
    name
        Key in the results.
    telling, judged
        Cells with their own labels in `DataSet.types`; those that tell have their donor or batch in
        `DataSet.groups`.
    meaning
        Label of the cells that tell to the demo model's labels that it stands for.
    types
        The same for the judged cells; others of them are left out.
    """

    name: str
    telling: DataSet
    judged: DataSet
    meaning: Mapping[str, words.Types]
    types: Mapping[str, words.Types]

    @property
    def by_classes(self) -> dict[str, tuple[str, ...]]:
        """True type to the labels of the telling cells that are right for it: they can mean the same."""
        return {
            name: tuple(label for label, means in self.meaning.items() if {*means} & {*right})
            for name, right in self.types.items()
        }


@dataclass(frozen=True, slots=True)
class Told:
    """The best label of each cell, and how sure it is."""

    labels: Names
    confidence: NDArray[np.float64]


def questions(folder: Path) -> list[Question]:
    """Another study, in fine and in coarse labels; a held-out batch; held-out donors."""
    fine = read(folder / "pbmc_10batches_3000.h5ad", "pbmc_10batches", "cell_type", group="batch")
    coarse = read(folder / "pbmc_10batches_3000.h5ad", "pbmc_10batches", "cell_type_coarse", group="batch")
    pbmc3k = read(folder / "pbmc3k_labelled.h5ad", "pbmc3k", "cell_type")
    kang = read(folder / "kang18_ctrl_12k.h5ad", "kang18", "cell_type", group="donor")
    main = np.array([words.PBMC3K_MAIN.get(own, own) for own in pbmc3k.types])
    others, batch = coarse.groups != PBMC3K_AGAIN, coarse.groups == BATCH_TEST
    donors = np.isin(kang.groups, KANG_TEST)
    fine_words = {label: words.TEN_BATCHES.get(label, ()) for label in np.unique(fine.types)}
    return [
        Question("another study, nine types", fine.take(others), pbmc3k, fine_words, words.PBMC3K_TYPES),
        Question(
            "another study, eight main types",
            coarse.take(others),
            replace(pbmc3k, types=main),
            COARSE,
            words.PBMC3K_MAIN_TYPES,
        ),
        Question("a held-out batch", coarse.take(others & ~batch), coarse.take(batch), COARSE, words.TEN_BATCHES_TYPES),
        Question("held-out donors", kang.take(~donors), kang.take(donors), words.KANG, words.KANG_TYPES),
    ]


def annotated(cells: DataSet) -> AnnData:
    """The cells with their labels, embedded."""
    import pandas as pd

    obs = pd.DataFrame({"type": cells.types, "group": cells.groups}, index=cells.cells)
    found = AnnData(cells.counts, obs, pd.DataFrame(index=list(cells.genes)))
    with api.Model.open("demo", OPTIONS) as model:
        return model.embed(found, inplace=True)


def asked(cells: AnnData, model: str | Path, reference: Path | None = None) -> Told:
    """What a model says of embedded cells."""
    how = AnnotateOptions(reference=reference, top=1)
    found = api.annotate(cells, model=model, how=how, options=OPTIONS).obs
    return Told(found["scgpt_label_1"].to_numpy(str), found["scgpt_confidence_1"].to_numpy(np.float64))


def by_components(telling: DataSet, judged: DataSet) -> Told:
    """What logistic regression on principal components says."""
    near, far = components(telling, [telling, judged], None)
    found = fit(near, telling.types, telling.groups, LearnOptions())
    probabilities = softmax(far @ found.weights.T + found.bias)
    return Told(np.array(found.labels)[probabilities.argmax(axis=1)], probabilities.max(axis=1))


def figures(told: Told, true: Names, right: Meaning) -> dict[str, Any]:
    """Accuracy and mean F1 over all true types, and what is left where only sure answers count."""
    answers = np.array(judging.answered(told.labels.tolist(), true.tolist(), right))
    one, sure = judging.score(true.tolist(), answers.tolist()), told.confidence >= SURE
    return {
        "accuracy": one.accuracy,
        "macro_f1": one.macro_f1,
        "sure": float(sure.mean()),
        "accuracy_of_sure": float((answers == true)[sure].mean()),
    }


def answer(question: Question) -> dict[str, Any]:
    """Every way, on one question."""
    dropped: dict[str, int] = {}
    wanted = ~np.isin(question.telling.types, LEFT_OUT)
    telling = without_copies(question.telling.take(wanted), (question.judged,), dropped)
    names, counts = np.unique(telling.types, return_counts=True)
    telling = telling.take(np.isin(telling.types, names[counts >= LearnOptions().min_cells]))
    judged = question.judged.take(np.isin(question.judged.types, list(question.types)))
    near, far = annotated(telling), annotated(judged)
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as scratch:
        folder = Path(scratch)
        taught = learn(near, "type", folder / "taught", model="demo", options=OPTIONS, how=LearnOptions(by="group"))
        even = LearnOptions(by="group", balanced=True)
        learn(near, "type", folder / "even", model="demo", options=OPTIONS, how=even)
        index_file(near, folder / "index", "demo", "type", OPTIONS)
        ways = {
            "demo's own classifier": (asked(far, "demo"), question.types),
            "taught": (asked(far, folder / "taught"), question.by_classes),
            "taught, balanced": (asked(far, folder / "even"), question.by_classes),
            "reference": (asked(far, "demo", folder / "index"), question.by_classes),
            "PCA and regression": (by_components(telling, judged), question.by_classes),
        }
    return {
        "telling": {"name": telling.name, "cells": telling.n_cells, "classes": len(taught.taught.classes)},
        "judged": {"name": judged.name, "cells": judged.n_cells, "types": len(np.unique(judged.types))},
        "copies": sum(dropped.values()),
        "teaching_seconds": round(taught.wall_seconds, 1),
        "held_out": {"accuracy": taught.taught.accuracy, "macro_f1": taught.taught.macro_f1},
        "ways": {name: figures(told, judged.types, right) for name, (told, right) in ways.items()},
    }


def table(found: Mapping[str, Any]) -> str:
    """Results as Markdown: accuracy and macro-F1 of every way, a question a row."""
    ways = list(next(iter(found.values()))["ways"])
    lines = [f"| judged | cells | {' | '.join(ways)} |", f"|---|---|{'---|' * len(ways)}"]
    for name, one in found.items():
        cells = " | ".join(f"{one['ways'][way]['accuracy']:.3f} / {one['ways'][way]['macro_f1']:.3f}" for way in ways)
        lines.append(f"| {name} | {one['judged']['cells']:,} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Judge every question, write the results and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "annotate.json")
    options = parser.parse_args()
    found = {}
    for question in questions(options.data):
        print(f"judging {question.name}", file=sys.stderr, flush=True)
        found[question.name] = answer(question)
    told = {"machine": describe(), "questions": found}
    options.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
