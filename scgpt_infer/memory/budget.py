"""What a job may hold, planned before it runs: `Budget`.

In: bytes granted, an open engine, a way to open the cells. Out: cells that are open in pieces of a size that fits, or
the least that works. A budget that is too small is refused before the work, never met by other results. What libraries
take is planned as if this process alone used them: others that share them now may end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scgpt_infer.memory.demand import Workspace, in_flight, of_cells, of_engine, widest
from scgpt_infer.memory.measure import resident_bytes, trim
from scgpt_infer.memory.watch import line_of, memory_for, told_size
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.room import ReadingRoom
from scgpt_infer.sizes import size
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import OptionError

__all__ = ["Budget"]

Opening = Callable[[ReadingRoom], CellSource]
"""Opens the cells of a job, with pieces of the sizes that are given."""

# Names of cells, the ledger and the writer of the output take pieces of a few megabytes.
_OUTPUT_BYTES = 32_000_000
# What is held at the same place differs from run to run: what is told to work must do so then, too.
_SPREAD, _SPREAD_BYTES = 32, 10_000_000


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a job with one instance holds at the most, and what each further one adds."""

    process: int
    reading: int
    each: int

    def of(self, instances: int) -> int:
        return self.process + self.reading + instances * self.each

    def fitting(self, memory: int, most: int) -> int:
        """Instances that fit, at most so many; 0 where not even one does."""
        return max((count for count in range(1, most + 1) if self.of(count) <= line_of(memory)), default=0)


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that this process, and all that it starts, may hold.

    Attributes
    ----------
    memory
        Bytes.
    workers, beside
        Of a part: how many have one of that size, and what was left to the rest of the job.
    """

    memory: int
    workers: int = 1
    beside: int = 0

    def part(self, n_workers: int) -> "Budget":
        """What each of several workers may hold, of what is left beside this process.

        Raises
        ------
        OptionError
            Nothing is left.
        """
        held = resident_bytes() + _OUTPUT_BYTES
        left = line_of(self.memory) - held
        if left < n_workers * _OUTPUT_BYTES:
            least = told_size(memory_for((n_workers + 1) * held))  # a worker holds as much, and the model
            raise OptionError(
                f"{size(self.memory)} of memory leave nothing for {n_workers} workers beside the {size(held)} that "
                f"this process holds, and each of them takes more than that. Grant well over --memory {least}, or take "
                "fewer (--workers)."
            )
        return Budget(left // n_workers, n_workers, self.memory - left)

    def opened(self, engine: Engine, opening: Opening) -> CellSource:
        """Open cells in pieces of a size that fits beside the model.

        The model is tried first, with the longest batch that there can be.

        Parameters
        ----------
        engine
            Open; where not all of its instances fit, it answers fewer batches at a time from then on.
        opening
            Opens the cells; called again, with the smallest pieces, where the rows that were found leave no room for
            larger ones.

        Raises
        ------
        OptionError
            The budget is too small for these cells and this model. The message says the least that works.
        """
        workspace, most = of_engine(engine), engine.choice.instances
        held = resident_bytes()
        usual = ReadingRoom.within(line_of(self.memory) - held - (most - 1) * workspace.each - _OUTPUT_BYTES)
        smallest = ReadingRoom.within(0)
        for room in dict.fromkeys((usual, smallest)):
            source = opening(room)
            needs = _needs(engine, source, workspace)
            fitting = needs.fitting(self.memory, most)
            if fitting == most or (fitting and room == smallest):
                engine.narrow(fitting)
                return source
            source.close()
        raise self._refusal(needs)

    def _refusal(self, needs: _Needs) -> OptionError:
        least, who, part = memory_for(needs.of(1) + needs.of(1) // _SPREAD + _SPREAD_BYTES), "It needs", ""
        if self.beside:
            least, who = memory_for(self.beside + self.workers * least), "All processes together need"
            part = f" leave {size(self.memory)} for each of {self.workers} workers, which"
        return OptionError(
            f"{size(self.beside + self.workers * self.memory)} of memory{part} do not do for these cells and this "
            f"model: the process and the model hold {size(needs.process + needs.each)}, and a range of "
            f"{size(needs.reading)} of cells, tokens and vectors is in work. {who} about {told_size(least)}. Grant at "
            f"least --memory {told_size(least)}."
        )


def _needs(engine: Engine, source: CellSource, workspace: Workspace) -> _Needs:
    trim()
    most_values = widest(source)
    reading = of_cells(source, most_values) + in_flight(engine.settings, engine.bundle.manifest.dim, most_values)
    trim()
    return _Needs(resident_bytes() - workspace.kept + _OUTPUT_BYTES, reading, workspace.each)
