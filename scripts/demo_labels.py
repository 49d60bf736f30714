"""The demo model's cell types, and what the labels of each data set mean in them.

A label of a data set stands for one or several of the model's types: "CD4 T" of a data set that does not tell naive
from memory is {naive, memory}. Training asks only that the probability falls inside that set; judging counts an
answer as right when it falls inside it.
"""

LABELS = (
    "B cell",
    "plasma cell",
    "naive CD4 T cell",
    "memory CD4 T cell",
    "naive CD8 T cell",
    "effector CD8 T cell",
    "NK cell",
    "CD14+ monocyte",
    "FCGR3A+ monocyte",
    "dendritic cell",
    "plasmacytoid dendritic cell",
    "megakaryocyte",
    "progenitor",
)

Types = tuple[str, ...]

B: Types = ("B cell",)
PLASMA: Types = ("plasma cell",)
NAIVE_CD4: Types = ("naive CD4 T cell",)
MEMORY_CD4: Types = ("memory CD4 T cell",)
CD4: Types = (*NAIVE_CD4, *MEMORY_CD4)
NAIVE_CD8: Types = ("naive CD8 T cell",)
EFFECTOR_CD8: Types = ("effector CD8 T cell",)
CD8: Types = (*NAIVE_CD8, *EFFECTOR_CD8)
NK: Types = ("NK cell",)
CD14: Types = ("CD14+ monocyte",)
FCGR3A: Types = ("FCGR3A+ monocyte",)
MONOCYTE: Types = (*CD14, *FCGR3A)
DENDRITIC: Types = ("dendritic cell",)
PDC: Types = ("plasmacytoid dendritic cell",)
MEGAKARYOCYTE: Types = ("megakaryocyte",)
PROGENITOR: Types = ("progenitor",)

KANG = {
    "B cells": B,
    "CD4 T cells": CD4,
    "CD8 T cells": CD8,
    "NK cells": NK,
    "CD14+ Monocytes": CD14,
    "FCGR3A+ Monocytes": FCGR3A,
    "Dendritic cells": DENDRITIC,
    "Megakaryocytes": MEGAKARYOCYTE,
}

TEN_BATCHES = {
    "B immature": B,
    "B mem": B,
    "CD4 naive": NAIVE_CD4,
    "CD4 cm S100A4": MEMORY_CD4,
    "CD4 cm high cytokine": MEMORY_CD4,
    "CD4 em high cytokine": MEMORY_CD4,
    "CD4 cm ribosome": CD4,
    # Its cells express CD8B at a third of the level of "CD8 naive": the cluster mixes both.
    "CD4 ribosome": (*CD4, *NAIVE_CD8),
    "CD8 naive": NAIVE_CD8,
    "CD8 em 1": EFFECTOR_CD8,
    "CD8 em 3": EFFECTOR_CD8,
    "CD8 transitional": EFFECTOR_CD8,
    # Types of their own that the other data sets do not have.
    "MAIT": (*MEMORY_CD4, *EFFECTOR_CD8),
    "T gd1": (*EFFECTOR_CD8, *NK),
    "T gd2": (*EFFECTOR_CD8, *NK),
    "NK": NK,
    "NK high cytokine": NK,
    "Mono classic inflam": CD14,
    "Mac M1": CD14,
    "Mono NKG7 2": CD14,
    "Mono non-classic": FCGR3A,
    "cDC2": DENDRITIC,
    "Mac M1 FCER1A": DENDRITIC,
}
"""Left out, so for masked values only: unknown; the 31 "pDC" (they express LYZ and no LILRA4 or IRF7 to speak of);
"Mono" and "Myeloid migratory" (PPBP, PF4: platelets, alone or stuck to a monocyte); cycling cells of mixed kind; and
labels of a single cell that its markers contradict."""

CITESEQ_MARROW = {
    "B Cells": B,
    "Plasma cells": PLASMA,
    "CD4+ T Cells": CD4,
    "CD8+ T Cells": CD8,
    "NK Cells": NK,
    "BM Monocytes": MONOCYTE,
    "PBMC Monocytes": MONOCYTE,
    "Dendritic cells": DENDRITIC,
    "Plasmacytoid dendritic cells": PDC,
    "Primitive": PROGENITOR,
}

CITESEQ_BLOOD = {
    "B-cells": B,
    "CD4+ T-cells": CD4,
    "CD8+ T-cells": CD8,
    "NK cells": NK,
    "Monocytes": MONOCYTE,
}

# For judging: the data set's own types, each with the answers that are right; no answer is right for two types.

KANG_TYPES = {**KANG, "B cells": (*B, *PLASMA), "Dendritic cells": (*DENDRITIC, *PDC)}

TEN_BATCHES_TYPES = {
    "B": (*B, *PLASMA),
    "CD4 T": CD4,
    "CD8 T": CD8,
    "NK": NK,
    "Monocyte/myeloid": CD14,
    "Non-classical mono": FCGR3A,
    "cDC": DENDRITIC,
}
"""Of the column ``cell_type_coarse``; cells of other labels are not judged."""

PBMC3K_TYPES = {
    "B": (*B, *PLASMA),
    "Naive CD4 T": NAIVE_CD4,
    "Memory CD4 T": MEMORY_CD4,
    "CD8 T": CD8,
    "NK": NK,
    "CD14+ Mono": CD14,
    "FCGR3A+ Mono": FCGR3A,
    "DC": (*DENDRITIC, *PDC),
    "Platelet": MEGAKARYOCYTE,
}

PBMC3K_MAIN = {"Naive CD4 T": "CD4 T", "Memory CD4 T": "CD4 T"}
"""Own type to main type, where they differ."""

PBMC3K_MAIN_TYPES = {"CD4 T": CD4, **{name: types for name, types in PBMC3K_TYPES.items() if name not in PBMC3K_MAIN}}
