"""Cells become requests, and answers become rows: `Asking`, which `begun` makes when the server has told of its model.

In: an open source of cells, and what is asked. Out: steps, each for the rows of one request. It knows no connection.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.client import models
from scgpt_infer.client.errors import ModelExchangedError, ProtocolError, RefusedError
from scgpt_infer.client.forms import part_of, request_of
from scgpt_infer.client.messages import Reply, Request, Steps
from scgpt_infer.client.models import ServedModel, Shelf
from scgpt_infer.client.pieces import Most, Piece, halves, pieces
from scgpt_infer.client.question import PREFIX, Question, Rows
from scgpt_infer.client.retrying import answered
from scgpt_infer.client.terms import ReadOptions, Terms
from scgpt_infer.facts import of_files
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import NumberedCells, SetOfFiles
from scgpt_infer.spans import grid
from scgpt_infer.writers.sink import Column, Part, Record
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.vocab import GeneMatch, Vocabulary, choose

__all__ = ["Asking", "begun"]

_TOO_LARGE = 413

_STRANGE = "not a gene of the model"
"""What a column is called whose gene the model does not know: the server judges its values, and looks up no name."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Cells that a server is asked about.

    Attributes
    ----------
    terms, how, question
        As the caller gave them.
    model
        What the server says of its model.
    source
        The cells.
    match
        Which of their genes the model knows.
    genes
        (n_columns,) what each column is called in requests: the model's own name of its gene.
    facts
        What answers say of their run; they fill it.
    most
        Cells of a request; halved when one is too large for the server.
    """

    terms: Terms
    how: ReadOptions
    question: Question
    model: ServedModel
    source: CellSource
    match: GeneMatch
    genes: NDArray[np.object_]
    facts: dict[str, str | int | float]
    most: Most

    @classmethod
    def of(
        cls,
        terms: Terms,
        how: ReadOptions,
        question: Question,
        model: ServedModel,
        known: Vocabulary,
        source: CellSource,
    ) -> Self:
        """Look the genes up.

        Raises
        ------
        GenesError
            Too few of them are known to the model.
        """
        if how.gene_col is not None:
            source.gene_column(how.gene_col)
        match = choose(source.gene_names, known, model.genes, how.gene_col, how.min_match)
        names = np.array([*known.tokens, _STRANGE], object)  # -1 is the last of them
        return cls(terms, how, question, model, source, match, names[match.columns], {}, Most(terms.cells_per_request))

    @property
    def n_cells(self) -> int:
        """Cells that are taken."""
        limit = self.how.limit
        return self.source.n_cells if limit is None else min(limit, self.source.n_cells)

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return self.how.key or self.model.key

    @property
    def columns(self) -> tuple[Column, ...]:
        """What goes beside the vectors."""
        return self.question.columns(self.model.labels)

    def requests(self) -> Iterator[Steps[Part]]:
        """Steps for the rows of each request, in order; cells are read when their turn comes."""
        for block in self.source.blocks(grid(self.n_cells)):
            for piece in pieces(block, self.source.n_genes, self.most, zeros=self.model.takes_zeros):
                yield self._asked(self._request(piece), piece)

    def rows(self, part: Part) -> Rows:
        """An answer in words."""
        words = {column.name: np.array([*column.words, None], object) for column in self.columns if column.words}
        told = {name: words[name][found] if name in words else found for name, found in part.columns.items()}
        names = self.source.cell_names(part.first_row, part.stop)
        return Rows(part.first_row, names, part.vectors, part.reasons, told)

    def record(self, n_bad: int) -> Record:
        """As `scgpt_infer.facts.Facts` gives it, of what is known here."""
        source, match = self.source, self.match
        return {
            **self.model.run,
            **self.facts,
            "key": self.key,
            "modality": self.how.modality or "",
            **(source.origin if isinstance(source, NumberedCells) else {}),
            "counts": source.counts,
            "values": source.values,
            "gene_col": match.source,
            "min_match": self.how.min_match,
            "n_genes": match.n_columns,
            "n_matched": match.n_matched,
            "match_fraction": match.fraction,
            "n_cells": self.n_cells,
            "n_without_embedding": n_bad,
            **(of_files(source) if isinstance(source, SetOfFiles) else {}),
            **({"annotation_prefix": PREFIX} if self.columns else {}),
        }

    def told(self, columns: Sequence[str]) -> dict[str, Any]:
        """All cells as tasks take them that are no matter of single cells, with columns of their ``obs``.

        Genes that no cell has are told too: they were measured.

        Raises
        ------
        CellsError
            There is no such column, or a value is one that JSON cannot tell.
        """
        names = [columns] if isinstance(columns, str) else columns
        obs = {name: self.source.cell_column(name) for name in names}
        cells = [cell for block in self.source.blocks(grid(self.n_cells)) for cell in self._told(block, obs)]
        return {"cells": cells, "measured": [*dict.fromkeys(gene for gene in self.genes if gene != _STRANGE)]}

    def _told(self, block: CellBlock, obs: Mapping[str, NDArray[np.str_]]) -> Iterator[dict[str, Any]]:
        for piece in pieces(block, self.source.n_genes, self.most, zeros=False):
            found = piece.block
            names = self.source.cell_names(found.first_row, found.first_row + found.n_cells)
            for place, name in enumerate(names):
                row, span = found.first_row + place, slice(*found.indptr[place : place + 2].tolist())
                if row in piece.broken or not np.isfinite(found.data[span]).all():
                    reason = piece.broken.get(row, "a value is NaN or infinite")
                    raise CellsError(f"Cell {name!r} (row {row}) cannot be sent: {reason}. Leave it out.")
                yield {
                    "cell": name,
                    "genes": self.genes[found.indices[span]].tolist(),
                    "values": found.data[span].tolist(),
                    "obs": {column: str(values[row]) for column, values in obs.items()},
                }

    def _request(self, piece: Piece) -> Request:
        return request_of(piece.block, self.genes, self.question, self.model)

    def _asked(self, request: Request, piece: Piece) -> Steps[Part]:
        """The rows of a request; those of its halves, where it is too large for the server or a proxy before it."""
        one_of_many = piece.block.n_cells < self.n_cells
        try:
            reply = yield from answered(request, replace(self.terms.patience, heeds=one_of_many))
        except RefusedError as error:
            if error.status != _TOO_LARGE or piece.block.n_cells == 1:
                raise
            first, second = halves(piece)
            self.most.cells = min(self.most.cells, second.block.n_cells)
            above = yield from self._asked(self._request(first), first)
            below = yield from self._asked(self._request(second), second)
            return _joined(above, below)
        return self._part(reply, piece)

    def _part(self, reply: Reply, piece: Piece) -> Part:
        found = reply.headers.get("x-vector-id", self.model.vector_id)
        if found != self.model.vector_id:
            raise ModelExchangedError(
                f"The model {self.model.name} answers with vectors of the id {found}; those before have "
                f"{self.model.vector_id}, and cannot be compared. It was loaded anew on the way: ask again."
            )
        part, facts = part_of(reply, piece.block.first_row, self.question, self.model)
        if part.vectors.shape != (piece.block.n_cells, self.model.dim) or part.n_cells != piece.block.n_cells:
            raise ProtocolError(
                f"The answer has vectors of shape {part.vectors.shape} with {part.n_cells} reasons; expected "
                f"({piece.block.n_cells}, {self.model.dim}), a row for each cell that was sent."
            )
        self.facts.update(facts)
        return self._known_better(part, piece.broken)

    def _known_better(self, part: Part, broken: Mapping[int, str]) -> Part:
        """Cells of which the server saw no values, since they could not be read, have that for their reason."""
        unread = self.source.unread(part.first_row, part.stop) if isinstance(self.source, SetOfFiles) else {}
        if not unread and not broken:
            return part
        known = {**broken, **unread}
        reasons = [known.get(part.first_row + place, reason) for place, reason in enumerate(part.reasons)]
        return replace(part, reasons=tuple(reasons))


def begun(
    terms: Terms,
    how: ReadOptions,
    question: Question,
    source: CellSource,
    name: str | None,
    shelf: Shelf,
) -> Steps[Asking]:
    """Ask for the model, and for its vocabulary where that on the shelf is another.

    Raises
    ------
    RefusedError
        There is no such model.
    GenesError
        Too few genes are known to it.
    """
    model = yield from models.model(terms, name)
    known = yield from models.vocabulary(terms, model, shelf)
    return Asking.of(terms, how, question, model, known, source)


def _joined(above: Part, below: Part) -> Part:
    """Rows, and those below them."""
    columns = {name: np.concatenate([found, below.columns[name]]) for name, found in above.columns.items()}
    vectors = np.concatenate([above.vectors, below.vectors])
    return Part(above.first_row, vectors, above.reasons + below.reasons, columns)
