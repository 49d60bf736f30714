"""Features of the cells -> tokens, each modality among the tokens of its own: `match_features`.

In: joined cells, and a model's vocabulary and modalities. Out: `Matched`. It reads names and no values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers.joined import JoinedCells
from scgpt_runtime.errors import GenesError
from scgpt_runtime.genematch import GeneMatch
from scgpt_runtime.modalities import Modalities
from scgpt_runtime.vocab import Vocabulary, choose

__all__ = ["Matched", "match_features", "own_vocabulary"]


@dataclass(frozen=True, slots=True)
class Matched:
    """Which token each column of the cells became.

    Attributes
    ----------
    pairs
        Modality of the model to what the cells call it.
    by
        Modality of the model to how its features were matched; ids are the model's.
    columns
        (n_columns,) int64 token id of each column of all modalities, -1 for none.
    of_column
        (n_columns,) modality of the model that each column was read as; empty text for none.
    """

    pairs: Mapping[str, str]
    by: Mapping[str, GeneMatch]
    columns: NDArray[np.int64]
    of_column: NDArray[np.str_]

    @property
    def whole(self) -> GeneMatch:
        """All modalities as one match, for what is told of a run."""
        found = list(self.by.values())
        return GeneMatch(
            columns=self.columns,
            source=", ".join(f"{name}: {match.source}" for name, match in self.by.items()),
            mode=found[0].mode,
            n_exact=sum(match.n_exact for match in found),
            n_ensembl=sum(match.n_ensembl for match in found),
            n_alias=sum(match.n_alias for match in found),
            examples_unknown=found[0].examples_unknown,
        )

    def only(self, modality: str) -> NDArray[np.int64]:
        """`columns` without those of other modalities."""
        return np.where(self.of_column == modality, self.columns, -1)


def match_features(
    source: JoinedCells,
    pairs: Mapping[str, str],
    vocabulary: Vocabulary,
    modalities: Modalities,
    options: EmbedOptions,
) -> Matched:
    """Find the token of each feature.

    A name is looked for among the tokens of its modality alone, with and without the prefix that they have there.

    Parameters
    ----------
    source
        Open, with the modalities of `pairs` read.
    pairs
        From `scgpt_infer.multiomics.naming.paired`.
    vocabulary, modalities
        Of the model.
    options
        How names are matched: ``genes``, ``gene_col`` and ``min_match``, for each modality.

    Raises
    ------
    GenesError
        Too few features of a modality are known.
    """
    there = {features.name: features for features in source.modalities}
    columns = np.full(source.n_genes, -1, np.int64)
    of_column = np.full(source.n_genes, "", f"U{max(map(len, pairs))}")
    by = {}
    for name, theirs in pairs.items():
        features, ids = there[theirs], modalities.tokens_of(name)
        prefix = modalities.prefixes.get(name, "")
        known = own_vocabulary(vocabulary, ids, prefix)
        candidates = {column: _bare(names, prefix) for column, names in features.names.items()}
        column = options.gene_col if options.gene_col in candidates else None
        try:
            match = choose(candidates, known, options.genes, column, options.min_match)
        except GenesError as error:
            raise GenesError(
                f"{theirs} of the cells does not fit {name} of the model: {error} Or it is another modality: say which "
                "is which with --map."
            ) from error
        columns[features.columns] = np.where(match.columns >= 0, ids[match.columns], -1)
        of_column[features.columns] = name
        by[name] = replace(match, columns=columns[features.columns])
    return Matched(pairs, by, columns, of_column)


def own_vocabulary(vocabulary: Vocabulary, ids: NDArray[np.int64], prefix: str) -> Vocabulary:
    """The tokens of one modality, without their prefix; numbered by their place in `ids`."""
    place = {token: number for number, token in enumerate(ids.tolist())}

    def own(table: Mapping[str, int]) -> dict[str, int]:
        return {name: place[token] for name, token in table.items() if token in place}

    names = [vocabulary.tokens[token] for token in ids.tolist()]
    bare = [name.removeprefix(prefix) for name in names]
    unique = len(set(bare)) == len(bare)
    return Vocabulary(tuple(bare if unique else names), own(vocabulary.ensembl), own(vocabulary.aliases))


def _bare(names: Sequence[str], prefix: str) -> Sequence[str]:
    return [name.removeprefix(prefix) for name in names] if prefix else names
