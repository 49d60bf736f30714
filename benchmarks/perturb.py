"""Perturbations on held-out cells, by a small generator and by what knows no model; and long inputs in little memory.

    python -m benchmarks.perturb --data FOLDER --model BUNDLE --trained FILE [-o RESULTS]
    python -m benchmarks.perturb --long [-o RESULTS]

FOLDER holds perturb_papalexi_thp1_20729_299g.h5ad; BUNDLE and FILE come of scripts/train_perturb.py, which has seen
neither replicate 3 nor the knock-outs that FILE does not name. All are judged on replicate 3: its controls go in, the
mean profile of each knock-out is held against its measured one. Baselines: the control mean; the mean profile of the
trained knock-outs, measured in replicate 3 itself, the judged one left out; the mean change of the trained knock-outs
in the other two replicates; and, where it was trained on, the change of the same knock-out there, which no model of
means can be expected to beat. The second shares the noise of replicate 3's controls with the truth, which lifts the
correlation of its change; the others, and the model, do not. There are no combinations in these data, so nothing
additive is judged. --long measures a model of random weights and public size on cells of 1,000 to 5,000 genes: figures
of speed and memory alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from benchmarks.study.machine import describe
from scgpt_infer.evaluation.profiles import TOP, Moments, ProfileFigures, average, compare, most_changed, welch_t
from scgpt_infer.options import EmbedOptions
from scgpt_infer.perturbation import PerturbOptions, perturb, read_perturbations

ROOT = Path(__file__).resolve().parents[1]
FILE = "perturb_papalexi_thp1_20729_299g.h5ad"
TARGET, CONTROL, REPLICATE, JUDGED = "perturbation", "non-targeting", "bio_rep", "rep_3"
OPTIONS = EmbedOptions(provider="cpu", precision="fp32")
THRESHOLD = 0.25
"""Of a change of direction: 299 genes share the 10,000, so values are large, and a mean in replicate 3 has a standard
error of 0.1."""

LENGTHS, LONG_CELLS, MEMORY = (1000, 3000, 5000), 4, "8GiB"
AGAIN, MEAN_CHANGE = "same knock-out, other replicates", "mean change, other replicates"
RESPONDING = "responding"
STRONG, MANY = 4.0, 5
"""A knock-out responds where so many genes reach this Welch t in the judged replicate."""

Values = NDArray[np.float64]


def log_normalised(cells: AnnData) -> Values:
    """(n_cells, n_genes) log1p of counts per 10,000."""
    counts = np.asarray(cells.X.toarray(), np.float64)
    logged: Values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    return logged


def moments(values: Values) -> Moments:
    """Of a group of cells."""
    return Moments(len(values), values.mean(axis=0), values.var(axis=0, ddof=1))


def from_others(cells: AnnData, trained: tuple[str, ...]) -> dict[str, dict[str, ProfileFigures]]:
    """Figures by knock-out and way: replicate 3's control mean with a change that the other replicates show."""
    values, targets, replicates = log_normalised(cells), cells.obs[TARGET].to_numpy(), cells.obs[REPLICATE].to_numpy()
    change = values.copy()
    for replicate in np.unique(replicates):
        change[replicates == replicate] -= values[(replicates == replicate) & (targets == CONTROL)].mean(axis=0)
    here = replicates == JUDGED
    control = moments(values[here & (targets == CONTROL)])
    changes = {name: change[~here & (targets == name)].mean(axis=0) for name in trained}
    found: dict[str, dict[str, ProfileFigures]] = {}
    for name in sorted({*targets.tolist()} - {CONTROL}):
        truth = moments(values[here & (targets == name)])
        top = most_changed(truth, control, TOP)
        others = [changes[other] for other in trained if other != name]
        told = {MEAN_CHANGE: np.mean(others, axis=0)} if others else {}
        told |= {AGAIN: changes[name]} if name in changes else {}
        found[name] = {
            way: compare(truth.mean, control.mean + one, control.mean, top, THRESHOLD) for way, one in told.items()
        }
    return found


def responding(cells: AnnData) -> list[str]:
    """Knock-outs that change several genes beyond doubt in the judged replicate."""
    values, targets = log_normalised(cells), cells.obs[TARGET].to_numpy()
    control = moments(values[targets == CONTROL])
    names = sorted({*targets.tolist()} - {CONTROL})
    return [
        name for name in names if (np.abs(welch_t(moments(values[targets == name]), control)) > STRONG).sum() >= MANY
    ]


def judged(folder: Path, model: Path, trained: tuple[str, ...]) -> dict[str, Any]:
    """All knock-outs on replicate 3, each, and means over those that were and were not trained on."""
    cells = anndata.read_h5ad(folder / FILE)
    how = PerturbOptions(control=(TARGET, CONTROL), truth=TARGET, trained=trained, threshold=THRESHOLD)
    third = cells[(cells.obs[REPLICATE] == JUDGED).to_numpy()].copy()
    told: dict[str, Any] = json.loads(perturb(third, model=model, how=how, options=OPTIONS).uns["perturbation_figures"])
    others, strong = from_others(cells, trained), responding(third)
    for one in told["perturbations"]:
        one["figures"] |= {way: asdict(figures) for way, figures in others[one["name"]].items()}
        one[RESPONDING] = one["name"] in strong
    told = {name: part for name, part in told.items() if not name.startswith("averages")}
    for word, kind in (("trained", True), ("not trained", False)):
        for which, some in (
            ("all", told["perturbations"]),
            (RESPONDING, [one for one in told["perturbations"] if one[RESPONDING]]),
        ):
            of_kind = [one for one in some if one["trained"] is kind]
            told[f"{word}, {which} {len(of_kind)}"] = means(of_kind)
    return told


def means(some: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over knock-outs by way, of those ways that answer all of them."""
    ways = [way for way in (some[0]["figures"] if some else ()) if all(way in one["figures"] for one in some)]
    return {way: asdict(average([ProfileFigures(**one["figures"][way]) for one in some])) for way in ways}


def random_bundle(folder: Path) -> None:
    """A generator of the public models' size with random weights, exported."""
    import torch

    from scgpt_export.build import ExportOptions, export
    from scgpt_export.checkpoint import load
    from scgpt_export.generator import Generator
    from scgpt_export.genes import census_tokens
    from scgpt_export.reference import GeneratorConfig, ModelConfig

    genes = [name for name in census_tokens() if not name.startswith("<")]
    tokens = [*genes, "<pad>", "<cls>", "<eoc>"]
    torch.manual_seed(0)
    config = ModelConfig(
        n_tokens=len(tokens), dim=512, n_heads=8, d_hid=512, n_layers=12, pad_id=len(genes), generator=GeneratorConfig()
    )
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    torch.save(Generator(config).state_dict(), checkpoint / "best_model.pt")
    sizes = {"embsize": 512, "nheads": 8, "d_hid": 512, "nlayers": 12, "n_layers_cls": 3, "dropout": 0.0}
    (checkpoint / "args.json").write_text(json.dumps(sizes | {"pad_token": "<pad>", "pad_value": 0}))
    (checkpoint / "vocab.json").write_text(json.dumps({name: place for place, name in enumerate(tokens)}))
    export(load(checkpoint), folder / "bundle", ExportOptions(("fp32",)))


def long_inputs() -> list[dict[str, Any]]:
    """Seconds a profile and the memory that the process held, by number of genes; each in a process of its own."""
    found = []
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-") as scratch:
        folder = Path(scratch)
        bundle = folder / "bundle"
        # A child counts what its parent held when it was started as its own peak, so this process stays small.
        maker = get_context("spawn").Process(target=random_bundle, args=(folder,))
        maker.start()
        maker.join()
        genes = json.loads((bundle / "vocab.json").read_text())["tokens"]
        for length in LENGTHS:
            counts = np.random.default_rng(length).poisson(0.3, (LONG_CELLS, length)).astype(np.float32)
            cells = AnnData(counts)
            cells.var_names = genes[:length]
            cells.write_h5ad(folder / "cells.h5ad")
            words = ("perturb", folder / "cells.h5ad", "-m", bundle, "-o", folder / "x.h5ad", "-p", genes[0], "--json")
            run = ("--memory", MEMORY, "--provider", "cpu", "--precision", "fp32", "--threads", "1")
            done = subprocess.run(
                [sys.executable, "-m", "scgpt_infer", *map(str, words), *run],
                check=True,
                capture_output=True,
                text=True,
            )
            told = json.loads(done.stdout)
            kept = ("batch_cells", "wall_seconds", "profiles_per_second", "peak_bytes", "why")
            found.append({"genes": length, "cells": LONG_CELLS, "memory": MEMORY} | {name: told[name] for name in kept})
    return found


def table(found: Mapping[str, Any]) -> str:
    """Results as Markdown: means over knock-outs, a way a row."""
    columns = [field.name for field in fields(ProfileFigures)]
    lines = [f"| knock-outs | way | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for title, ways in found.items():
        if title.startswith(("trained", "not trained")):
            for way, figures in ways.items():
                values = ("-" if figures[name] is None else f"{figures[name]:.3f}" for name in columns)
                lines.append(f"| {title} | {way} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    """Judge, measure, write the results and print them as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--long", action="store_true", help="measure long inputs; what was judged before stays")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "perturb.json")
    options = parser.parse_args()
    told = json.loads(options.output.read_text()) if options.output.exists() else {"judged": {}, "long": []}
    if options.long:
        told |= {"long": long_inputs()}
    elif not (options.data and options.model and options.trained):
        parser.error("give --data, --model and --trained, or --long")
    else:
        told |= {
            "replicate": JUDGED,
            "judged": judged(options.data, options.model, read_perturbations(options.trained)),
        }
    options.output.write_text(json.dumps(told | {"machine": describe()}, indent=1) + "\n", encoding="utf-8")
    print(table(told["judged"]))
    for one in told["long"]:
        print(one)


if __name__ == "__main__":
    main()
