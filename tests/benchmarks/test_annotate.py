"""The benchmark of cell types counts what it says."""

import numpy as np
import pytest

from benchmarks.annotate import Question, Told, figures, table


def test_a_type_that_no_class_stands_for_counts_as_wrong():
    question = Question("q", None, None, {"T": ("CD4", "CD8"), "B": ("B",)}, {"CD4 T": ("CD4",), "Platelet": ("PLT",)})
    assert question.by_classes == {"CD4 T": ("T",), "Platelet": ()}
    told = Told(np.array(["T", "T", "B", "B"]), np.array([0.9, 0.4, 0.6, 0.1]))
    true = np.array(["CD4 T", "CD4 T", "CD4 T", "Platelet"])
    found = figures(told, true, question.by_classes)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(0.8 / 2)  # 1 and 2/3 for CD4 T, nothing for Platelet
    assert (found["sure"], found["accuracy_of_sure"]) == (0.5, 0.5)


def test_a_row_a_question():
    one = {"judged": {"cells": 1200}, "ways": {"a": {"accuracy": 0.5, "macro_f1": 0.25}}}
    assert table({"donors": one}).splitlines()[-1] == "| donors | 1,200 | 0.500 / 0.250 |"
