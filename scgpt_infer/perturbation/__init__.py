"""What a perturbation does to cells, by scGPT's generator: `perturb` in memory, `perturb_json` as a document,
`perturb_file` for files.

In: control cells and genes to perturb. Out: mean profiles, profiles of cells, and figures where the truth is known.
"""

from scgpt_infer.perturbation.asked import Combination, PerturbOptions, read_perturbations
from scgpt_infer.perturbation.jobs import perturb, perturb_file, perturb_json
from scgpt_infer.perturbation.judging import Judged, Judgement
from scgpt_infer.perturbation.profiles import Profiles
from scgpt_infer.perturbation.summary import PerturbSummary

__all__ = [
    "Combination",
    "Judged",
    "Judgement",
    "PerturbOptions",
    "PerturbSummary",
    "Profiles",
    "perturb",
    "perturb_file",
    "perturb_json",
    "read_perturbations",
]
