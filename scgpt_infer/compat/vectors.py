"""Cells through an open engine into memory, with a warning for those that have no vector.

In: an engine, open cells, the tokens of their genes, a task. It opens no model.
"""

from scgpt_infer.compat.told import tell
from scgpt_infer.facts import Facts
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.run import run
from scgpt_infer.tasks import Task
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import DeviceError
from scgpt_runtime.vocab import GeneMatch

__all__ = ["through"]


def through(
    engine: Engine, source: CellSource, match: GeneMatch, options: EmbedOptions, task: Task, dim: int | None
) -> MemorySink:
    """Take all cells of a source through an engine and a task.

    Parameters
    ----------
    engine
        What answers.
    source
        The cells.
    match
        The token of each of their genes.
    options
        What is told of the run.
    task
        What becomes of the answers.
    dim
        Width of the vectors that are kept; None for none.

    Returns
    -------
    MemorySink
        With `vectors`, (n_cells, dim), and the `record` of the run.

    Raises
    ------
    CellsError
        When no cell has a vector.
    DeviceError
        A GPU failed; its attribute `finished` has the vectors that were done.
    """
    facts = Facts(engine.bundle, engine, source, match, options)
    sink = MemorySink.of(source.n_cells, dim)
    output = "The attribute `finished` of this error, an array,"
    try:
        tally = run(source, engine, match.columns, task, sink, facts.record, output=output)
    except DeviceError as error:
        if sink.record:  # rows were done before
            error.finished = sink.vectors
        raise
    if tally.bad.count:
        first = tally.bad.first[0]
        tell(
            f"{tally.bad.count:,} of {tally.n_cells:,} cells have no vector; the first is {first.name}: {first.reason}"
        )
    return sink
