"""The help of commands with many options, in sections."""

import re

import click
import pytest

from scgpt_infer.cli import commands
from scgpt_infer.cli.sections import HARDWARE, INPUT, LONG_JOBS, OUTPUT, TOKENS

SECTIONED = ("embed", "annotate", "integrate", "multiomic", "perturb", "impute", "grn", "genes", "index", "learn")


def help_of(name: str) -> tuple[click.Command, str]:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    with command.make_context(name, [], resilient_parsing=True, max_content_width=110) as context:
        return command, command.get_help(context)


def sections_of(text: str) -> dict[str, list[str]]:
    """Names of options by the heading that they stand under."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.split("\n"):
        if re.fullmatch(r"\w[\w ]*:", line):
            heading = line[:-1]
        elif option := re.match(r"  (?:-\w, )?(--[\w-]+|-\w)", line):
            found.setdefault(heading, []).append(option[1])
    return found


@pytest.mark.parametrize("name", SECTIONED)
def test_every_option_is_listed_once_and_headings_have_one_order(name):
    command, text = help_of(name)
    found = sections_of(text)
    listed = [option for options in found.values() for option in options]
    declared = [
        max(parameter.opts, key=lambda word: word.startswith("--"))
        for parameter in command.params
        if isinstance(parameter, click.Option)
    ]
    assert sorted(listed) == sorted([*declared, "--help"])
    order = ["Options", INPUT, TOKENS, HARDWARE, LONG_JOBS, OUTPUT]
    assert list(found) == [heading for heading in order if heading in found]
    assert {INPUT, HARDWARE, OUTPUT} <= set(found)


def test_embed_has_all_headings_and_nothing_outside_them():
    found = sections_of(help_of("embed")[1])
    assert list(found) == [INPUT, TOKENS, HARDWARE, LONG_JOBS, OUTPUT]
    assert {"--shard", "--resume", "--memory", "--workers", "--ray", "--dry-run"} == set(found[LONG_JOBS])
    assert found[OUTPUT][0] == "--output"
    assert found[OUTPUT][-1] == "--help"


def test_embed_tells_the_exit_codes_that_are_its_own():
    text = help_of("embed")[1]
    assert re.search(r"^ +75 +stopped as SIGTERM or SIGUSR1 asked", text, re.MULTILINE)
    assert re.search(r"^ +3 +the output is there", text, re.MULTILINE)
