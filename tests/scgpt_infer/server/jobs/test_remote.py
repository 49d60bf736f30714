"""The engine of another process: the same bits as an engine of one's own, and what happens when it goes away."""

import numpy as np
import pytest

from scgpt_infer.readers import open_cells
from scgpt_infer.server.jobs.remote import TryAgain, connected
from scgpt_infer.spans import grid
from scgpt_runtime.vocab import choose


def test_answers_have_the_bits_of_an_engine_of_ones_own_and_its_facts(toy_seat, toy_h5ad):
    told: list[int] = []
    with open_cells(toy_h5ad) as source, connected(toy_seat.path) as remote:
        own = toy_seat.engine
        columns = choose(source.gene_names, own.vocabulary, "exact", None, 0.1).columns
        spans = grid(source.n_cells)
        assert len(spans) > 1
        found = list(remote.run(source.blocks(spans), columns, told.append))
        expected = list(own.run(source.blocks(spans), columns))
    assert sum(told) == source.n_cells
    for one, other in zip(found, expected, strict=True):
        assert one.first_row == other.first_row
        assert one.outputs["cell"].tobytes() == other.outputs["cell"].tobytes()
        assert np.array_equal(one.faults, other.faults)
        assert np.array_equal(one.lengths, other.lengths)
    facts = ("choice", "settings", "vector_id", "batch_tokens")
    assert [getattr(remote, name) for name in facts] == [getattr(own, name) for name in facts]


def test_a_seat_that_goes_away_is_told_apart_from_a_file_that_is_at_fault(toy_seat, toy_h5ad):
    toy_seat.answers_left = 1
    with open_cells(toy_h5ad) as source, connected(toy_seat.path) as remote:
        columns = choose(source.gene_names, toy_seat.engine.vocabulary, "exact", None, 0.1).columns
        results = remote.run(source.blocks(grid(source.n_cells)), columns, lambda cells: None)
        assert next(results).first_row == 0
        with pytest.raises(TryAgain):
            next(results)


def test_nobody_listens(tmp_path):
    with pytest.raises(TryAgain), connected(tmp_path / "nothing"):
        pass
