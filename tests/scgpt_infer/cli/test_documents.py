"""Each command line of the README and the documents is one that the program takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from scgpt_infer.cli import commands

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^ *```(?:bash|sh|console)?\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def commands_in(text: str) -> list[str]:
    """What follows ``scgpt-infer`` in blocks of code, continued lines joined."""
    blocks = (block.replace("\\\n", " ") for block in _BLOCK.findall(text))
    lines = (re.sub(r"^\s*\$ ", "", line).strip() for block in blocks for line in block.split("\n"))
    return [line.removeprefix("scgpt-infer ") for line in lines if line.startswith("scgpt-infer ")]


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_command_of_a_document_parses(path):
    for line in commands_in(path.read_text(encoding="utf-8")):
        name, *words = shlex.split(line, comments=True)
        command = commands.get_command(click.Context(commands), name)
        assert command is not None, f"there is no command {name}: {line}"
        try:
            command.make_context(name, words)
        except click.UsageError as error:
            if "does not exist" not in error.message:  # a file of the user's
                pytest.fail(f"{error.message}: {line}")


def test_each_link_to_a_file_leads_somewhere():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links {target}"
