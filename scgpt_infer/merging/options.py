"""What is asked of a merge, and what it tells: `MergeOptions`, `Merged`. Plain values."""

import json
from dataclasses import asdict, dataclass

from scgpt_infer.readers.source import UNREAD, CellPaths
from scgpt_infer.summary import BadCell

__all__ = ["MergeOptions", "Merged"]


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What a merge takes.

    Attributes
    ----------
    allow_mixed
        Parts of several models, providers or precisions; the record of the output tells it as ``mixed``.
    allow_missing
        Rows that no part has: they become NaN, and the record tells it as ``incomplete``.
    cells
        Where the cells are now, for an output that keeps what is told of them: a file, a folder of files, or several,
        as for the job. None: where they were.
    obs_only
        Leave ``X``, ``layers``, ``raw`` and pairwise matrices out of an ``.h5ad`` output.
    """

    allow_mixed: bool = False
    allow_missing: bool = False
    cells: CellPaths | None = None
    obs_only: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge made.

    Attributes
    ----------
    output, key, dim
        The file, the name of the embedding in it, and its width.
    folders
        That the parts came from; they stay.
    n_cells, n_embedded, n_bad, n_missing, n_twice
        Cells in all; with a result; without one; of these, those that no part has; those that two folders have, alike.
    reasons, bad
        Cells without a result by reason, and the first of them.
    mixed
        What made the parts, by name, where they differ.
    n_bad_files
        Files of a set that could not be read when the work began, and whose cells are missing.
    notes
        What a user may wonder at, such as that copies of the input were compared by samples.
    parts_sha256
        One digest of all parts: equal to that of an undisturbed run.
    wall_seconds
        Time that it took.
    """

    output: str
    key: str
    dim: int
    folders: tuple[str, ...]
    n_cells: int
    n_embedded: int
    n_bad: int
    n_missing: int
    n_twice: int
    reasons: dict[str, int]
    bad: tuple[BadCell, ...]
    mixed: dict[str, str]
    parts_sha256: str
    wall_seconds: float
    n_bad_files: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that was asked for: no row, and no file of a set."""
        unread = any(reason.startswith(UNREAD) for reason in self.reasons)
        return not (self.n_missing or self.n_bad_files or unread)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2)
