"""What a client is told once, `Terms`, and of each set of cells, `ReadOptions`; both checked when they are made.

They know neither HTTP nor cells.
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from scgpt_infer.client.retrying import Patience, Retry
from scgpt_infer.options import MIN_MATCH, EmbedOptions
from scgpt_runtime.errors import OptionError

__all__ = ["ReadOptions", "Terms"]


_SHORTEST_S = 0.001
"""A request tells its time in whole milliseconds."""

_LONGEST_S = 10**6
"""Eleven days: sockets do not take any number."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a server is spoken to.

    Attributes
    ----------
    url
        Address of the server, such as ``http://localhost:8080``, or with a path below which a proxy has it.
    api_key
        Where the server asks for one.
    model
        Name of the model that is asked where a call names none. None: the server's first.
    timeout
        Seconds within which the answer to a request must be there, repetitions included. None: any time.
    retry
        How requests are repeated.
    cells_per_request
        Most cells that go into one request.
    in_flight
        Requests that wait for their answers at a time.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    timeout: float | None = 300.0
    retry: Retry = field(default_factory=Retry)
    cells_per_request: int = 256
    in_flight: int = 4

    def __post_init__(self) -> None:
        _check_address(self.url)
        key = self.api_key
        if key is not None and not (key.isascii() and key.isprintable() and key == key.strip() != ""):
            raise OptionError("The API key is empty, or no header can carry it; expected plain ASCII in one line.")
        if self.timeout is not None and not _SHORTEST_S <= self.timeout <= _LONGEST_S:
            raise OptionError(
                f"timeout is {self.timeout!r}; expected {_SHORTEST_S} to {_LONGEST_S:,} seconds, or None for any time."
            )
        for name in ("cells_per_request", "in_flight"):
            value = getattr(self, name)
            if not hasattr(value, "__index__") or value < 1:
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1.")

    @property
    def patience(self) -> Patience:
        """How long an answer is waited for."""
        return Patience(self.timeout, self.retry)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How cells are read before they are sent; as in `scgpt_infer.EmbedOptions`, whose defaults these are.

    Attributes
    ----------
    layer, modality, cells_in, where, organism, gene_col, min_match, limit
        See `scgpt_infer.EmbedOptions`.
    key
        Name under ``obsm``. None: that of the server's model.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    layer: str | None = None
    modality: str | None = None
    cells_in: Literal["rows", "columns"] | None = None
    where: str | None = None
    organism: str | None = None
    gene_col: str | None = None
    min_match: float = MIN_MATCH
    limit: int | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        self.embedding()  # refuses what it does not allow

    def embedding(self) -> EmbedOptions:
        """The same among the options of a run."""
        return EmbedOptions(
            layer=self.layer,
            modality=self.modality,
            cells_in=self.cells_in,
            where=self.where,
            organism=self.organism,
            gene_col=self.gene_col,
            min_match=self.min_match,
            limit=self.limit,
            key=self.key,
        )


def _check_address(url: str) -> None:
    """Raise `OptionError` where requests would go elsewhere than the caller reads, or nowhere."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):  # no port, no address of IPv6, no text
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise OptionError(f"The address is {_hidden(url)!r}; expected one such as http://localhost:8080.")
    if "@" in parts.netloc:
        raise OptionError(
            f"The address {_hidden(url)!r} has a user or a password. Leave these out; a key goes into api_key."
        )
    if "?" in url or "#" in url:
        raise OptionError(f"The address {url!r} has a query or a fragment. Leave all from the first ? or # on out.")
    if parts.path.rstrip("/").endswith(("/v1", "/v2")):
        version = parts.path.rstrip("/")[-3:]
        raise OptionError(
            f"The address {url!r} ends in {version}, which the client adds itself. Expected the server's own: "
            f"{url.rstrip('/')[:-3]}."
        )


def _hidden(url: object) -> object:
    """An address without a password, for messages."""
    return re.sub(r"//[^/]*@", "//...@", url) if isinstance(url, str) else url
