"""How the genes of a file fit the vocabulary: the record `GeneMatch`, its report, and the message when too few fit.

In: names and counts. Out: text for people. It decides no match, and knows nothing of files or gene tables.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["GeneMatch", "GeneMode", "explain", "listed", "too_few"]

GeneMode = Literal["exact", "alias"]
"""``exact``: vocabulary names and Ensembl ids. ``alias``: approved, previous and alias symbols too."""

MANY = 0.2
"""Share of the names that must show a pattern before it is named as the cause."""

LOOK_AT = 5000
"""Names looked at; enough for a share, and quick on any file."""

_SPECIES = {
    "BTA": "cow",
    "CAF": "dog",
    "DAR": "zebrafish",
    "GAL": "chicken",
    "MFA": "crab-eating macaque",
    "MMU": "rhesus macaque",
    "MUS": "mouse",
    "OCU": "rabbit",
    "PTR": "chimpanzee",
    "RNO": "rat",
    "SSC": "pig",
}
_FOREIGN_ID = re.compile(r"ENS([A-Z]{3,4}?)[GTP]\d{11}(?:\.\d+)?")
_HUMAN_PART = re.compile(r"ENS[TPE]\d{11}(?:\.\d+)?")
_ANY_CASE_ID = re.compile(r"ENSG\d{11}(?:\.\d+)?", re.IGNORECASE)
_ID_INSIDE = re.compile(r"ENSG\d{11}")
_NUMBER = re.compile(r"\d+(?:\.0)?")
_PEAK = re.compile(r"(?:chr)?[\dXYMT]{1,2}[:_-]\d+[-_]\d+|peak[_-]?\d+", re.IGNORECASE)
_PREFIX = re.compile(r"(GRCh\d+|hg\d+|human|hs)_+", re.IGNORECASE)
_ORTHOLOGUES = (
    "The model knows human genes: map the names to their human orthologues first, or use a model of that species."
)


@dataclass(frozen=True, slots=True)
class GeneMatch:
    """Which token each column of a file became, and how.

    Attributes
    ----------
    columns
        (n_columns,) int64 token id of each column, -1 for an unknown one.
    source
        Column of ``var`` that the names were read from, or ``index``.
    mode
        ``exact`` or ``alias``.
    n_exact, n_ensembl, n_alias
        Columns matched by vocabulary name, by Ensembl id, by alias.
    dropped
        Names that are the alias of a gene which the file also has under its own name or id; left out.
    alias_would_add
        Columns that ``alias`` would match on top; 0 in that mode.
    examples_unknown
        The first few names that matched nothing.
    """

    columns: NDArray[np.int64]
    source: str
    mode: GeneMode
    n_exact: int
    n_ensembl: int
    n_alias: int
    dropped: tuple[str, ...] = ()
    alias_would_add: int = 0
    examples_unknown: tuple[str, ...] = ()

    @property
    def n_columns(self) -> int:
        """Columns of the file."""
        return len(self.columns)

    @property
    def n_matched(self) -> int:
        """Columns that became a token."""
        return self.n_exact + self.n_ensembl + self.n_alias

    @property
    def fraction(self) -> float:
        """Share of the columns that became a token."""
        return self.n_matched / self.n_columns if self.n_columns else 0.0

    def report(self) -> str:
        """Say in a few lines what matched, how, and what did not."""
        ways = {"by name": self.n_exact, "by Ensembl id": self.n_ensembl, "by alias": self.n_alias}
        how = ", ".join(f"{count:,} {way}" for way, count in ways.items() if count)
        lines = [
            f"{self.n_matched:,} of {self.n_columns:,} genes are known to the model ({self.fraction:.1%})"
            + (f": {how}" if how else "")
            + (f"; names from {_place(self.source)}" if self.source else "")
        ]
        if self.alias_would_add:
            lines.append(f"--genes alias would find {self.alias_would_add:,} more")
        if self.dropped:
            lines.append(f"left out, as the gene is there under its own name: {listed(self.dropped, 20)}")
        if self.examples_unknown:
            lines.append(f"not known, for example: {', '.join(self.examples_unknown)}")
        return "\n".join(lines)


def too_few(
    best: GeneMatch, names: Sequence[str], index: Mapping[str, int], needed: int, looked_at: Sequence[str]
) -> str:
    """Say what was found, what was expected and what to do, when too few genes are known.

    Parameters
    ----------
    best
        The best match there was.
    names
        The names that it was made from.
    index
        Gene names of the vocabulary, special tokens left out.
    needed
        Columns that had to match.
    looked_at
        Columns of ``var`` that were tried.
    """
    others = [name for name in looked_at if name != best.source]
    advice = ["name another column of var with --gene-col"]
    if best.alias_would_add:
        advice.append(f"--genes alias would find {best.alias_would_add:,} more")
    advice.append("a lower --min-match lets the file pass as it is")
    sentences = [
        f"{best.n_matched:,} of {best.n_columns:,} genes in {_place(best.source)} are known to the model "
        f"({best.fraction:.1%}); at least {needed:,} are needed.",
        f"The file's names: {', '.join(repr(str(name)) for name in islice(names, 5)) or 'none'}.",
        f"The model's: {', '.join(repr(name) for name in islice(index, 5)) or 'none'}.",
        explain(names, index),
        f"Also looked at, with no better match: {', '.join(map(_place, others))}." if others else "",
        f"What to do: {'; '.join(advice)}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _place(source: str) -> str:
    return "the index of var" if source == "index" else f"var[{source!r}]"


def listed(names: Sequence[str], most: int) -> str:
    """Join names with commas, and count those beyond the first `most`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def explain(names: Sequence[object], index: Mapping[str, int]) -> str:
    """Say what the names look like, where that explains why so few of them are known.

    Parameters
    ----------
    names
        Gene names of a file, in column order.
    index
        Names of the vocabulary.

    Returns
    -------
    One or two sentences, empty where nothing is recognised.
    """
    looked_at = [str(name) for name in islice(names, LOOK_AT)]
    if not looked_at:
        return ""
    for hint in _HINTS:
        sentence = hint(looked_at, index)
        if sentence:
            return sentence
    return ""


def _share(names: Sequence[str], holds: Callable[[str], object]) -> float:
    return sum(1 for name in names if holds(name)) / len(names)


def _other_species_id(names: Sequence[str], index: Mapping[str, int]) -> str:
    codes = [found[1] for name in names if (found := _FOREIGN_ID.fullmatch(name))]
    if len(codes) < MANY * len(names):
        return ""
    code = max(set(codes), key=codes.count)
    species = _SPECIES.get(code, f"another species (ENS{code})")
    example = next(name for name in names if _FOREIGN_ID.fullmatch(name))
    return f"Names such as {example!r} are Ensembl ids of {species}. {_ORTHOLOGUES}"


def _not_gene_id(names: Sequence[str], index: Mapping[str, int]) -> str:
    if _share(names, _HUMAN_PART.fullmatch) < MANY:
        return ""
    return "These are Ensembl ids of transcripts, proteins or exons: sum them to genes (ENSG...) first."


def _mouse_symbol(names: Sequence[str], index: Mapping[str, int]) -> str:
    def mouse(name: str) -> bool:
        title = name[:1].isupper() and name[1:] != name[1:].upper()
        return (title or name.startswith("mt-")) and name not in index and name.upper() in index

    if _share(names, mouse) < MANY:
        return ""
    return f"These look like mouse (or rat) gene symbols, such as Actb for human ACTB. {_ORTHOLOGUES}"


def _other_case(names: Sequence[str], index: Mapping[str, int]) -> str:
    if _share(names, lambda name: name not in index and name.upper() in index) >= MANY:
        return "They fit when written in capitals: gene names are case-sensitive. Rewrite them, if the genes are human."
    if _share(names, lambda name: name[:4] != "ENSG" and _ANY_CASE_ID.fullmatch(name)) >= MANY:
        return "These are Ensembl ids in small letters; write them in capitals (ENSG...)."
    return ""


def _spaces(names: Sequence[str], index: Mapping[str, int]) -> str:
    if _share(names, lambda name: name != name.strip() and name.strip() in index) < MANY:
        return ""
    return "They fit without the spaces around them; strip them in the file."


def _prefixed(names: Sequence[str], index: Mapping[str, int]) -> str:
    prefixed = [name for name in names if _PREFIX.match(name)]
    if len(prefixed) < MANY * len(names):
        return ""
    return f"They carry the name of a genome in front, as in {prefixed[0]!r}; take it off in the file."


def _id_inside(names: Sequence[str], index: Mapping[str, int]) -> str:
    if _share(names, lambda name: _ID_INSIDE.search(name) and not _ANY_CASE_ID.fullmatch(name)) < MANY:
        return ""
    return "They hold an Ensembl id together with other text; keep the id, or the symbol, alone."


def _no_names(names: Sequence[str], index: Mapping[str, int]) -> str:
    if _share(names, _PEAK.fullmatch) >= MANY:
        return "These are peaks, as in ATAC data, not genes."
    if _share(names, _NUMBER.fullmatch) >= MANY:
        return "These are numbers, not names: is there another column of var with the symbols or Ensembl ids?"
    return ""


_HINTS: tuple[Callable[[Sequence[str], Mapping[str, int]], str], ...] = (
    _other_species_id,
    _not_gene_id,
    _mouse_symbol,
    _other_case,
    _spaces,
    _prefixed,
    _id_inside,
    _no_names,
)
