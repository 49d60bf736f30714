"""What a seat is told to open: `Spec`. It travels from the supervisor as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from scgpt_infer.options import EmbedOptions

__all__ = ["OPENER", "Spec"]

OPENER = "scgpt_infer.server.seat.opening:open_model"
"""What opens models: a module and a function of the shape of `scgpt_infer.server.seat.opening.open_model`."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A model, and how it is run.

    Attributes
    ----------
    name, generation
        What requests call it, and how often a model of this name was loaded.
    path
        Of its bundle, or the name of a model that ships.
    expect
        Digest that the bundle must have. None: any.
    options
        How it is run.
    reference
        A reference index that tells types. None: the model's classifier.
    wait_seconds, queue_seconds, queue_tokens
        See `scgpt_infer.server.seat.work.Limits`.
    socket
        Path of the socket that it listens on.
    opener
        What opens it.
    """

    name: str
    generation: int
    path: str
    socket: str
    expect: str | None = None
    options: EmbedOptions = field(default_factory=EmbedOptions)
    reference: str | None = None
    wait_seconds: float = 0.002
    queue_seconds: float = 30.0
    queue_tokens: int = 50_000_000
    opener: str = OPENER

    def told(self) -> dict[str, Any]:
        """As the fields of a message."""
        return asdict(self)

    @classmethod
    def heard(cls, fields: Mapping[str, Any]) -> Self:
        """Of the fields of a message."""
        return cls(**{**fields, "options": EmbedOptions(**fields["options"])})
