"""Results out: one short file a format, behind `WRITERS` from suffix to `Writer`.

To add a format, write one module with a context manager that takes a `Target` and gives a `Sink`, and enter it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from scgpt_infer.writers import census, csv, dataset, h5ad, json, npy, parquet, zarr
from scgpt_infer.writers.folder import Ours
from scgpt_infer.writers.sink import Part, Record, Sink, Target
from scgpt_runtime.errors import MissingDependencyError, OutputError

__all__ = ["WRITERS", "Part", "Record", "Sink", "Target", "Writer", "writer_of"]


@dataclass(frozen=True, slots=True)
class Writer:
    """One output format.

    Attributes
    ----------
    open
        Target to a context manager that gives the sink.
    bytes_needed
        Target to the free disk that writing it takes.
    beside
        Suffixes of further files that it writes.
    needs, extra
        Package that it imports, and the extra that installs it; empty: none.
    ours
        Of a format that is a folder, which folders a new one may replace; None: it is a file.
    check
        Raises `OutputError` before the work begins where the format cannot hold a target.
    """

    open: Callable[[Target], AbstractContextManager[Sink]]
    bytes_needed: Callable[[Target], int]
    beside: tuple[str, ...] = ()
    needs: str = ""
    extra: str = ""
    ours: Ours | None = None
    check: Callable[[Target], None] = lambda target: None


WRITERS: dict[str, Writer] = {
    ".census": Writer(census.open_census, census.bytes_needed, ours=census.is_ours, check=census.check),
    ".csv": Writer(csv.open_csv, csv.bytes_needed, csv.BESIDE),
    ".dataset": Writer(
        dataset.open_dataset, dataset.bytes_needed, needs="pyarrow", extra="parquet", ours=dataset.is_ours
    ),
    ".h5ad": Writer(h5ad.open_h5ad, h5ad.bytes_needed, check=h5ad.check),
    ".json": Writer(json.open_json, json.bytes_needed),
    ".jsonl": Writer(json.open_jsonl, json.bytes_needed, json.BESIDE),
    ".npy": Writer(npy.open_npy, npy.bytes_needed, npy.BESIDE, check=npy.check),
    ".parquet": Writer(parquet.open_parquet, parquet.bytes_needed, needs="pyarrow", extra="parquet"),
    ".zarr": Writer(zarr.open_zarr, zarr.bytes_needed, needs="zarr", extra="zarr", ours=zarr.is_ours, check=zarr.check),
}


def writer_of(path: Path) -> Writer:
    """The writer for a file name.

    Raises
    ------
    OutputError
        When no format has its suffix.
    MissingDependencyError
        When the format needs a package that is not installed.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise OutputError(
            f"{path} has the suffix {path.suffix or '(none)'!r}; expected one of {', '.join(sorted(WRITERS))}."
        )
    if writer.needs and find_spec(writer.needs) is None:
        raise MissingDependencyError(
            f"Writing {path.suffix} needs {writer.needs}, which is not installed: "
            f'pip install "scgpt-infer[{writer.extra}]".'
        )
    return writer
