"""Features whose values are to be predicted: names -> tokens of a model of several modalities, `Asked`.

In: names, and the model's vocabulary and modalities. Out: token ids by modality. It opens nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.multiomics.matching import own_vocabulary
from scgpt_infer.writers.sink import Table
from scgpt_runtime.errors import GenesError
from scgpt_runtime.modalities import Modalities
from scgpt_runtime.vocab import GeneMode, Vocabulary, match

__all__ = ["Asked", "asked_features"]

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """Tokens whose values are wanted, modality by modality.

    Attributes
    ----------
    ids
        (n_asked,) int64.
    features
        Modality to the names of its features, as the model has them without their prefix, in the order of `ids`.
    """

    ids: NDArray[np.int64]
    features: dict[str, tuple[str, ...]]

    def spans(self) -> dict[str, slice]:
        """Modality to where its features are among `ids`."""
        ends = np.cumsum([0, *(len(names) for names in self.features.values())]).tolist()
        return {name: slice(ends[place], ends[place + 1]) for place, name in enumerate(self.features)}

    def tables(self, nonzero: bool) -> tuple[Table, ...]:
        """The tables that hold the answers."""
        found = []
        for name, features in self.features.items():
            found.append(Table(name, "predicted", len(features), features))
            if nonzero:
                found.append(Table(name, "nonzero", len(features), features))
        return tuple(found)


def asked_features(
    words: Sequence[str], vocabulary: Vocabulary, modalities: Modalities, mode: GeneMode = "exact"
) -> Asked:
    """Find the features that are asked for.

    Parameters
    ----------
    words
        Names of modalities, of features, or ``MODALITY:FEATURE``.
    vocabulary, modalities
        Of the model.
    mode
        How names of features are matched.

    Raises
    ------
    GenesError
        A name is not known, or is that of features of several modalities; the message names the modalities.
    """
    known = {
        name: own_vocabulary(vocabulary, modalities.tokens_of(name), modalities.prefixes.get(name, ""))
        for name in modalities.measured
    }
    places: dict[str, dict[int, None]] = {name: {} for name in known}
    unknown = []
    for word in words:
        if word in known:
            places[word] |= dict.fromkeys(range(len(known[word])))
            continue
        found = _found(word, known, modalities, mode)
        if len(found) > 1:
            raise GenesError(
                f"{word!r} is a feature of {' and of '.join(found)}. Put the modality before it, as in "
                f"{next(iter(found))}:{word}."
            )
        if not found:
            unknown.append(word)
        for name, place in found.items():
            places[name][place] = None
    if unknown:
        more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
        raise GenesError(
            f"The model knows no feature {', '.join(unknown[:SHOWN])}{more}; its modalities are "
            f"{', '.join(f'{name} ({len(own):,}, such as {own.tokens[0]})' for name, own in known.items())}."
        )
    ids = [modalities.tokens_of(name)[list(found)] for name, found in places.items() if found]
    features = {name: tuple(known[name].tokens[place] for place in found) for name, found in places.items() if found}
    return Asked(np.concatenate([np.empty(0, np.int64), *ids]), features)


def _found(word: str, known: dict[str, Vocabulary], modalities: Modalities, mode: GeneMode) -> dict[str, int]:
    """Modality to the place of the feature among its own."""
    head, colon, rest = word.partition(":")
    among = {head: known[head]} if colon and head in known else known
    found = {}
    for name, own in among.items():
        bare = (rest if head in known and colon else word).removeprefix(modalities.prefixes.get(name, ""))
        place = int(match([bare], own, mode).columns[0])
        if place >= 0:
            found[name] = place
    return found
