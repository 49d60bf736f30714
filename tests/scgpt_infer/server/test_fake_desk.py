"""The desk that other tests ask answers as a model does: by cell alone, with reasons for cells without an answer."""

import asyncio

import numpy as np

from scgpt_infer.server.asking import Ask, Cells
from tests.scgpt_infer.server.fake_desk import FakeDesk


def test_a_cell_has_the_same_vector_alone_and_among_others():
    desk = FakeDesk()
    values = np.array([1, 2, 0, 3, -1], np.float32)
    cells = Cells(np.array([0, 2, 3, 4, 5]), np.array([5, 9, 5, -1, 7], np.int32), values)
    alone = Cells(np.array([0, 2]), np.array([9, 5], np.int32), np.array([2, 1], np.float32))
    together = asyncio.run(desk.ask(desk.here(), Ask("embed", cells)))
    single = asyncio.run(desk.ask(desk.here(), Ask("annotate", alone, options={"top": 2})))
    np.testing.assert_array_equal(together.part.vectors[0], single.part.vectors[0])
    assert together.part.reasons == (
        "",
        "all values are zero",
        "none of its expressed genes is in the vocabulary",
        "a value is negative",
    )
    assert [column.name for column in single.columns] == [
        "label",
        "confidence",
        "label_1",
        "confidence_1",
        "label_2",
        "confidence_2",
    ]
