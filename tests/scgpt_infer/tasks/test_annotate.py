"""Labels of cells from what knows them: ranking, the unknown rule, cells without a vector."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from scgpt_infer.tasks.annotate import UNKNOWN, Annotation, Classifier
from scgpt_infer.tasks.embed import as_stored
from scgpt_runtime.cells import CellFault, Result

LABELS = ("a", "b", "c")
LOGITS = np.array([[0, 5, 1], [1, 1, 1], [2, 1.9, -9], [-1, -1, -1]], np.float32)


class Head:
    """Answers with the logits that its cells carry."""

    inputs = ()
    provider = "none"

    def feed(self, arrays):
        return {"logits": arrays["cell"]}

    def run(self, batch):
        raise NotImplementedError

    def close(self):
        pass


@dataclass
class Unsure:
    """Knows one label, of few cells."""

    labels: tuple = ("unknown", "seen")
    facts: dict = field(default_factory=lambda: {"from": "a test"})
    asked: list = field(default_factory=list)

    def ranked(self, raw, unit, top):
        self.asked.append((raw.copy(), unit.copy()))
        codes = np.full((len(raw), top), -1, np.int32)
        confidences = np.full((len(raw), top), np.nan, np.float32)
        codes[:, 0], confidences[:, 0] = 1, 0.4
        return codes, confidences


def result(cells, faults=None):
    cells = np.asarray(cells, np.float32)
    faults = np.zeros(len(cells), np.uint8) if faults is None else np.asarray(faults, np.uint8)
    return Result({"cell": cells}, faults, np.full(len(cells), 3, np.int32), 7)


def softmax(logits):
    exponents = np.exp(np.asarray(logits, np.float64))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_the_best_classes_come_first_with_their_probabilities():
    task = Annotation(Classifier(Head(), LABELS, {"from": "classifier"}), top=3, unknown_below=0.0)
    part = task(result(LOGITS))
    expected = softmax(LOGITS)
    assert part.columns["label"].tolist() == [1, 0, 0, 0], "equal ones in the order of the labels"
    assert part.columns["label_2"].tolist() == [2, 1, 1, 1]
    np.testing.assert_allclose(part.columns["confidence"], expected.max(axis=1), rtol=1e-6)
    told = np.stack([part.columns[f"confidence_{place}"] for place in (1, 2, 3)], axis=1)
    np.testing.assert_allclose(told, -np.sort(-expected, axis=1), rtol=1e-6)
    assert part.first_row == 7
    assert np.allclose(np.linalg.norm(part.vectors[:3], axis=1), 1)


def test_an_unsure_cell_is_unknown_and_keeps_its_candidates():
    task = Annotation(Classifier(Head(), LABELS, {}), top=2, unknown_below=0.6)
    assert [column.name for column in task.columns] == [
        "label", "confidence", "label_1", "confidence_1", "label_2", "confidence_2",
    ]  # fmt: skip
    assert task.words == (*LABELS, UNKNOWN)
    part = task(result(LOGITS))
    assert [task.words[code] for code in part.columns["label"]] == ["b", UNKNOWN, UNKNOWN, UNKNOWN]
    assert part.columns["label_1"].tolist() == [1, 0, 0, 0]
    assert task.facts == {"annotation_top": 2, "annotation_unknown_below": 0.6}


def test_a_confidence_at_the_threshold_is_known():
    task = Annotation(Classifier(Head(), ("a", "b"), {}), top=1, unknown_below=0.5)
    assert task(result([[1.0, 1.0]])).columns["label"].tolist() == [0]


def test_a_cell_without_a_vector_has_no_label_and_is_not_asked_about():
    labeller = Unsure()
    task = Annotation(labeller, top=2, unknown_below=0.0)
    part = task(result([[3, 4], [np.nan, 1], [0, 2]], [0, 0, CellFault.NO_COUNTS]))
    assert part.columns["label"].tolist() == [1, -1, -1]
    assert np.isnan(part.columns["confidence"][1:]).all()
    assert part.reasons == ("", CellFault.NOT_FINITE.reason, CellFault.NO_COUNTS.reason)
    ((raw, unit),) = labeller.asked
    assert raw.tolist() == [[3, 4]]
    np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-6)


def test_a_cell_that_nothing_has_a_label_for_is_unknown():
    class Silent(Unsure):
        def ranked(self, raw, unit, top):
            return np.full((len(raw), top), -1, np.int32), np.full((len(raw), top), np.nan, np.float32)

    part = Annotation(Silent(), top=1, unknown_below=0)(result([[3, 4], [0, 2]], [0, CellFault.NO_COUNTS]))
    assert part.columns["label"].tolist() == [0, -1], "a cell without a vector has no label at all"


def test_more_candidates_than_labels_are_left_empty():
    part = Annotation(Classifier(Head(), LABELS, {}), top=5, unknown_below=0)(result(LOGITS))
    assert (part.columns["label_4"] == -1).all()
    assert np.isnan(part.columns["confidence_5"]).all()


def test_a_label_that_is_called_unknown_is_the_word_for_unknown():
    task = Annotation(Unsure(), top=1, unknown_below=0.5)
    assert task.words == ("unknown", "seen")
    assert task(result([[1.0, 0.0]])).columns["label"].tolist() == [0]


def test_logits_too_large_for_exp_are_no_matter():
    part = Annotation(Classifier(Head(), LABELS, {}), top=1, unknown_below=0)(result([[1e4, -1e4, 9e3]]))
    assert part.columns["confidence"][0] == pytest.approx(1)


def test_vectors_that_lie_with_the_cells_stay_as_they_are():
    stored = np.array([[0.6, 0.79999995], [0.1, 0.2]], np.float32)
    part = Annotation(Unsure(), top=1, unknown_below=0, vectors=as_stored)(result(stored))
    assert (part.vectors == stored).all()
