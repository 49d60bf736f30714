"""Genes of requests -> token ids: `GeneTable`, made once for a model.

In: names or Ensembl ids, as texts or as bytes of a request. Out: one token id each, -1 for an unknown gene, as
`scgpt_runtime.vocab.match` finds them for the columns of a file. It knows no request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server import kernels
from scgpt_runtime.vocab import GeneMode, Vocabulary, is_special, stable_id

__all__ = ["GeneTable"]

Tokens = NDArray[np.int32]

_SLOTS = 2  # of a name, at the least: a search that fails looks at little more than one
_LINE = 64  # bytes that memory gives at a time


@dataclass(frozen=True, slots=True)
class GeneTable:
    """All names that lead to a gene of a model.

    Attributes
    ----------
    table
        The names, for `scgpt_infer.server.kernels`.
    n_tokens
        Size of the vocabulary.
    mode
        ``exact``: vocabulary names and Ensembl ids, with or without a version; ``alias``: aliases too.
    """

    table: kernels.Table
    n_tokens: int
    mode: GeneMode

    @classmethod
    def of(cls, vocabulary: Vocabulary, mode: GeneMode = "exact") -> Self:
        """The table of a vocabulary.

        Parameters
        ----------
        vocabulary
            Of the model.
        mode
            ``exact`` or ``alias``.
        """
        # In the order in which `match` tries them: of equal names the first one counts.
        names = {name: token for name, token in vocabulary.index.items() if not is_special(name)}
        ids = {name: token for name, token in vocabulary.ensembl.items() if stable_id(name) == name}
        aliases = {name: kernels.ALIAS - token for name, token in vocabulary.aliases.items() if mode == "alias"}
        tokens = {**aliases, **ids, **names}
        overruled = {stable_id(name) for name, token in names.items() if tokens.get(stable_id(name), token) != token}
        tokens |= {name: kernels.OVERRULED + tokens[name] for name in overruled if tokens[name] >= 0}
        return cls(_filled(tokens), len(vocabulary), mode)

    def tokens_of(self, names: Sequence[str]) -> Tokens:
        """(n,) int32 the token of each name."""
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(name) for name in encoded], out=offsets[1:])
        return self.tokens_at(b"".join(encoded), offsets)

    def tokens_at(self, text: Any, offsets: NDArray[Any]) -> Tokens:
        """(n,) int32 the token of each name of bytes; ``offsets`` (n + 1,) int32 or int64 are their borders in it."""
        tokens = np.empty(len(offsets) - 1, np.int32)
        places = offsets.astype(np.int64)  # one type: each is compiled
        kernels.find_at_offsets(kernels.padded(text), places, self.table, tokens)
        return tokens

    def tokens_of_prefixed(self, data: bytes | memoryview, n: int) -> Tokens:
        """(n,) int32 the token of each of n names with their lengths in front, four bytes, the lowest first.

        As ``BYTES`` tensors of the Open Inference Protocol lie in a body.

        Raises
        ------
        ValueError
            There are not n names. The message says what was found.
        """
        tokens = np.empty(n, np.int32)
        found = kernels.find_prefixed(kernels.padded(data), self.table, tokens)
        if found == kernels.BROKEN:
            raise ValueError("ends inside of a name")
        if found == kernels.MANY:
            raise ValueError(f"has more than {n:,} names")
        if found < n:
            raise ValueError(f"has {found:,} names")
        return tokens

    def settled(self, indptr: NDArray[np.int64], tokens: Tokens) -> Tokens:
        """The tokens of all genes of cells.

        A gene that an alias leads to is left out of a cell that has the gene under its own name or id, as it is left
        out of a file that has.

        Parameters
        ----------
        indptr
            (n_cells + 1,) borders of the cells.
        tokens
            (n_values,) as the other functions give them; changed in place.
        """
        if self.mode == "alias":
            kernels.settle_aliases(indptr, tokens, np.zeros(self.n_tokens, np.int64))
        return tokens


def _filled(tokens: dict[str, int]) -> kernels.Table:
    encoded = [name.encode("utf-8", "surrogatepass") for name in tokens]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(name) for name in encoded], out=starts[1:])
    table = kernels.Table(
        _empty(1 << (_SLOTS * len(encoded)).bit_length()),
        starts,
        kernels.padded(b"".join(encoded)),
        np.fromiter(tokens.values(), np.int32, len(tokens)),
    )
    kernels.fill(table)
    return table


def _empty(n_slots: int) -> NDArray[np.uint64]:
    """Slots none of which lies across two lines."""
    words = np.zeros(4 * n_slots + _LINE // 8, np.uint64)
    skipped = -words.ctypes.data % _LINE // 8
    return words[skipped : skipped + 4 * n_slots].reshape(n_slots, 4)
