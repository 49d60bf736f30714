"""Where a result goes, looked at before the work begins: `destination`, `check_key`, `target_of`, `check_disk`.

In: paths and options. Out: a path that can be written and the `Target` for it, or `OutputError`. It writes nothing.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.options import EmbedOptions
from scgpt_infer.preview import Disk
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.joinids import joinids_of_cells
from scgpt_infer.readers.members import members
from scgpt_infer.readers.source import CellPaths, TabledCells, are_paths
from scgpt_infer.sizes import size
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.copied import state_of
from scgpt_infer.writers.folder import check_output
from scgpt_infer.writers.h5ad import IMPUTED, RECORD, held
from scgpt_infer.writers.row_report import check_report
from scgpt_runtime.errors import OptionError, OutputError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_disk", "check_key", "check_path", "destination", "disk", "kept_tables", "target_of"]

_OURS = "X_scGPT"
"""What the names of our embeddings begin with."""


def destination(cells: CellPaths, output: Path | str | None, options: EmbedOptions) -> Path:
    """The file that a result shall become, links followed.

    Parameters
    ----------
    cells
        The input, one file or several.
    output
        What the user named; None with ``in_place``.
    options
        Says whether the input file itself is meant.

    Raises
    ------
    OutputError
        When no file can appear there, or it is the input and ``in_place`` was not asked for.
    MissingDependencyError
        When the format needs a package that is not installed.
    OptionError
        When the options do not fit the output.
    """
    if options.in_place:
        return _in_place(cells, output)
    if output is None:
        raise OutputError(
            "No output was named. Name a .h5ad, .npy, .parquet or .csv file, or add to the input (--in-place, "
            "in_place=True)."
        )
    path = Path(os.path.realpath(output))
    writer_of(path)
    if options.obs_only and path.suffix.lower() != ".h5ad":
        raise OptionError(
            f"--obs-only (obs_only) is for .h5ad outputs, and the output is {path.name}, which never has a matrix."
        )
    if path.exists() and any(one.exists() and path.samefile(one) for one in members(cells)):
        raise OutputError(
            f"{output} is an input file. Name another file, or add to the input (--in-place, in_place=True)."
        )
    check_path(path)
    return path


def target_of(path: Path, source: CellSource, n_cells: int, dim: int, key: str, options: EmbedOptions) -> Target:
    """What the file shall hold."""
    kept = kept_tables(source.path)
    return Target(
        path=path,
        n_cells=n_cells,
        dim=dim,
        key=key,
        names=source.cell_names,
        genes=() if kept is not None else source.gene_names["index"],
        source=kept,
        obs=source.cell_table if kept is None and isinstance(source, TabledCells) else None,
        joinids=joinids_of_cells(source),
        obs_only=options.obs_only,
        dtype=options.dtype,
        state=state_of(kept),
    )


def kept_tables(path: Path | None) -> Path | None:
    """The file or store whose tables an output keeps: one whose cells are all there is."""
    suffix = "" if path is None else path.suffix.lower()
    if path is None or suffix not in (".h5ad", ".zarr"):
        return None
    if suffix == ".zarr" and (not path.is_dir() or (path / "mod").exists()):
        return None  # packed, or of several modalities
    return Path(os.path.realpath(path))


def disk(target: Target, parts: int = 0) -> Disk:
    """Room that the output and so many bytes of parts need, and room that there is."""
    needed = writer_of(target.path).bytes_needed(target) + parts
    return Disk(needed, shutil.disk_usage(target.path.parent).free)


def check_disk(target: Target, parts: int = 0) -> None:
    """Make sure that there is room.

    Parameters
    ----------
    target
        What the output shall hold.
    parts
        Bytes of parts that are still to be written beside it.

    Raises
    ------
    OutputError
        When there is not.
    """
    room = disk(target, parts)
    if room.needed > room.free:
        raise OutputError(
            f"{target.path} needs about {size(room.needed)} on the disk and {size(room.free)} are free. "
            "Free some space, write to another disk, or write less (--obs-only, .npy or .parquet)."
        )


def check_key(cells: "AnnData | CellPaths", key: str) -> None:
    """Make sure that nothing but an embedding of ours would be replaced.

    Parameters
    ----------
    cells
        An AnnData object, or a file; of files, only ``.h5ad`` keeps what it has.
    key
        Name that the embedding gets under ``obsm``.

    Raises
    ------
    OptionError
        When something else has the name.
    """
    if key.startswith(_OURS):
        return
    if are_paths(cells):
        if not isinstance(cells, (str, Path)) or Path(cells).suffix.lower() != ".h5ad":
            return
        taken, record = held(Path(cells), key)
    else:
        records = [cells.uns.get(name) for name in (RECORD, IMPUTED)]
        named = [record["key"] for record in records if isinstance(record, Mapping) and "key" in record]
        taken, record = key in cells.obsm, key if key in named else None
    if taken and record != key:
        raise OptionError(
            f"obsm already has {key}, which scgpt-infer did not write. Give another name (--key, key=...), such as "
            f"{_OURS}, or remove {key} from the cells first."
        )


def _in_place(cells: CellPaths, output: Path | str | None) -> Path:
    named = members(cells)
    if len(named) > 1:
        raise OutputError(
            f"--in-place (in_place) adds to one input file, and the input is {len(named):,} files. Name an output, or "
            "take the files one by one."
        )
    path = Path(os.path.realpath(named[0]))
    if output is not None and Path(os.path.realpath(output)) != path:
        raise OptionError(
            f"--in-place (in_place) adds to the input file, and another output was named: {output}. Choose one."
        )
    if path.suffix.lower() != ".h5ad":
        raise OutputError(
            f"--in-place (in_place) adds to .h5ad files, and the input is {named[0].name}. Name an output instead."
        )
    check_path(path)
    return path


def check_path(path: Path) -> None:
    """Make sure that a file or folder can appear under this name and under those beside it.

    Raises
    ------
    OutputError
        A name is taken by something else, or nothing can be written there.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} of the output {path.name} does not exist. Make it first.")
    check_report(path)
    writer = writer_of(path)
    if writer.ours is not None:
        check_output(path, writer.ours)
    for name in (*(() if writer.ours else (path,)), *(path.with_suffix(suffix) for suffix in writer.beside)):
        if name.exists() and not name.is_file():
            raise OutputError(f"{name} is not a file, so the output cannot take its name. Choose another one.")
        if name.exists() and not os.access(name, os.W_OK):
            raise OutputError(f"{name} is write-protected. Choose another name, or allow writing to it.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written in: {error.strerror}. Choose another one.") from error
