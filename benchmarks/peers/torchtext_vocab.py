"""A stand-in for ``torchtext.vocab``: as much of it as scGPT's `GeneVocab` uses, and no more.

torchtext ended in 2024, and its compiled part does not load with the PyTorch of today. This is a list and a dict
with torchtext's names. It decides which token has which id and computes nothing else; it is quicker than what
it stands for, and the time that vocabularies take is not counted anyway.
"""

from collections.abc import Mapping
from typing import Self

__all__ = ["Vocab", "vocab"]


class Vocab:
    """Tokens and their ids, with torchtext's methods.

    Parameters
    ----------
    vocab
        A vocabulary to share tokens with, as torchtext's class takes its compiled one.
    """

    def __init__(self, vocab: "Vocab | None" = None) -> None:
        self.tokens: list[str] = [] if vocab is None else vocab.tokens
        self.ids: dict[str, int] = {} if vocab is None else vocab.ids
        self.default: int | None = None if vocab is None else vocab.default

    @property
    def vocab(self) -> Self:
        """What torchtext keeps its compiled vocabulary under."""
        return self

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self.ids

    def __getitem__(self, token: str) -> int:
        if token in self.ids:
            return self.ids[token]
        if self.default is None:
            raise RuntimeError(f"Token {token} not found and default index is not set")
        return self.default

    def __call__(self, tokens: list[str]) -> list[int]:
        """Ids of tokens."""
        return self.lookup_indices(tokens)

    def lookup_indices(self, tokens: list[str]) -> list[int]:
        """Ids of tokens."""
        return [self[token] for token in tokens]

    def lookup_token(self, index: int) -> str:
        """Token of an id."""
        return self.tokens[index]

    def insert_token(self, token: str, index: int) -> None:
        """Put a token at an id; those from there on move up by one."""
        if token in self.ids:
            raise RuntimeError(f"Token {token} already exists in Vocab with index: {self.ids[token]}")
        if not 0 <= index <= len(self.tokens):
            raise RuntimeError(f"Specified index {index} is out of bounds for vocab of size {len(self.tokens)}")
        self.tokens.insert(index, token)
        for place in range(index, len(self.tokens)):
            self.ids[self.tokens[place]] = place

    def append_token(self, token: str) -> None:
        """Put a token behind the last one."""
        self.insert_token(token, len(self.tokens))

    def set_default_index(self, index: int | None) -> None:
        """Give the id of every token that is not known."""
        self.default = index

    def get_default_index(self) -> int | None:
        """Id of every token that is not known; None where that is an error."""
        return self.default

    def get_stoi(self) -> dict[str, int]:
        """Token to id."""
        return dict(self.ids)

    def get_itos(self) -> list[str]:
        """Tokens by id."""
        return list(self.tokens)


def vocab(ordered_dict: Mapping[str, int], min_freq: int = 1) -> Vocab:
    """A vocabulary of the tokens that come up often enough, in the order of the mapping."""
    made = Vocab()
    for token, count in ordered_dict.items():
        if count >= min_freq:
            made.append_token(token)
    return made
