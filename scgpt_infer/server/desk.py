"""What routes ask of the models, whatever process these run in: `Desk`, and what is known of each, `Here`.

The seam between HTTP and inference: a route knows no more of a model than this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scgpt_infer.server.asking import Answer, Ask
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.vocab import Vocabulary

__all__ = ["Desk", "Here", "State", "Status"]

State = Literal["loading", "ready", "failed", "unloading"]


@dataclass(frozen=True, slots=True)
class Here:
    """A model that answers.

    Attributes
    ----------
    name
        What requests call it.
    generation
        Raised each time the model of this name is loaded anew.
    manifest
        Of its bundle.
    vocabulary
        The genes that it knows.
    vector_id
        Of the vectors that it makes.
    abilities
        Tasks that can be asked for: ``embed``, ``annotate`` and so on.
    labels
        Types that ``annotate`` may tell.
    run
        What decided its answers, for documents and headers: `scgpt_infer.schema.run_facts` of a job of it.
    max_length
        Most tokens of a cell.
    """

    name: str
    generation: int
    manifest: Manifest
    vocabulary: Vocabulary
    vector_id: str
    abilities: tuple[str, ...]
    labels: tuple[str, ...]
    run: Mapping[str, str | int | float]
    max_length: int


@dataclass(frozen=True, slots=True)
class Status:
    """How a model that was asked for is, whether it answers or not.

    Attributes
    ----------
    name, generation
        As in `Here`.
    state
        ``ready``: an inference of its own cells has passed.
    reason
        Why it is not, for people; empty where it is.
    """

    name: str
    generation: int
    state: State
    reason: str = ""


class Desk(Protocol):
    """The models of a server, as routes see them."""

    @property
    def ready(self) -> bool:
        """Whether all models that were asked for at the start answer, and the server is not about to end."""
        ...

    def statuses(self) -> Sequence[Status]:
        """All models, the first is that of requests that name none."""
        ...

    def here(self, name: str | None = None) -> Here:
        """A model that answers, or did and is being started again; None: the first.

        Raises
        ------
        NotFound
            There is none of this name.
        NotReady
            It is being loaded.
        """
        ...

    async def ask(self, here: Here, ask: Ask) -> Answer:
        """Have cells answered. A task that is cancelled takes them out of the queue.

        Raises
        ------
        QueueFull, Expired, NotReady, Broken
            There is no answer.
        """
        ...

    async def call(self, here: Here, task: str, body: bytes, client: str, within: float | None) -> bytes:
        """Have a task done that is no matter of single cells; the body is one that `scgpt_infer.server.calls` reads."""
        ...

    async def load(self, name: str) -> None:
        """Load a model of the folder of models, or load one anew; returns when it answers.

        Raises
        ------
        Forbidden, NotFound, Unprocessable
            It cannot be had; what answered under this name before goes on.
        """
        ...

    async def unload(self, name: str) -> None:
        """Let go of a model, when it has answered what it has accepted."""
        ...
