"""How many operations a cell of a given length costs a model.

In: scGPT's own args from a manifest. Out: `Work`. A multiplication and an addition count as two operations. Counted
is the model as published, every layer for every token: what an engine leaves out shows as speed, not as fewer
operations. Embedding, norms, activations, softmax and heads do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Work", "work_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of a model.

    Attributes
    ----------
    per_token
        Of the linear layers.
    per_pair
        Of attention, for each pair of tokens.
    """

    per_token: int
    per_pair: int

    def operations(self, length: int) -> int:
        """Operations of one cell of `length` tokens."""
        return self.per_token * length + self.per_pair * length * length


def work_of(args: Mapping[str, Any]) -> Work | None:
    """Operations of a model of width d (``embsize``), feed-forward width h (``d_hid``) and n layers (``nlayers``).

    A layer has four d x d matrices (query, key, value, output) and two d x h ones; for each pair of tokens it
    multiplies query with key and weight with value, d times each. With two operations a multiplication that is
    n (8 d^2 + 4 d h) a token and 4 n d a pair: for 12 layers of 512 and 512, 37.75 million and 24,576. None where args
    lack one of the three.
    """
    sizes = [args.get(name) for name in ("embsize", "d_hid", "nlayers")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    width, hidden, layers = (int(size) for size in sizes if size is not None)
    return Work(layers * (8 * width * width + 4 * width * hidden), 4 * layers * width)
