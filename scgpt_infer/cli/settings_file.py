"""``--config``: a TOML file of a command's options in, their values as its defaults out.

Flags and environment variables come before what the file says. It knows no command.
"""

import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from scgpt_runtime.errors import OptionError

__all__ = ["config_option", "told_by"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def config_option(command: Decorated) -> Decorated:
    """The option ``--config``, for a command whose other options may stand in a file."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_take,
        help="TOML file of these options, by their names; flags and the environment come first.",
    )(command)


def told_by(path: Path, options: dict[str, click.Option], context: click.Context) -> dict[str, Any]:
    """Values of options by their names, as a file tells them.

    Parameters
    ----------
    path
        TOML: ``max-cells = 512``, or ``max_cells = 512``; an option that may be repeated takes a list.
    options
        Options that may stand in it, by their names with underscores.

    Raises
    ------
    OptionError
        The file cannot be read, names what is no option, or a value is not one of its option.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"The settings {path} cannot be read as TOML: {error}.") from error
    found = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in options:
            near = get_close_matches(name, options, 1)
            instead = f"Did you mean {near[0]}?" if near else "`scgpt-infer serve --help` lists all."
            raise OptionError(f"{path}: {key} is no setting. {instead}")
        if name in found:
            raise OptionError(f"{path}: {key} stands there twice, with - and with _.")
        found[name] = _value(f"{path}: {key}", value, options[name], context)
    return found


def _take(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    options = {
        one.name: one
        for one in context.command.params
        if isinstance(one, click.Option) and one.name is not None and one is not parameter
    }
    context.default_map = {**told_by(path, options, context), **(context.default_map or {})}


def _value(where: str, value: Any, option: click.Option, context: click.Context) -> Any:
    """A value as the option takes it, checked here so that the message names the file."""
    if option.multiple:
        value = value if isinstance(value, list) else [value]
        wrong = any(isinstance(one, bool | dict | list) for one in value)
    else:
        wrong = isinstance(value, dict | list) or isinstance(value, bool) != option.is_flag
    if wrong:
        kind = "a list of texts" if option.multiple else "true or false" if option.is_flag else "a text or a number"
        raise OptionError(f"{where} is {value!r}; expected {kind}.")
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise OptionError(f"{where}: {error.message}") from error
    return value
