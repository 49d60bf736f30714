"""What a client asks of a whole file: `JobAsked`, from the query of a request, kept as JSON beside the file.

It knows neither the file nor the model; whether they go together shows when the work begins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.options import CHOICES, CellsIn, EmbedOptions
from scgpt_infer.server.bodies.body import MOST_CANDIDATES
from scgpt_infer.server.refusals import BadRequest
from scgpt_infer.server.uploads import suffix_of
from scgpt_runtime.errors import OptionError

__all__ = ["OUTPUTS", "TASKS", "JobAsked", "Task"]

Task = Literal["embed", "annotate"]

TASKS: Final = ("annotate", "embed")
OUTPUTS: Final = {"annotate": ("h5ad", "json", "csv", "parquet"), "embed": ("h5ad", "npy", "json", "csv", "parquet")}
"""Formats of results, by task; the first is taken where none is named."""

_DONE: Final = {"annotate": "annotated", "embed": "embedded"}
_STEM_LETTERS = 100
_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")
"""What `float` takes too, as 1_0 and digits of all alphabets, is a slip."""

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class JobAsked:
    """What shall become of a file.

    Attributes
    ----------
    model
        Name of the model that answers.
    name
        What the client calls the file; its suffix tells the format.
    task
        ``embed`` or ``annotate``.
    output
        Format of the result.
    report
        Whether a page about the result is made too.
    top, unknown_below
        See `AnnotateOptions`.
    with_vectors
        Whether tables and JSON of types hold the vectors too.
    layer, modality, cells_in, gene_col, obs_only
        See `EmbedOptions`.
    """

    model: str
    name: str
    task: Task = "annotate"
    output: str = "h5ad"
    report: bool = False
    top: int = 3
    unknown_below: float | None = None
    with_vectors: bool = False
    layer: str | None = None
    modality: str | None = None
    cells_in: CellsIn | None = None
    gene_col: str | None = None
    obs_only: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str], model: str) -> "JobAsked":
        """What the query of a request asks for.

        Parameters
        ----------
        query
            Texts by the names of the attributes above.
        model
            Name of the model that answers where none is named.

        Raises
        ------
        BadRequest
            A parameter is unknown, or has a value that it cannot have.
        Unprocessable
            No file of this name is taken.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(query.keys() - known):
            raise BadRequest(f"There is no parameter {unknown[0]!r}; there are {', '.join(sorted(known))}.")
        if empty := [name for name, value in query.items() if not value and name != "name"]:
            raise BadRequest(f"{empty[0]} is empty; expected a value. Give it one, or leave it out.")
        if strange := [name for name, value in query.items() if not value.isprintable()]:
            raise BadRequest(f"{strange[0]} has characters that cannot be shown; expected words and numbers.")
        if not (name := query.get("name", "")):
            raise BadRequest(
                "The file has no name. Give it one in the query, such as name=pbmc.h5ad: it tells the format."
            )
        suffix_of(name)
        task = _one_of("task", query.get("task", "annotate"), TASKS)
        output = _one_of("output", query.get("output", "h5ad"), OUTPUTS[task])
        asked = cls(
            model=query.get("model", model),
            name=name,
            task="embed" if task == "embed" else "annotate",
            output=output,
            report=_yes(query, "report", output == "h5ad"),
            top=_whole(query, "top", 3),
            unknown_below=_number(query, "unknown_below"),
            with_vectors=_yes(query, "with_vectors", False),
            layer=query.get("layer"),
            modality=query.get("modality"),
            cells_in=_side(query),
            gene_col=query.get("gene_col"),
            obs_only=_yes(query, "obs_only", False),
        )
        asked._check()
        return asked

    def _check(self) -> None:
        if self.report and self.output != "h5ad":
            raise BadRequest(
                f"report=true with output={self.output}: a report is made of an h5ad. Ask for output=h5ad, or leave "
                "report out."
            )
        if self.obs_only and self.output != "h5ad":
            raise BadRequest(f"obs_only is for output=h5ad, and the output is {self.output}. Leave it out.")
        if self.top > MOST_CANDIDATES:
            raise BadRequest(f"top is {self.top:,}; expected a whole number from 1 to {MOST_CANDIDATES}.")
        try:
            self.how(None)
            self.options(EmbedOptions())
        except OptionError as error:
            raise BadRequest(str(error)) from error

    def options(self, served: EmbedOptions) -> EmbedOptions:
        """Options of the job, for a model that is served with these."""
        return replace(
            served,
            layer=self.layer or served.layer,
            modality=self.modality or served.modality,
            cells_in=self.cells_in or served.cells_in,
            gene_col=self.gene_col or served.gene_col,
            obs_only=self.obs_only,
            in_place=False,
            limit=None,
        )

    def how(self, reference: str | None) -> AnnotateOptions:
        """How types are told, by a reference or by the model's classifier."""
        return AnnotateOptions(
            reference=None if reference is None else Path(reference),
            top=self.top,
            unknown_below=self.unknown_below,
            with_vectors=self.with_vectors,
        )

    @property
    def suffix(self) -> str:
        """The suffix of the file, by which its format is known."""
        return suffix_of(self.name)

    @property
    def result(self) -> str:
        """Name of the result: made of letters that every disk, shell and header takes."""
        return f"{self._stem}.{_DONE[self.task]}.{self.output}"

    @property
    def page(self) -> str:
        """Name of the report."""
        return f"{self._stem}.report.html"

    @property
    def _stem(self) -> str:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", self.name[: -len(self.suffix)]).strip("._-")
        return stem[:_STEM_LETTERS] or "cells"


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadRequest(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
    return value


def _yes(query: Mapping[str, str], name: str, default: bool) -> bool:
    value = query.get(name)
    if value is None:
        return default
    return _WORDS[_one_of(name, value, tuple(_WORDS))]


def _side(query: Mapping[str, str]) -> CellsIn | None:
    if (value := query.get("cells_in")) is None:
        return None
    return "rows" if _one_of("cells_in", value, CHOICES["cells_in"]) == "rows" else "columns"


def _number(query: Mapping[str, str], name: str) -> float | None:
    value = query.get(name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadRequest(f"{name} is {value!r}; expected a number from 0 to 1.")
    return float(value)


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", value):
        raise BadRequest(f"{name} is {value!r}; expected a whole number of at least 1.")
    return int(value)
