"""Help in sections: `option`, which has a heading of its own, and `sectioned`, a command that prints by headings.

In: what click takes. Out: what click gives, so that a command without sections prints such options as any other. It
knows no command.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "FILES",
    "HARDWARE",
    "INPUT",
    "LIMITS",
    "LONG_JOBS",
    "MODELS",
    "NETWORK",
    "OPERATION",
    "OUTPUT",
    "QUEUE",
    "TOKENS",
    "option",
    "sectioned",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)

INPUT, TOKENS, HARDWARE, LONG_JOBS, OUTPUT = "Input", "Tokens", "Hardware", "Long jobs", "Output"
MODELS, NETWORK, LIMITS, QUEUE = "Models", "Network", "Limits of a request", "Queue and batches"
FILES, OPERATION = "Whole files", "Operation"

_OWN = "Options"
"""Heading of what only one command has, and which comes first."""

_SERVED = (MODELS, NETWORK, LIMITS, QUEUE, FILES, OPERATION)
_ORDER = (_OWN, *_SERVED, INPUT, TOKENS, HARDWARE, LONG_JOBS, OUTPUT)


class _Option(click.Option):
    """An option with the heading that it stands under."""

    def __init__(self, *args: Any, section: str = _OWN, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section


class _Command(click.Command):
    """A command whose help lists options by their headings; ``--help`` is the last of all."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in _ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                usual = OUTPUT if "--help" in parameter.opts else _OWN
                found[getattr(parameter, "section", usual)].append(record)
        for name, records in found.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def option(section: str, *names: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """`click.option` under a heading.

    Parameters
    ----------
    section
        One of the headings of this module.
    names, settings
        As `click.option` takes them.
    """
    return click.option(*names, cls=_Option, section=section, **settings)


def sectioned(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """`click.command`, its help in sections."""
    return click.command(name, cls=_Command, **settings)
