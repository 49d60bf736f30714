"""How right predicted labels are: `evaluate` takes true and told labels and gives an `Evaluation`.

In: one label a cell, as text. Out: figures, a report, JSON, and the confusion matrix as a picture. It knows no model
and no file.
"""

from scgpt_infer.evaluation.drawing import confusion_png
from scgpt_infer.evaluation.figures import (
    PRECISE,
    Confidences,
    Confusion,
    Evaluation,
    GroupFigures,
    Kept,
    Mean,
    TypeFigures,
    Unanswerable,
)
from scgpt_infer.evaluation.labels import evaluate

__all__ = [
    "PRECISE",
    "Confidences",
    "Confusion",
    "Evaluation",
    "GroupFigures",
    "Kept",
    "Mean",
    "TypeFigures",
    "Unanswerable",
    "confusion_png",
    "evaluate",
]
