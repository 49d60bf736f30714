"""The model repository extension of the Open Inference Protocol: what may be loaded, and how a request may ask for it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from scgpt_infer.server.desk import Status
from scgpt_infer.server.kserve.metadata import VERSION
from scgpt_infer.server.refusals import BadRequest, Forbidden
from scgpt_infer.server.settings import Settings

__all__ = ["check_load", "check_unload", "index", "loadable", "only_ready"]

Form = TypeVar("Form", bound=msgspec.Struct)

_STATES = {"ready": "READY", "loading": "LOADING", "unloading": "UNLOADING", "failed": "UNAVAILABLE"}


class _Index(msgspec.Struct, frozen=True):
    ready: bool = False


class _Load(msgspec.Struct, frozen=True):
    parameters: dict[str, msgspec.Raw] = {}


class _Unloading(msgspec.Struct, frozen=True):
    unload_dependents: bool = False


class _Unload(msgspec.Struct, frozen=True):
    parameters: _Unloading = _Unloading()


def only_ready(body: bytes) -> bool:
    """Whether an index is asked for that has no more than the models which answer.

    Raises
    ------
    BadRequest
        The body is neither empty nor such a request.
    """
    return _decoded(body, _Index).ready


def index(statuses: Sequence[Status], settings: Settings, only_ready: bool) -> list[dict[str, Any]]:
    """All models, and those that may be loaded: of the start, and the bundles in the folder of models.

    Parameters
    ----------
    statuses
        Of the models that are there.
    settings
        Of the server.
    only_ready
        Leave out what does not answer.
    """
    told = [
        {"name": status.name, "version": VERSION, "state": _STATES[status.state], "reason": status.reason}
        for status in statuses
        if status.state == "ready" or not only_ready
    ]
    if only_ready:
        return told
    names = [asked.name for asked in settings.models]
    if settings.models_dir is not None:
        names += loadable(settings.models_dir)
    there = {status.name for status in statuses}
    return told + [
        {"name": name, "version": VERSION, "state": "UNAVAILABLE", "reason": "unloaded"}
        for name in dict.fromkeys(names)
        if name not in there
    ]


def loadable(models_dir: Path) -> list[str]:
    """Names under which the bundles in a folder of models can be loaded, sorted: folders, and zips without suffix."""
    entries = [entry for entry in models_dir.iterdir() if not entry.name.startswith(".")] if models_dir.is_dir() else []
    folders = {entry.name for entry in entries if (entry / "manifest.json").is_file()}
    return sorted(folders | {entry.stem for entry in entries if entry.suffix == ".zip"})


def check_load(settings: Settings, body: bytes) -> None:
    """Make sure that a model may be loaded, and as it lies in the folder.

    Raises
    ------
    Forbidden
        This server loads nothing on request.
    BadRequest
        The request wants the model changed, or is none.
    """
    _check_control(settings)
    parameters = _decoded(body, _Load).parameters
    if parameters:
        raise BadRequest(
            f"The load request has the parameter {min(parameters)[:80]!r}; a model is loaded as its bundle is, so "
            "leave the parameters out."
        )


def check_unload(settings: Settings, body: bytes) -> None:
    """Make sure that a model may be unloaded.

    Raises
    ------
    Forbidden
        This server unloads nothing on request.
    BadRequest
        The body is neither empty nor an unload request.
    """
    _check_control(settings)
    _decoded(body, _Unload)


def _check_control(settings: Settings) -> None:
    if not settings.model_control:
        raise Forbidden("Models of this server are not loaded or unloaded over HTTP; --model-control allows it.")


def _decoded(body: bytes, form: type[Form]) -> Form:
    """A body, which may be empty, as a form."""
    try:
        return msgspec.json.decode(body, type=form) if body else form()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is no request of the model repository extension: {error}") from error
