"""What the process does that looks at an upload: `look` confines itself, opens the file, and says what it found.

Structure first, with nothing followed that leads out of the file and nothing unpacked; then the product's own reader,
which refuses what it cannot read. Words are JSON objects, a line each, on standard output.
"""

import errno
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scgpt_infer.server.confining import confine
from scgpt_infer.server.uploads.chosen import Chosen
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError, InputError

__all__ = ["look"]

_NAMES_AT_ONCE = 65_536
_MOST_FILES = 64
_FULL = {errno.ENOSPC, errno.EDQUOT}


def look(file: str, limits: Mapping[str, Any], chosen: Mapping[str, Any], seconds: float) -> None:
    """Look at a file, in a process of its own, and say its cells and genes, or what is wrong with it.

    Parameters
    ----------
    file
        Its path, with the suffix of its format.
    limits
        Fields of `Limits`.
    chosen
        Fields of `Chosen`.
    seconds
        Processor time that it may take.
    """
    most, read = Limits(**limits), Chosen(**chosen)
    confine(most.memory_bytes, most.temporary_bytes, cpu_seconds=seconds, files=_MOST_FILES)
    _say(begun=True)
    try:
        n_cells, n_genes = _looked(Path(file), most, read)
    except InputError as error:
        _say(**_told(error, most))
    except BaseException as error:
        traceback.print_exc()  # for the server's log
        _say(**_told(error, most))
    else:
        _say(n_cells=n_cells, n_genes=n_genes)
    # What holds the file is not asked to close it: a library that is confused by it may hang or break there.
    os._exit(0)


def _looked(path: Path, limits: Limits, chosen: Chosen) -> tuple[int, int]:
    if path.suffix in (".h5", ".h5ad"):
        from scgpt_infer.server.uploads.hdf5 import check_hdf5

        check_hdf5(path, limits)
    else:
        from scgpt_infer.server.uploads.lines import check_lines

        check_lines(path, limits)
    from scgpt_infer.readers import open_cells  # slow to import, and most of what is wrong needs none of it
    from scgpt_infer.readers.room import ReadingRoom

    room = ReadingRoom.within(limits.memory_bytes // 4)
    with open_cells(
        path, layer=chosen.layer, threads=1, modality=chosen.modality, cells_in=chosen.cells_in, room=room
    ) as cells:
        for what, found, most in (("cells", cells.n_cells, limits.cells), ("genes", cells.n_genes, limits.genes)):
            if found > most:
                raise CellsError(f"{path} has {found:,} {what}; expected at most {most:,}. Send its parts.")
        if chosen.gene_col is not None:
            cells.gene_column(chosen.gene_col)
        for name in cells.gene_names:
            cells.gene_names[name]
        for start in range(0, cells.n_cells, _NAMES_AT_ONCE):
            cells.cell_names(start, min(start + _NAMES_AT_ONCE, cells.n_cells))
        return cells.n_cells, cells.n_genes


def _told(error: BaseException, limits: Limits) -> dict[str, Any]:
    """What an error says of the file, or of the disk."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(one, OSError) and one.errno in _FULL for one in causes):
        return {"error": "The server's disk is full. Try again later.", "no_room": True}
    if any(isinstance(one, MemoryError) for one in causes):
        return {
            "error": f"To look at this file takes more memory than {size(limits.memory_bytes)}. Write it with "
            "smaller chunks, or send its parts."
        }
    if isinstance(error, InputError):
        return {"error": str(error)}
    return {"error": f"This file cannot be read ({type(error).__name__}). It is damaged: copy or write it again."}


def _say(**word: Any) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()
