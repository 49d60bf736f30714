"""Gene name or Ensembl id -> token id, with a report of what matched.

In: the names of a file's columns and a bundle's vocabulary. Out: `GeneMatch`, one token id or -1 a column.
What a name maps to depends on the name and the vocabulary alone. It knows nothing of files or gene tables:
those were resolved for this vocabulary when the bundle was made.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import BundleError, BundleTooNewError, GenesError, OptionError
from scgpt_runtime.genematch import GeneMatch, GeneMode, listed, too_few

__all__ = [
    "CANDIDATES",
    "MIN_MATCH",
    "GeneMatch",
    "GeneMode",
    "Vocabulary",
    "choose",
    "is_special",
    "match",
    "stable_id",
    "taking_part",
]

FORMAT = 1
"""Newest format of ``vocab.json`` that is read, and the one that is written."""

CANDIDATES = ("feature_name", "gene_symbols", "gene_name", "gene_ids", "index")
"""Where gene names are looked for, in the order that decides between equally good ones."""

MIN_MATCH = 0.1
"""Default share of a file's columns that must be known.

Human files reach 0.5 (every gene of GENCODE) to 1, genes beside 200,000 peaks still 0.12; mouse symbols reach 0.001.
"""

FEW = 5
"""Genes that must be known in any case; half of the columns where a file has fewer than ten."""

_STABLE_ID = re.compile(r"(ENS[A-Z]{0,5}G[0-9]{11})(?:\.[0-9]+)?")


def is_special(token: str) -> bool:
    """Whether a token stands for no gene, such as ``<pad>``, ``<cls>`` and ``<eoc>``."""
    return token.startswith("<") and token.endswith(">")


def stable_id(name: object) -> str:
    """Ensembl gene id without its version, or an empty string where the name is none.

    ``ENSG00000182378.15_PAR_Y`` is none: the copy on chromosome Y is no column of the data that scGPT saw.
    """
    found = _STABLE_ID.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names of the tokens, and what else leads to them.

    Attributes
    ----------
    tokens
        Names by token id, special tokens included.
    ensembl
        Ensembl gene id without version to token id.
    aliases
        Approved, previous or alias symbol that exactly one gene of the vocabulary answers to, to token id.
    versions
        Version of the gene tables behind `ensembl` and `aliases`, by source.
    index
        Name to token id.

    Raises
    ------
    GenesError
        If a name stands in `tokens` twice.
    """

    tokens: tuple[str, ...]
    ensembl: dict[str, int] = field(default_factory=dict, repr=False)
    aliases: dict[str, int] = field(default_factory=dict, repr=False)
    versions: dict[str, str] = field(default_factory=dict)
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {name: token for token, name in enumerate(self.tokens)}
        if len(index) != len(self.tokens):
            twice = next(name for token, name in enumerate(self.tokens) if index[name] != token)
            raise GenesError(f"The vocabulary names {twice!r} twice; each token needs a name of its own.")
        object.__setattr__(self, "index", index)

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Vocabulary":
        """Read the ``vocab.json`` of a bundle.

        Raises
        ------
        BundleError
            If the text is not such a file; `BundleTooNewError` if its format is newer.
        """
        try:
            fields = json.loads(text)
            number = fields["format"]
            if not isinstance(number, int):
                raise ValueError("its format is no number")
            if number > FORMAT:
                raise BundleTooNewError(
                    f"vocab.json has format {number}; this runtime reads up to {FORMAT}. Update scgpt-infer."
                )
            vocabulary = cls(
                tokens=tuple(_strings(fields["tokens"])),
                ensembl=dict(fields["ensembl"]),
                aliases=dict(fields["aliases"]),
                versions=dict(fields["versions"]),
            )
            _check_ids(vocabulary)
        except (KeyError, TypeError, ValueError, GenesError) as error:
            raise BundleError(f"vocab.json of the bundle cannot be read ({error}). Export the model again.") from error
        return vocabulary

    def to_json(self) -> str:
        """Write the text that `from_json` reads; the same vocabulary gives the same bytes."""
        fields = {
            "format": FORMAT,
            "versions": dict(sorted(self.versions.items())),
            "tokens": self.tokens,
            "ensembl": dict(sorted(self.ensembl.items())),
            "aliases": dict(sorted(self.aliases.items())),
        }
        return json.dumps(fields, separators=(",", ":")) + "\n"


def taking_part(vocabulary: Vocabulary, genes: Sequence[str] = ()) -> NDArray[np.bool_]:
    """(n_tokens,) whether a token may stand for a gene of a cell.

    Parameters
    ----------
    vocabulary
        Of the model.
    genes
        Genes that binning saw when the model was fine-tuned; empty: all genes. A name that is unknown counts for
        nothing.
    """
    index = vocabulary.index
    wanted = [index[name] for name in genes or vocabulary.tokens if name in index and not is_special(name)]
    among = np.zeros(len(vocabulary), bool)
    among[wanted] = True
    return among


def _strings(values: list[Any]) -> list[str]:
    if not isinstance(values, list) or not all(map(isinstance, values, repeat(str))):
        raise ValueError("tokens are not a list of names")
    return values


def _check_ids(vocabulary: Vocabulary) -> None:
    for table in (vocabulary.ensembl, vocabulary.aliases):
        if not all(map(isinstance, table.values(), repeat(int))):
            raise ValueError("a token id is no integer")
        if table and not (min(table.values()) >= 0 and max(table.values()) < len(vocabulary)):
            raise ValueError("a token id lies outside the vocabulary")


def match(names: Sequence[str], vocabulary: Vocabulary, mode: GeneMode = "exact", source: str = "") -> GeneMatch:
    """Find the token of each name: vocabulary name, then Ensembl id, then (with ``alias``) alias.

    Parameters
    ----------
    names
        Gene name of each column. Case and spaces count.
    vocabulary
        Vocabulary of the model.
    mode
        ``exact`` or ``alias``.
    source
        Where the names come from, for the report.

    Raises
    ------
    OptionError
        If `mode` is neither of the two.
    """
    if mode not in ("exact", "alias"):
        raise OptionError(f"genes={mode!r} is not known; use 'exact' or 'alias'.")
    names = list(names)
    columns = np.fromiter(map(vocabulary.index.get, names, repeat(-1)), np.int64, len(names))
    special = [token for token, name in enumerate(vocabulary.tokens) if is_special(name)]
    columns[np.isin(columns, special)] = -1
    n_exact = int(np.count_nonzero(columns >= 0))
    rest = _resolve_ids(names, columns, vocabulary)
    n_direct = int(np.count_nonzero(columns >= 0))
    by_alias, dropped = _aliased(names, columns, rest, vocabulary)
    unknown = [i for i in rest if i not in by_alias]
    if mode == "alias":
        columns[list(by_alias)] = list(by_alias.values())
        gone = {names[i] for i in dropped}
        unknown = [i for i in unknown if names[i] not in gone]
    return GeneMatch(
        columns=columns,
        source=source,
        mode=mode,
        n_exact=n_exact,
        n_ensembl=n_direct - n_exact,
        n_alias=len(by_alias) if mode == "alias" else 0,
        dropped=tuple(str(names[i]) for i in dropped) if mode == "alias" else (),
        alias_would_add=0 if mode == "alias" else len(by_alias),
        examples_unknown=tuple(str(names[i]) for i in islice(unknown, 5)),
    )


def _resolve_ids(names: Sequence[str], columns: NDArray[np.int64], vocabulary: Vocabulary) -> list[int]:
    """Fill in the columns named by Ensembl id; give back those that are still unknown."""
    rest = []
    for i in np.flatnonzero(columns < 0).tolist():
        gene = stable_id(names[i])
        # A vocabulary may hold bare ids: the id with a version then leads where the id without one does.
        token = vocabulary.index.get(gene, vocabulary.ensembl.get(gene, -1)) if gene else -1
        columns[i] = token
        if token < 0:
            rest.append(i)
    return rest


def _aliased(
    names: Sequence[str], columns: NDArray[np.int64], rest: list[int], vocabulary: Vocabulary
) -> tuple[dict[int, int], list[int]]:
    """Columns to token by alias, and the columns to drop because their gene is there already."""
    there = np.zeros(len(vocabulary), bool)
    there[columns[columns >= 0]] = True
    by_alias, dropped = {}, []
    for i in rest:
        token = vocabulary.aliases.get(names[i], -1)
        if token >= 0 and there[token]:
            dropped.append(i)
        elif token >= 0:
            by_alias[i] = token
    return by_alias, dropped


def choose(
    candidates: Mapping[str, Sequence[str]],
    vocabulary: Vocabulary,
    mode: GeneMode = "exact",
    gene_col: str | None = None,
    min_match: float = MIN_MATCH,
) -> GeneMatch:
    """Match the column of names that was asked for, else the one of `CANDIDATES` that matches most columns.

    Parameters
    ----------
    candidates
        Name of a column of ``var``, or ``index``, to the gene names in it.
    vocabulary
        Vocabulary of the model.
    mode
        ``exact`` or ``alias``.
    gene_col
        The column to use; None for the best.
    min_match
        Share, 0 to 1, of the file's columns (or of the vocabulary, where it is the smaller) that must be known; 0 asks
        for one known gene only.

    Raises
    ------
    GenesError
        If there is no such column, or fewer genes are known than asked for.
    OptionError
        If `min_match` or `mode` cannot be used.
    """
    if not 0 <= min_match <= 1:
        raise OptionError(f"--min-match is {min_match}; it is a share of the genes, from 0 to 1.")
    if gene_col is not None and gene_col not in candidates:
        there = listed([repr(name) for name in candidates], 20)
        raise GenesError(f"There is no gene column {gene_col!r}. There are: {there}. Name one of them with --gene-col.")
    sources = [gene_col] if gene_col is not None else [name for name in CANDIDATES if name in candidates]
    if not sources:
        raise GenesError(f"No gene names: none of {', '.join(CANDIDATES)} is there. Name one with --gene-col.")
    found = [match(candidates[name], vocabulary, mode, name) for name in sources]
    best = max(found, key=lambda matched: matched.n_matched)
    needed = _needed(min(best.n_columns, len(vocabulary)), min_match)
    if best.n_matched < needed:
        genes = {name: token for name, token in vocabulary.index.items() if not is_special(name)}
        raise GenesError(too_few(best, candidates[best.source], genes, needed, sources))
    return best


def _needed(findable: int, min_match: float) -> int:
    """Columns that must be known, of those that could be: a small vocabulary cannot know most of a large file."""
    if min_match == 0:
        return 1
    return max(1, math.ceil(min_match * findable), min(FEW, findable // 2))
