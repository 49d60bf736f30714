"""Opening a SOMA experiment: `Store.open`. A `Place` comes in, the experiment's parts go out.

It knows how TileDB is set up, how a release of the Census is found, and which measurement and organism are meant. What
is in the parts it does not look at. tiledbsoma is imported here alone.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from scgpt_infer.readers.places import Place
from scgpt_infer.readers.room import ReadingRoom
from scgpt_runtime.errors import CellsError, MissingDependencyError, ScgptInferError

__all__ = ["Store", "asking"]

_log = logging.getLogger(__name__)

REACH = "Check the address, your rights to read there, and the network."
ORGANISM = "homo_sapiens"
RAW = "raw"
RNA = "RNA"
SHOWN = 20
COLUMNS = 3
"""Of a sparse array, each with a buffer of its own."""


@contextmanager
def asking(what: str, remedy: str = REACH) -> Iterator[None]:
    """Raise what TileDB and the network say as `CellsError`.

    Parameters
    ----------
    what, remedy
        What is being read and what to do, as the message shall begin and end.
    """
    try:
        yield
    except (ScgptInferError, MemoryError):
        raise
    except Exception as error:  # of no common kind: tiledbsoma's own, RuntimeError, and those of an HTTP client
        lines = str(error).strip().splitlines() or [type(error).__name__]
        found = lines[0].removeprefix("SOMAError: ").strip("'\" ")
        raise CellsError(f"{what} cannot be read: {found.rstrip('.')}. {remedy}") from error


@dataclass(frozen=True, slots=True)
class Store:
    """An open experiment.

    Attributes
    ----------
    where
        Its name in messages.
    obs
        The data frame of cells.
    measurement
        The measurement that is read.
    raw
        The one that holds ``raw`` of the AnnData that the experiment was made of; None where there is none.
    origin
        Where the cells are from, for the record: address, release, organism, measurement; empty where it is not told.
    read_bytes
        What TileDB holds at the most while it reads.
    close
        Closes all of it.
    """

    where: str
    obs: Any
    measurement: Any
    raw: Any
    origin: Mapping[str, str]
    read_bytes: int
    close: Callable[[], None]

    @classmethod
    def open(cls, place: Place, organism: str | None, modality: str | None, threads: int, room: ReadingRoom) -> Self:
        """Open an experiment, or that of an organism in a copy of the Census.

        Parameters
        ----------
        place
            Where it lies.
        organism
            Name of the experiment in the Census; None takes that of ``homo_sapiens``, or the only one.
        modality
            Name of the measurement; None takes ``RNA``, or the only one.
        threads
            Threads of TileDB.
        room
            Memory that reading may take.

        Raises
        ------
        CellsError
            If there is no such thing.
        MissingDependencyError
            If tiledbsoma, or for a release cellxgene-census, is not installed.
        """
        with ExitStack() as stack:
            root, version = _root(place, threads, room)
            stack.enter_context(root)
            with asking(str(place)):
                experiment, told = _experiment(root, str(place), organism)
                measurement = _measurement(experiment, str(place), modality)
                raw = experiment.ms[RAW] if RAW in experiment.ms and measurement != RAW else None
                version = version or _build_date(root)
                origin = {
                    "uri": "" if place.path else place.uri,
                    "census_version": version,
                    "organism": told,
                    "measurement": measurement,
                }
                parts = (experiment.obs, experiment.ms[measurement], raw)
            return cls(str(place), *parts, origin, _read_bytes(room), stack.pop_all().close)


def _buffer_bytes(room: ReadingRoom) -> int:
    """Of a column that is read; larger ones are not faster."""
    return room.work_bytes // 4


def _budget_bytes(room: ReadingRoom) -> int:
    """Of what TileDB unpacks at once: 16 MB are as fast where tiles are small, and a large tile must fit as well."""
    return max(16 << 20, 2 * room.work_bytes)


def _read_bytes(room: ReadingRoom) -> int:
    return _budget_bytes(room) + COLUMNS * _buffer_bytes(room)


def _root(place: Place, threads: int, room: ReadingRoom) -> tuple[Any, str]:
    """What lies at the place, open, and the version of the Census where it is asked for by its release."""
    try:
        import tiledbsoma
    except ImportError as error:
        raise MissingDependencyError(
            f'Reading {place} needs tiledbsoma, which is not installed: pip install "scgpt-infer[soma]".'
        ) from error
    settings: dict[str, str | float] = {
        "soma.init_buffer_bytes": str(_buffer_bytes(room)),
        "sm.mem.total_budget": str(_budget_bytes(room)),
        "sm.compute_concurrency_level": str(threads),
    }
    if place.release:
        return _release(place, settings)
    with asking(str(place)):
        return tiledbsoma.open(place.uri, context=tiledbsoma.SOMATileDBContext(tiledb_config=settings)), ""


def _release(place: Place, settings: dict[str, str | float]) -> tuple[Any, str]:
    """A release of the Census: where it lies is asked of the package of those who publish it."""
    try:
        import cellxgene_census
    except ImportError as error:
        raise MissingDependencyError(
            f'Finding {place} needs cellxgene-census, which is not installed: pip install "scgpt-infer[census]". '
            "A copy of the release, or its s3:// address, can be read without it."
        ) from error
    with asking(str(place)):
        version = str(cellxgene_census.get_census_version_description(place.release)["release_build"])
        root = cellxgene_census.open_soma(census_version=version, tiledb_config=settings)
    _log.info("%s is the Census of %s at %s", place, version, root.uri)
    return root, version


def _experiment(root: Any, where: str, organism: str | None) -> tuple[Any, str]:
    """The experiment that is meant, and the organism that it is of where that is told."""
    if root.soma_type == "SOMAExperiment":
        if organism is not None:
            raise CellsError(
                f"{where} is one experiment, which does not tell its organism, and {organism!r} was asked for. "
                "Leave the organism out."
            )
        return root, ""
    if root.soma_type != "SOMACollection":
        raise CellsError(f"{where} is a {root.soma_type}; expected a SOMAExperiment, or a copy of the Census.")
    found = root.get("census_data", root)
    name = _chosen(list(found.keys()), organism, ORGANISM, f"{where} has no experiment", "--organism")
    if found[name].soma_type != "SOMAExperiment":
        raise CellsError(f"{name} in {where} is a {found[name].soma_type}; expected a SOMAExperiment.")
    return found[name], name


def _measurement(experiment: Any, where: str, modality: str | None) -> str:
    names = list(experiment.ms.keys())
    if modality is None and len(names) == 2 and RAW in names:
        names.remove(RAW)
    return _chosen(names, modality, RNA, f"{where} has no measurement", "--modality")


def _chosen(names: list[str], asked: str | None, usual: str, what: str, option: str) -> str:
    name = asked or (usual if usual in names or len(names) != 1 else names[0])
    if name not in names:
        there = ", ".join(names[:SHOWN]) + (" and more" if len(names) > SHOWN else "")
        raise CellsError(f"{what} {name!r}; it has {there or 'none'}. Choose one of them ({option}).")
    return name


def _build_date(root: Any) -> str:
    """The version that a copy of the Census tells of itself; empty for any other experiment."""
    if root.soma_type != "SOMACollection" or "census_info" not in root or "summary" not in root["census_info"]:
        return ""
    told = root["census_info"]["summary"].read(column_names=["label", "value"]).concat().to_pydict()
    return str(dict(zip(told["label"], told["value"], strict=True)).get("census_build_date", ""))
