"""Which modality each token of a multi-omic model is of: `Modalities`, to and from the ``modalities.json`` of a bundle.

In: JSON, and the number of tokens. Out: names and one number a token. It knows nothing of cells, graphs or weights.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import BundleError, BundleTooNewError, OptionError
from scgpt_runtime.vocab import is_special

__all__ = ["MOST", "Modalities"]

FORMAT = 1
"""Newest format of ``modalities.json`` that is read, and the one that is written."""

MOST = 256
"""Most modalities, special ones counted: a graph takes their numbers as uint8."""


@dataclass(frozen=True, slots=True)
class Modalities:
    """The modalities of a model and of its tokens.

    Attributes
    ----------
    names
        By number, as the model was trained, special ones such as ``<cls>`` included.
    of_tokens
        (n_tokens,) uint8 number of each token's modality; special tokens have special ones. ``of_tokens[ids]`` is what
        a graph takes as ``mods``.
    prefixes
        Modality to what the names of its tokens begin with in the vocabulary, such as ``p_`` for proteins. Modalities
        whose tokens have no prefix are not in it.
    """

    names: tuple[str, ...]
    of_tokens: NDArray[np.uint8]
    prefixes: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the modalities that cells are measured in: all but the special ones."""
        return tuple(name for name in self.names if not is_special(name))

    @property
    def digest(self) -> str:
        """sha256 of what can change an answer: the names in order, and the modality of each token."""
        found = hashlib.sha256(json.dumps(self.names).encode())
        found.update(np.ascontiguousarray(self.of_tokens).data)
        return found.hexdigest()

    def number(self, name: str) -> int:
        """Number of a modality.

        Raises
        ------
        OptionError
            The model does not have it; the message names those it has.
        """
        if name not in self.names:
            raise OptionError(
                f"The model knows no modality {name!r}; it has {', '.join(self.measured)}. Name one of these."
            )
        return self.names.index(name)

    def tokens_of(self, name: str) -> NDArray[np.int64]:
        """(n,) ids of the tokens of a modality, rising; errors as for `number`."""
        return np.flatnonzero(self.of_tokens == self.number(name))

    def to_json(self) -> str:
        """Text that `from_json` reads; the same modalities give the same bytes."""
        fields = {
            "format": FORMAT,
            "names": self.names,
            "prefixes": dict(sorted(self.prefixes.items())),
            "of_tokens": self.of_tokens.tolist(),
        }
        return json.dumps(fields, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, n_tokens: int) -> Self:
        """Read the ``modalities.json`` of a bundle.

        Parameters
        ----------
        text
            Of the file.
        n_tokens
            Size of the vocabulary.

        Raises
        ------
        BundleError
            It is not such a file, or not of this vocabulary; `BundleTooNewError` if its format is newer.
        """
        try:
            fields = json.loads(text)
            if fields["format"] > FORMAT:
                raise BundleTooNewError(
                    f"modalities.json has format {fields['format']}; this runtime reads up to {FORMAT}. "
                    "Update scgpt-infer."
                )
            names = tuple(str(name) for name in fields["names"])
            of_tokens = np.array(fields["of_tokens"], np.int64)
            prefixes = {str(name): str(prefix) for name, prefix in fields["prefixes"].items()}
            if of_tokens.shape != (n_tokens,) or not 0 <= of_tokens.min() <= of_tokens.max() < len(names) <= MOST:
                raise ValueError(f"it does not give each of {n_tokens:,} tokens one of {len(names)} modalities")
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise BundleError(
                f"modalities.json of the bundle cannot be read ({error}). Export the model again."
            ) from error
        return cls(names, of_tokens.astype(np.uint8), prefixes)
