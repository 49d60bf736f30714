"""Cells of several batches in one space: the command ``integrate``, and scores of how well batches mix."""

from scgpt_infer.integration.batches import CellBatches
from scgpt_infer.integration.jobs import Integrated, integrate, integrate_file, integrate_json
from scgpt_infer.integration.options import IntegrateOptions
from scgpt_infer.integration.scores import Scores, score

__all__ = [
    "CellBatches",
    "IntegrateOptions",
    "Integrated",
    "Scores",
    "integrate",
    "integrate_file",
    "integrate_json",
    "score",
]
