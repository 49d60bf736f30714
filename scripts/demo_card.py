"""The demo model's card, written from its figures: no number in it is typed by hand.

In: the figures of build_demo.py and the bundle's manifest. Out: Markdown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from demo_evaluation import COMPONENTS, FOLDS, NEIGHBOURS
from demo_labels import LABELS

from scgpt_runtime.manifest import Manifest

LICENCE = "MIT, as scgpt-infer. The cells that ship beside it: BSD-3-Clause (scanpy)."

ABOUT_DATA = (
    "kang18: PBMCs of eight lupus patients, control arm (GSE96583; Kang et al. 2018), as packaged in muscat (GPL-3) "
    "and, "
    "for the cells with all genes, in harmony (GPL-3).",
    "pbmc_10batches: PBMCs of ten studies (10x Genomics, SCP345, SCP424, SCP591, SRR11038995, SRR7244582), counts as "
    "packaged in the tidytranscriptomics workshop ismb2021 (CC BY-SA 4.0), labels from sccomp (GPL-3).",
    "pbmc_frozen_donorA: frozen PBMCs of donor A (10x Genomics; Zheng et al. 2017), as packaged in MUDAN (GPL-3); "
    "unlabelled.",
    "citeseq_bm_pbmc: marrow and blood with 462 genes (MIT).",
    "citeseq_pbmc: 5k and 10k PBMCs (10x Genomics), RNA only (BSD-3-Clause).",
)

WAYS = {
    "within": f"within the data set ({FOLDS} folds)",
    "across": "among training cells",
}
BASELINES = {"pca": "PCA, the model's genes", "pca_all_genes": "PCA, all shared genes"}

Figures = Mapping[str, Any]


def card(found: Figures, manifest: Manifest) -> str:
    """The whole card."""
    parts = (
        [*first_line(found), "# Model card: demo", "", what(manifest)],
        ["## Data", "", *data(found)],
        ["## Training", "", training(found)],
        ["## Figures", "", how(found), "", *overview(found)],
        *(["### " + name[0].upper() + name[1:], "", *one(figures)] for name, figures in found["judged"].items()),
        ["## Precisions", "", *precisions(manifest), "", *compared(found["precisions"], manifest)],
        ["## Limits", "", *LIMITS],
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def lost(found: Figures) -> list[str]:
    """Where nearest neighbours in the embedding are not more often right than those in the better of both PCAs."""
    places = []
    for name, figures in found["judged"].items():
        for way, words in WAYS.items():
            accuracy = {key: figures[way][key]["accuracy"] for key in ("embedding", *BASELINES)}
            best = max(accuracy[key] for key in BASELINES)
            if accuracy["embedding"] <= best:
                places.append(f"{name}, {words} ({accuracy['embedding']:.3f} against {best:.3f})")
    return places


def first_line(found: Figures) -> list[str]:
    """The plain truth, if it is not flattering."""
    places = lost(found)
    total = len(found["judged"]) * len(WAYS)
    if not places:
        return []
    return [f"**k-NN accuracy does not beat PCA in {len(places)} of {total} comparisons: {'; '.join(places)}.**", ""]


def what(manifest: Manifest) -> str:
    """What the model is."""
    args, tokenizer = manifest.args, manifest.tokenizer
    return (
        f"A small scGPT for human blood cells: {args['nlayers']} layers, width {args['embsize']}, {args['nheads']} "
        f"heads, "
        f"feed-forward {args['d_hid']}, at most {tokenizer.max_length:,} tokens a cell. Architecture and checkpoint "
        "layout are those of the public checkpoints; the vocabulary is cut to the genes it knows. It shows what "
        "scgpt-infer "
        "does, on a laptop, without a download. It is no substitute for a public checkpoint: embeddings are written "
        f"under `{manifest.key}`, never under `X_scGPT`.\n\n"
        f"Answers: {', '.join(LABELS)}.\n\nLicence: {manifest.licence}"
    )


def data(found: Figures) -> list[str]:
    """What it learnt from and what was held out."""
    copies = {name: count for name, count in found["copies"].items() if count}
    return [
        *table(
            ("used for", "data set", "cells", "labelled"),
            (
                (use, name, f"{counts['cells']:,}", f"{counts['labelled']:,}")
                for use in ("training", "validation")
                for name, counts in found[use].items()
            ),
        ),
        "",
        *(f"- {line}" for line in ABOUT_DATA),
        "",
        'The cells of "kang18, all genes" are training cells of kang18 again, with seven times the genes. Validation '
        "cells "
        "choose the step of training that is kept, and nothing else. Held out whole: two donors of kang18, batch "
        "10x_6K "
        "of pbmc_10batches (its donor is said to be that of pbmc3k), pbmc3k, and the "
        "shipped cells. Batch GSE115189 of pbmc_10batches is pbmc3k again and takes no part. Copies of held-out "
        "cells were looked for in everything else, by likeness of profiles: "
        + (", ".join(f"{count} in {name}" for name, count in copies.items()) or "none")
        + "; none is in training or validation. By their names, the unlabelled cells of pbmc_frozen_donorA and the "
        "shipped "
        "cells are of one donor.",
        "",
        "A label of a data set stands for one or several of the model's types; the tables are in "
        "`scripts/demo_labels.py`. Megakaryocytes with all genes are unlabelled cells chosen by PPBP and PF4.",
    ]


def training(found: Figures) -> str:
    """How it was trained."""
    recipe = found["recipe"]
    ratios = ", ".join(f"{ratio:g}" for ratio in sorted(set(recipe["mask_ratios"])))
    return (
        f"`scripts/train_demo.py`, from random weights: {recipe['steps']:,} batches of {recipe['cells']} cells, "
        f"AdamW at "
        f"{recipe['rate']:g}. As in scGPT, masked values are predicted from the tokens and from the cell embedding "
        f"(share masked: {ratios}), and a classifier on the cell embedding learns cell types. A contrast between "
        f"types "
        "on the unit sphere is added, and views of cells are thinned, cut to other panels and sampled, so that "
        "embeddings hold across depths and panels."
    )


def how(found: Figures) -> str:
    """How the figures were made."""
    return (
        f"Measured on the bundle as it ships ({found['precision']}, vector_id "
        f"`{found['vector_ids'][found['precision']]}`) by "
        "`scripts/build_demo.py`. Classifier: its answers in the data set's own words. "
        f"k-NN: {NEIGHBOURS} neighbours, for the embedding (unit vectors) and for {COMPONENTS} principal components "
        f"of log "
        "counts per 10,000 in the same way; within the data set by cross-validation, and among training cells of "
        "other "
        "donors or studies, to which the components are then fitted. Types with fewer cells than folds are left out "
        "within."
    )


def overview(found: Figures) -> list[str]:
    """All data sets in one table."""
    rows = []
    for name, figures in found["judged"].items():
        classifier = figures["classifier"]
        rows.append((name, "classifier", f"{classifier['cells']:,}", *two(classifier), "", "", "", ""))
        for way, words in WAYS.items():
            cells = figures[way]
            pairs = [text for key in ("embedding", *BASELINES) for text in two(cells[key])]
            rows.append((name, f"k-NN {words}", f"{cells['embedding']['cells']:,}", *pairs))
    heads = ("judged on", "by", "cells", "accuracy", "macro-F1")
    more = (text for words in BASELINES.values() for text in (f"accuracy, {words}", f"macro-F1, {words}"))
    return table((*heads, *more), rows)


def two(figures: Figures) -> tuple[str, str]:
    """Accuracy and macro-F1."""
    return f"{figures['accuracy']:.3f}", f"{figures['macro_f1']:.3f}"


def one(figures: Figures) -> list[str]:
    """Each type of one data set, by the classifier."""
    reference = figures["across"]["reference"]
    return [
        *table(
            ("type", "support", "precision", "recall", "F1"),
            (
                (name, f"{row['support']:,}", *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")))
                for name, row in figures["classifier"]["types"].items()
            ),
        ),
        "",
        f"Neighbours among training cells: {reference['cells']:,} of {reference['name']}.",
    ]


def precisions(manifest: Manifest) -> list[str]:
    """Parity of the embedding by precision."""
    return table(
        ("precision", "graph", "1 - cosine, worst golden cell", "limit", "measured with"),
        (
            (
                record.precision,
                record.dialect,
                f"{record.worst:.1e}",
                f"{record.limit:.0e}",
                re.sub(r"\s+", " ", record.provider),
            )
            for record in manifest.parity
            if record.task == "embed"
        ),
    )


def compared(found: Figures, manifest: Manifest) -> list[str]:
    """What each precision costs and gives on labelled cells."""
    (calibration,) = manifest.calibration
    lines = [
        f"int8 of provider openvino is static: its ranges come from {calibration.cells} of the shipped cells, and from "
        "nothing else of them. By `scgpt-infer compare`, on cells that calibration and training never saw: 1 - cosine "
        "to fp32, the share of each cell's 15 nearest neighbours in fp32 that are kept, labels by the vote of 15 "
        f"neighbours ({FOLDS} folds), the classifier, and cells/s on {found['cores']} cores ({found['machine']}), "
        "taken in turns. This model is so small that speeds say little about large ones, and less where the load is "
        "above the number of cores.",
    ]
    for name, figures in found["compared"].items():
        what = f"{name[0].upper() + name[1:]}, {figures['cells']:,} cells"
        what += f" (load of the machine while timed: {figures['load']:g}):"
        lines += ["", what, "", *table(*_compared(figures))]
    return lines


def _compared(figures: Figures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    heads = ("provider", "precision", "1 - cosine, median", "worst", "neighbours kept")
    rows = [
        (
            row["provider"],
            row["precision"],
            f"{row['median']:.1e}",
            f"{row['worst']:.1e}",
            f"{row['neighbours']:.3f}",
            *two(row["transfer"]),
            *two(row["classifier"]),
            f"{row['cells_per_second']:.0f}",
        )
        for row in figures["rows"]
    ]
    return (*heads, "k-NN accuracy", "macro-F1", "classifier accuracy", "macro-F1", "cells/s"), rows


LIMITS = (
    "- Not for research conclusions, and not for clinical decisions; no such use without human oversight of every "
    "result.",
    "- It knows human blood cells of a few thousand genes. Cells of other tissues, sick cells and other species get "
    "a type "
    "of this list all the same, with confidence that means nothing.",
    "- Plasma cells, plasmacytoid dendritic cells and progenitors come from 25 cells each of one data set with 462 "
    "genes.",
    "- CD4 and CD8 T cells are easily taken for each other, naive for memory CD4 T cells too: see precision and recall "
    "below each heading. In kang18 neither CD8A nor CD8B is measured.",
    "- Rare types are weak: see megakaryocytes among the held-out donors and progenitors among the shipped cells.",
    "- Labels of the data sets are themselves the output of clustering, markers or correlation, and disagree; "
    '"Dendritic" and "CD34+" among the shipped cells are the least certain.',
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
