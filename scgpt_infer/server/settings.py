"""What an operator can say of a server: `Settings`, checked when it is made.

It reads neither flags nor files nor the environment; the command line does.
"""

import math
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from scgpt_infer.options import EmbedOptions
from scgpt_runtime.errors import OptionError

__all__ = ["LogFormat", "ModelAsked", "Settings"]

LogFormat = Literal["json", "text"]

_MIB = 2**20
_AT_LEAST = {
    "port": 0,
    "frontends": 1,
    "max_body_bytes": 1,
    "max_cells": 1,
    "max_genes": 1,
    "max_requests": 1,
    "queue_tokens": 1,
    "job_workers": 1,
    "max_upload_bytes": 1,
    "job_memory": 2**30,
    "jobs_max_bytes": 1,
}

_MOST_SECONDS = 1e9
"""About 30 years, for every number of seconds: threads can wait for about ten times as long, and no longer."""

_AT_MOST = {"max_wait_ms": 60_000.0}


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A model that is to be served.

    Attributes
    ----------
    name
        What requests call it.
    path
        A bundle, folder or zip, or the name of a model that ships, such as ``demo``.
    expect
        Digest that it must have, as `scgpt_runtime.bundle.Bundle.digest` tells it. None: any.
    """

    name: str
    path: str
    expect: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be said of a server.

    Attributes
    ----------
    models
        Models that are loaded at the start. The first answers requests that name none.
    models_dir
        Folder of bundles that may be loaded by name while the server runs. None: none can.
    options
        How each model is run.
    reference
        A reference index that tells cell types in place of the models' classifiers.
    host, port
        Where it listens; port 0 takes one that is free.
    frontends
        Processes that speak HTTP.
    tls_cert, tls_key
        Certificate chain and private key, PEM. None: no TLS.
    keys_file
        File of API keys. None: anybody may ask.
    trusted_proxies
        Addresses and networks (CIDR) of proxies that may say by X-Forwarded-For who asks. None: whoever connects does.
    max_body_bytes, max_cells, max_genes
        Limits of one request: bytes of its body, inflated; its cells; values of one cell.
    max_requests
        Requests that one front end works on at a time.
    header_seconds, body_seconds, idle_seconds
        How long a client may take for the head of a request and for its body, and keep a connection without one.
    max_wait_ms
        How long a cell may wait for others to share a batch with while nothing else is to do; a minute at most.
    queue_seconds
        A request that would wait longer than this, at the rate that is measured, is refused.
    queue_tokens
        Most tokens that wait, whatever the rate.
    drain_seconds
        How long requests are still taken after SIGTERM, so that load balancers have seen that it is not ready.
    grace_seconds
        How long accepted requests have to finish after that.
    model_control
        Whether models may be loaded and unloaded over HTTP.
    jobs_dir
        Folder of whole files that are worked on. None: no such jobs.
    job_ttl
        Seconds for which a finished job is kept.
    jobs_max_bytes
        Most bytes in that folder.
    max_upload_bytes
        Most bytes of an uploaded file.
    job_workers
        Jobs that are worked on at a time.
    job_memory
        Most address space of a job's process, in bytes: what it maps counts too.
    ui
        Whether ``/`` has a page.
    log_format, log_level
        How it tells what it does, on standard error.
    tracing
        Whether spans go to OpenTelemetry, as its environment variables say.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    models: tuple[ModelAsked, ...]
    models_dir: Path | None = None
    options: EmbedOptions = field(default_factory=EmbedOptions)
    reference: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    frontends: int = 1
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keys_file: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    max_body_bytes: int = 64 * _MIB
    max_cells: int = 4096
    max_genes: int = 100_000
    max_requests: int = 512
    header_seconds: float = 20.0
    body_seconds: float = 60.0
    idle_seconds: float = 60.0
    max_wait_ms: float = 2.0
    queue_seconds: float = 30.0
    queue_tokens: int = 50_000_000
    drain_seconds: float = 0.0
    grace_seconds: float = 30.0
    model_control: bool = False
    jobs_dir: Path | None = None
    job_ttl: float = 86_400.0
    jobs_max_bytes: int = 50 * 1024 * _MIB
    max_upload_bytes: int = 10 * 1024 * _MIB
    job_workers: int = 1
    job_memory: int = 16 * 1024 * _MIB
    ui: bool = False
    log_format: LogFormat = "json"
    log_level: str = "info"
    tracing: bool = False

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise OptionError(f"{name} is {getattr(self, name)!r}; expected at least {least}.")
        for name in (one.name for one in fields(self) if one.type is float):
            found, most = getattr(self, name), _AT_MOST.get(name, _MOST_SECONDS)
            if not (math.isfinite(found) and 0 <= found <= most):
                unit = "milliseconds" if name.endswith("_ms") else "seconds"
                raise OptionError(f"{name} is {found!r}; expected a number of {unit} from 0 to {most:,.0f}.")
        if not self.models and self.models_dir is None:
            raise OptionError("No model was named. Name one with --model, or a folder of them with --models-dir.")
        names = [model.name for model in self.models]
        if len({*names}) != len(names):
            raise OptionError(f"Two models have one name: {', '.join(names)}. Name them: --model NAME=PATH.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise OptionError("TLS needs both, a certificate (--tls-cert) and its key (--tls-key).")
        for one in self.trusted_proxies:
            try:
                ip_network(one)
            except ValueError as error:
                raise OptionError(
                    f"A trusted proxy is {one!r}: {error}. Expected addresses or networks, such as 10.0.0.0/8 or "
                    "fd00::/8, separated by commas (--trusted-proxies)."
                ) from error
        if self.ui and self.jobs_dir is None:
            raise OptionError("The page (--ui) works on whole files, so it needs a folder for them (--jobs-dir).")

    def told(self) -> dict[str, Any]:
        """As the fields of a message."""
        fields: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return fields

    @classmethod
    def heard(cls, fields: Any) -> Self:
        """Of the fields of a message."""
        return msgspec.convert(fields, cls, dec_hook=lambda kind, told: kind(told))
