"""Gene tables -> the `Vocabulary` of a model: which Ensembl ids and other symbols lead to its tokens.

In: the token names of a checkpoint, and the GENCODE and HGNC tables that ship as package data (made by
``scripts/build_gene_table.py``). Out: everything resolved for these tokens, so that a bundle needs no table.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from scgpt_runtime.vocab import Vocabulary, is_special, stable_id

__all__ = ["build_vocabulary", "census_tokens"]

SPECIAL_TOKENS = ("<pad>", "<cls>", "<eoc>")


@dataclass(frozen=True, slots=True)
class Gene:
    """One gene and the symbols that have meant it.

    Attributes
    ----------
    identifier
        Ensembl gene id, empty for none.
    official
        GENCODE 44 name, GENCODE 48 name, HGNC approved symbol: those there are, in this order, each once.
    previous, alias
        HGNC's previous and alias symbols.
    """

    identifier: str
    official: tuple[str, ...]
    previous: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()


def census_tokens() -> list[str]:
    """Names of scGPT's whole-human vocabulary by id: 60,694 genes, then ``<pad>``, ``<cls>`` and ``<eoc>``."""
    return [*_lines("census.txt.gz"), *SPECIAL_TOKENS]


def build_vocabulary(tokens: Sequence[str]) -> Vocabulary:
    """Resolve Ensembl ids and aliases for the tokens of a model.

    Parameters
    ----------
    tokens
        Names by token id, special tokens included.

    Raises
    ------
    GenesError
        If a name stands in `tokens` twice.
    """
    names = tuple(tokens)
    genes_by_name = {name: token for token, name in enumerate(names) if not is_special(name)}
    return Vocabulary(
        tokens=names,
        ensembl=_resolve_ids(genes_by_name),
        aliases=_resolve_aliases(genes_by_name),
        versions=_versions(),
    )


def _resolve_ids(tokens: dict[str, int]) -> dict[str, int]:
    """Ensembl id to the first of the gene's official names that is a token; ids that are tokens need no entry."""
    ensembl: dict[str, int] = {}
    for gene in _genes():
        known = [tokens[name] for name in gene.official if name in tokens]
        if known and gene.identifier and gene.identifier not in tokens:
            ensembl.setdefault(gene.identifier, known[0])
    return _versioned_tokens(tokens) | ensembl


def _versioned_tokens(tokens: dict[str, int]) -> dict[str, int]:
    """Id to a token such as ENSG00000275493.2, which stands for every version of it; the newest where there are two."""
    newest: dict[str, tuple[int, int]] = {}
    for name, token in tokens.items():
        identifier = stable_id(name)
        if identifier and identifier != name and identifier not in tokens:
            version = int(name.removeprefix(identifier + "."))
            newest[identifier] = max(newest.get(identifier, (-1, -1)), (version, token))
    return {identifier: token for identifier, (_, token) in newest.items()}


def _resolve_aliases(tokens: dict[str, int]) -> dict[str, int]:
    """Symbol, itself no token, to the one token whose gene answers to it."""
    answers: dict[str, set[str]] = defaultdict(set)
    owners: dict[str, set[str]] = defaultdict(set)  # the answers of genes that have the symbol as official name
    official = _official()
    for gene in _genes():
        own = _tokens_of(gene, tokens, official)
        if not own:
            continue
        for symbol in (*gene.official, *gene.previous, *gene.alias):
            answers[symbol].update(own)
        for symbol in gene.official:
            owners[symbol].update(own)
    aliases = {}
    for symbol, found in answers.items():
        # The official name of one gene is no alias of another, even where the one has no token.
        if len(found) == 1 and symbol not in tokens and (symbol not in official or owners[symbol] == found):
            aliases[symbol] = tokens[next(iter(found))]
    return aliases


def _tokens_of(gene: Gene, tokens: dict[str, int], official: frozenset[str]) -> set[str]:
    """Token that is the gene: its official name; failing that, a previous symbol; failing that, an alias.

    A name that is official for another gene is that gene's token, not this one's.
    """
    if own := {name for name in gene.official if name in tokens}:
        return own
    for symbols in (gene.previous, gene.alias):
        if own := {name for name in symbols if name in tokens and name not in official}:
            return own
    return own


@cache
def _official() -> frozenset[str]:
    """Every name that is official for a gene."""
    return frozenset(name for gene in _genes() for name in gene.official)


@cache
def _genes() -> tuple[Gene, ...]:
    """Every gene of the tables: those of HGNC with their Ensembl id, then the ids that HGNC does not have."""
    gencode: dict[str, tuple[str, list[str]]] = {}  # HGNC symbol -> Ensembl id, its GENCODE names
    without = []
    for line in _lines("genes.tsv.gz"):
        identifier, old, new, approved = line.split("\t")
        names = [name for name in (old, new) if name]
        for symbol in _split(approved):
            gencode[symbol] = (identifier, names)
        if not approved:
            without.append(Gene(identifier, _once(names)))
    genes = []
    for line in _lines("symbols.tsv.gz"):
        symbol, previous, alias = line.split("\t")
        identifier, names = gencode.get(symbol, ("", []))
        genes.append(Gene(identifier, _once([*names, symbol]), _split(previous), _split(alias)))
    return (*genes, *without)


def _versions() -> dict[str, str]:
    sources = json.loads((files("scgpt_export") / "data" / "sources.json").read_text(encoding="utf-8"))
    versions: dict[str, list[str]] = defaultdict(list)
    for source in sources.values():
        versions[source["name"]].append(source["version"])
    return {name: ", ".join(found) for name, found in versions.items() if name != "scGPT"}


def _lines(file: str) -> Iterator[str]:
    packed = (files("scgpt_export") / "data" / file).read_bytes()
    return iter(gzip.decompress(packed).decode("utf-8").removesuffix("\n").split("\n"))


def _split(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("|")) if joined else ()


def _once(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
