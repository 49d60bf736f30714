"""``scgpt-infer serve``: models in, a server that answers for them until it is told to end.

Reads flags, the environment and a file, which become one `Settings`; `scgpt_infer.server` does the work.
"""

import os
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from scgpt_infer.cli.options import Decorated, engine_options, path_type, served_options
from scgpt_infer.cli.sections import FILES, LIMITS, MODELS, NETWORK, OPERATION, QUEUE, option, sectioned
from scgpt_infer.cli.settings_file import config_option
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.sizes import bytes_of
from scgpt_runtime.errors import MissingDependencyError, OptionError

__all__ = ["PREFIX", "command", "models_of"]

PREFIX = "SCGPT_INFER_SERVE"
"""Of environment variables: ``SCGPT_INFER_SERVE_PORT`` is ``--port``."""

_EPILOG = f"""\b
Every option may also stand in the environment, as {PREFIX}_ and its name in capitals, and in the file of
--config. Flags come first, then the environment, then the file. Several models are separated by commas there.

\b
Examples:
  scgpt-infer serve --model demo --port 8080
  scgpt-infer serve --model human=/bundles/human --expect human=sha256:2f3c... --jobs-dir /jobs --ui
  {PREFIX}_MODEL=/bundles/human scgpt-infer serve --config serve.toml
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEFAULTS: dict[str, Any] = {one.name: None if one.default is MISSING else one.default for one in fields(Settings)}


class _Words(click.types.StringParamType):
    """Texts of which several are separated by commas in the environment."""

    envvar_list_splitter = ","


def _size(told: str | int) -> int:
    """Bytes, told as a number or with a unit."""
    try:
        return told if isinstance(told, int) else bytes_of(told)
    except OptionError as error:
        raise click.BadParameter(str(error)) from error


def _setting(section: str, name: str, kind: Any, help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002
    """An option that is named as a field of the settings, and has its default."""
    default = _DEFAULTS[name]
    more: dict[str, Any] = {"type": kind, "show_default": default is not None}
    if kind is bool:
        more = {"is_flag": True}
    elif kind is _size:
        more = {"type": kind, "metavar": "SIZE"}
        help = f"{help}  [default: {_told(default)}]"  # noqa: A001
    return option(section, f"--{name.replace('_', '-')}", default=default, help=help, **more)


def _told(size: int) -> str:
    """Bytes as they are written on a command line."""
    return f"{size // 2**30}GiB" if size >= 2**30 else f"{size // 2**20}MiB"


_seconds = click.FloatRange(min=0)
_count = click.IntRange(min=1)

_SETTINGS = (
    option(
        MODELS,
        "--model",
        "-m",
        multiple=True,
        type=_Words(),
        metavar="[NAME=]PATH",
        help="A bundle, a checkpoint, or demo; the first answers who names none. May be repeated.",
    ),
    option(
        MODELS,
        "--expect",
        multiple=True,
        type=_Words(),
        metavar="[NAME=]sha256:HEX",
        help="Digest that a bundle must have, as inspect tells it. May be repeated.",
    ),
    _setting(MODELS, "models_dir", path_type, "Folder of bundles that may be loaded by name later."),
    _setting(MODELS, "model_control", bool, "Load and unload models over HTTP."),
    _setting(MODELS, "reference", path_type, "Index that tells types in place of the models' classifiers."),
    _setting(NETWORK, "host", str, "Address to listen at; 0.0.0.0 is all of this machine."),
    _setting(NETWORK, "port", click.IntRange(0, 65535), "0 takes one that is free."),
    _setting(NETWORK, "frontends", _count, "Processes that speak HTTP."),
    _setting(NETWORK, "tls_cert", path_type, "Certificate and its chain, PEM."),
    _setting(NETWORK, "tls_key", path_type, "Its private key, PEM."),
    _setting(NETWORK, "keys_file", path_type, "API keys: lines name:key or name:sha256:HEX.  [default: all may ask]"),
    option(
        NETWORK,
        "--trusted-proxies",
        multiple=True,
        type=_Words(),
        metavar="CIDR[,CIDR]",
        help="Proxies whose X-Forwarded-For says who asks.  [default: none]",
    ),
    _setting(NETWORK, "header_seconds", _seconds, "For the head of a request."),
    _setting(NETWORK, "body_seconds", _seconds, "For its body, and for taking some of an answer."),
    _setting(NETWORK, "idle_seconds", _seconds, "That a connection is kept without a request."),
    _setting(LIMITS, "max_body_bytes", _size, "Bytes of its body, inflated."),
    _setting(LIMITS, "max_cells", _count, "Cells."),
    _setting(LIMITS, "max_genes", _count, "Values of one cell."),
    _setting(LIMITS, "max_requests", _count, "Requests at a time, each front end."),
    _setting(QUEUE, "max_wait_ms", _seconds, "That a cell waits for others to share a batch, while all is idle."),
    _setting(QUEUE, "queue_seconds", _seconds, "Who would wait longer is told to come again (429)."),
    _setting(QUEUE, "queue_tokens", _count, "Most tokens that wait."),
    _setting(FILES, "jobs_dir", path_type, "Folder for whole files that are worked on.  [default: none are]"),
    _setting(FILES, "job_ttl", _seconds, "Seconds that a finished one is kept."),
    _setting(FILES, "jobs_max_bytes", _size, "Most bytes in that folder."),
    _setting(FILES, "max_upload_bytes", _size, "Most bytes of one file."),
    _setting(FILES, "job_workers", _count, "Files worked on at a time."),
    _setting(FILES, "job_memory", _size, "Most address space of the process that works on one."),
    _setting(FILES, "ui", bool, "A page at / for dropping files; needs --jobs-dir."),
    _setting(OPERATION, "drain_seconds", _seconds, "That requests are taken after SIGTERM, while /readyz says no."),
    _setting(OPERATION, "grace_seconds", _seconds, "That accepted requests have to finish after that."),
    _setting(OPERATION, "log_format", click.Choice(("json", "text")), "Of the log on standard error."),
    _setting(OPERATION, "log_level", click.Choice(("debug", "info", "warning", "error")), "Least that it tells."),
    _setting(OPERATION, "tracing", bool, "Spans for OpenTelemetry, to where its OTEL_ variables say."),
)


def _settings_options(command: Decorated) -> Decorated:
    for decorator in reversed(_SETTINGS):
        command = decorator(command)
    return command


@sectioned("serve", short_help="Answer over HTTP.", epilog=_EPILOG, context_settings={"auto_envvar_prefix": PREFIX})
@config_option
@_settings_options
@served_options
@engine_options
@click.pass_context
def command(
    context: click.Context,
    /,
    model: tuple[str, ...],
    expect: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    **told: Any,
) -> int:
    """Serve models over HTTP until SIGTERM or Ctrl-C.

    Speaks JSON, Arrow and the Open Inference Protocol (KServe v2); /metrics is for Prometheus. Ends when all that was
    accepted is answered. SIGHUP reads the API keys and the certificate again, and loads anew models whose bundles are
    others now.
    """
    _tell_of_unknown(context)
    options = EmbedOptions(**{one.name: told.pop(one.name) for one in fields(EmbedOptions) if one.name in told})
    proxies = tuple(one.strip() for words in trusted_proxies for one in words.split(","))
    settings = Settings(models=models_of(model, expect), options=options, trusted_proxies=proxies, **told)
    return _serve(settings)


def models_of(told: tuple[str, ...], expect: tuple[str, ...] = ()) -> tuple[ModelAsked, ...]:
    """The models that words such as ``human=/bundles/human`` ask for.

    Parameters
    ----------
    told
        ``PATH`` or ``NAME=PATH``; without a name a model is called as its folder or file is.
    expect
        ``sha256:HEX``, where there is one model, or ``NAME=sha256:HEX``.

    Raises
    ------
    OptionError
        A name cannot be one, or a digest is not one, or of no model.
    """
    models = [_model(words) for words in told]
    digests = dict(_expected(words, models) for words in expect)
    return tuple(ModelAsked(name, path, digests.get(name)) for name, path in models)


def _model(words: str) -> tuple[str, str]:
    name, sign, path = words.partition("=")
    if sign and path and _NAME.fullmatch(name):
        return name, path
    name = Path(words).name.removesuffix(".zip")
    if not _NAME.fullmatch(name):
        raise OptionError(
            f"{words!r} gives no name that a model can have: letters, digits and . _ -. Say --model NAME=PATH."
        )
    return name, words


def _expected(words: str, models: list[tuple[str, str]]) -> tuple[str, str]:
    name, _, digest = words.rpartition("=")
    if not name and len(models) == 1:
        name = models[0][0]
    known = [one for one, _ in models]
    if name not in known:
        raise OptionError(f"--expect {words!r} is for no model; say NAME=sha256:HEX, with one of {', '.join(known)}.")
    digest = digest.removeprefix("sha256:").lower()
    if not _DIGEST.fullmatch(digest):
        raise OptionError(f"--expect {words!r} is no digest; expected sha256: and 64 hexadecimal digits.")
    return name, digest


def _tell_of_unknown(context: click.Context) -> None:
    """Warn of variables that look like settings and are none: one with a slip would do nothing, silently."""
    known = {f"{PREFIX}_{one.name.upper()}" for one in context.command.params if one.name}
    for name in sorted({name for name in os.environ if name.startswith(f"{PREFIX}_")} - known):
        click.echo(f"warning: {name} in the environment is no setting of this server.", err=True)


def _serve(settings: Settings) -> int:
    """Check what can be checked before any process starts, then serve."""
    try:
        from scgpt_infer.server import tracing
        from scgpt_infer.server.front.keys import Keys
        from scgpt_infer.server.front.tls import certificate_of
        from scgpt_infer.server.supervisor import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("scgpt"):
            raise
        raise MissingDependencyError(f'serve needs {error.name}: pip install "scgpt-infer[serve]".') from error
    if settings.keys_file is not None:
        Keys(settings.keys_file)
    certificate_of(settings)
    if settings.tracing:
        tracing.needed()
    return serve(settings)
