"""Build what ships as the demo model from its checkpoint: the bundle, its figures, and its model card.

    python scripts/build_demo.py CHECKPOINT --data FOLDER [-o scgpt_infer/demo]

CHECKPOINT comes from train_demo.py; the one behind the shipped model is scripts/demo_checkpoint. The bundle is sealed
in fp32, fp16 and int8, the ranges of static int8 taken from shipped cells, and judged as it ships: cells go through
the runtime's tokenizer and ONNX Runtime. Without --data only the bundle and its canonical vectors are made.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
from demo_card import ABOUT_DATA, LICENCE, card
from demo_data import DataSet, Split, load, read
from demo_evaluation import Figures, Question, Told, judge
from demo_labels import KANG_TYPES, PBMC3K_MAIN, PBMC3K_MAIN_TYPES, PBMC3K_TYPES, TEN_BATCHES_TYPES, Types
from numpy.typing import NDArray

from scgpt_export.build import ExportOptions, export
from scgpt_export.checkpoint import load as load_checkpoint
from scgpt_infer import demo
from scgpt_infer.calibration import calibration_cells
from scgpt_infer.compare import CompareOptions, compare
from scgpt_infer.labelled import LabelledCells
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.machine import cores, processor
from scgpt_runtime.ranges import RANGE_ROWS
from scgpt_runtime.vocab import match

PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_CELLS = 256
COMPARED = ("held-out donors", "pbmc3k")
AS_SHIPPED = EngineOptions(provider="cpu", precision="fp32")
CANONICAL_STEP = 25
CANONICAL = Path("tests/golden/demo_vectors.npz")


def seal(checkpoint: Path, bundle: Path) -> None:
    """Make the bundle anew."""
    options = ExportOptions(
        precisions=PRECISIONS,
        name="demo",
        key=demo.KEY,
        licence=LICENCE,
        provenance=" ".join(ABOUT_DATA),
        calibration=calibration_cells(demo.CELLS, CALIBRATION_CELLS),
    )
    shutil.rmtree(bundle, ignore_errors=True)
    loaded = load_checkpoint(checkpoint, labels=checkpoint / "labels.json")
    report = export(loaded, bundle, options, print)
    if set(report.manifest.precisions) != set(PRECISIONS):
        raise SystemExit(f"Only {', '.join(report.manifest.precisions)} could be sealed: {report.left_out}")


class Asker:
    """Embeds and annotates with a bundle.

    Parameters
    ----------
    engine
        Open on the bundle.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.classifier = engine.head("classify")

    def __call__(self, cells: DataSet) -> Told:
        """Unit vectors and logits."""
        columns = match(cells.genes, self.engine.vocabulary).columns
        results = self.engine.run(blocks(cells), columns)
        raw = np.concatenate([result.outputs["cell"] for result in results])
        (logits,) = self.classifier.feed({"cell": raw}).values()
        return Told(raw / np.linalg.norm(raw, axis=1, keepdims=True), logits)


def blocks(cells: DataSet) -> list[CellBlock]:
    """The cells on the runtime's grid of rows."""
    made = []
    for first in range(0, cells.n_cells, RANGE_ROWS):
        part = cells.counts[first : first + RANGE_ROWS]
        made.append(CellBlock(part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data, first))
    return made


def questions(split: Split) -> list[Question]:
    """Everything that the model is judged on."""
    kang, ten = (next(cells for cells in split.training if cells.name == name) for name in ("kang18", "pbmc_10batches"))
    pbmc3k_main = np.array([PBMC3K_MAIN.get(own, own) for own in split.pbmc3k.types])
    shipped_main = np.array([demo.TYPES[own][0] for own in split.shipped.types])
    shipped_types = dict(demo.TYPES.values())
    return [
        Question("held-out donors", split.kang, split.kang.types, KANG_TYPES, kang),
        Question("held-out batch", split.batch, within(split.batch.types, TEN_BATCHES_TYPES), TEN_BATCHES_TYPES, ten),
        Question("pbmc3k", split.pbmc3k, pbmc3k_main, PBMC3K_MAIN_TYPES, ten),
        Question("pbmc3k, its nine types", split.pbmc3k, split.pbmc3k.types, PBMC3K_TYPES, ten),
        Question("shipped cells", split.shipped, shipped_main, shipped_types, ten),
    ]


def within(own: NDArray[np.str_], types: dict[str, Types]) -> NDArray[np.str_]:
    """Types that are judged; empty for the others."""
    return np.where(np.isin(own, list(types)), own, "")


def figures(bundle: Bundle, split: Split) -> Figures:
    """Judge a bundle."""
    with Engine.open(bundle, AS_SHIPPED) as engine:
        ask = Asker(engine)
        told: dict[str, Told] = {}
        judged: Figures = {}
        for question in questions(split):
            print(f"judging on {question.name}", flush=True)
            for cells in (question.cells, question.reference):
                if cells.name not in told:
                    told[cells.name] = ask(cells)
            answers, reference = told[question.cells.name], told[question.reference.name]
            judged[question.name] = judge(question, answers, reference, engine.vocabulary)
    return {
        "vector_ids": bundle.manifest.vector_ids,
        "precision": engine.choice.precision,
        "training": counted(split.training),
        "validation": counted(split.validation),
        "copies": split.dropped,
        "judged": judged,
    }


def precisions(bundle: Bundle, split: Split) -> Figures:
    """What each precision costs and gives, on cells that calibration did not see."""
    found: Figures = {"machine": processor().name, "cores": cores().usable, "compared": {}}
    for question in questions(split):
        if question.name in COMPARED:
            asked = question.cells.take(question.true != "")
            counts, names = asked.counts, {"index": asked.genes}
            whole = CellBlock(counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data, 0)
            cells = LabelledCells(whole, names, question.true[question.true != ""], np.empty(0, str))
            told = compare(bundle, cells, CompareOptions(classes=question.types), print)
            load = round(os.getloadavg()[0], 1)  # above the number of cores: other work slowed all rows down
            found["compared"][question.name] = json.loads(told.to_json()) | {"load": load}
    return found


def counted(sets: tuple[DataSet, ...]) -> dict[str, dict[str, int]]:
    """Cells and labelled cells of data sets."""
    return {cells.name: {"cells": cells.n_cells, "labelled": int(cells.allowed.any(axis=1).sum())} for cells in sets}


def write_canonical(bundle: Bundle, cells: DataSet, path: Path) -> None:
    """Write the vectors of some shipped cells, which no later version may change unawares."""
    with Engine.open(bundle, AS_SHIPPED) as engine:
        vectors = Asker(engine)(cells).vectors
    rows = np.arange(0, cells.n_cells, CANONICAL_STEP)
    ids = {f"vector_id_{precision}": np.array(name) for precision, name in bundle.manifest.vector_ids.items()}
    np.savez(path, rows=rows, vectors=vectors[rows], **ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=demo.BUNDLE.parent)
    parser.add_argument("--canonical", type=Path, default=CANONICAL, help="where canonical vectors go")
    options = parser.parse_args()
    seal(options.checkpoint, options.output / demo.BUNDLE.name)
    bundle = Bundle.open(options.output / demo.BUNDLE.name)
    write_canonical(bundle, read(demo.CELLS, "shipped"), options.canonical)
    if options.data is None:
        return
    split = load(options.data, demo.CELLS)
    found = figures(bundle, split) | {"precisions": precisions(bundle, split)}
    found["recipe"] = json.loads((options.checkpoint / "recipe.json").read_text(encoding="utf-8"))
    (options.output / demo.FIGURES.name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.output / demo.MODEL_CARD.name).write_text(card(found, bundle.manifest), encoding="utf-8")
    print(card(found, bundle.manifest).partition("## Figures")[2])


if __name__ == "__main__":
    main()
