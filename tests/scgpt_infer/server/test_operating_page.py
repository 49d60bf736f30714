"""docs/serving/operating.md says what the command, the metrics and the refusals are."""

import re
from pathlib import Path

import pytest

from scgpt_infer.cli.serve import command
from scgpt_infer.server import metrics, refusals
from scgpt_infer.server.front.patience import HeadTooLarge

PAGE = Path(__file__).parents[3] / "docs" / "serving" / "operating.md"


def rows_of_options():
    """Rows of the tables of settings, by heading."""
    found = {}
    for one in command.params:
        told = re.fullmatch(r"(.*?)(?:  \[default: (.*)\])?", one.help)
        default = told[2] or (one.default if one.show_default is True else "")
        default = "off" if one.is_flag else f"{default:g}" if isinstance(default, float) else default
        choices = [word for word in getattr(one.type, "choices", ()) if word != default]
        words = [f"{default}", f"(or {', '.join(choices)})" if choices else ""]
        names = ", ".join(f"`{name}`" for name in sorted(one.opts, key=len, reverse=True))
        metavar = f" `{one.metavar}`" if one.metavar else ""
        row = f"| {names}{metavar} | {' '.join(words).strip()} | {told[1]} |".replace("|  |", "| |")
        found.setdefault(getattr(one, "section", "Options"), []).append(row)
    return found


def rows_of_metrics():
    """Names, labels and kinds that the exposition has."""
    made = metrics._metrics()
    rows = []
    for name in made.__dataclass_fields__:
        if name != "registry":
            metric = getattr(made, name)
            suffix = "_total" if metric._type == "counter" else ""
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append((f"`{metric._name}{suffix}`", metric._type, labels))
    return rows


def all_refusals(kind=refusals.Refusal):
    return {kind, *(one for child in kind.__subclasses__() for one in all_refusals(child))}


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text()


def test_every_setting_stands_there_as_the_command_has_it(page):
    for heading, rows in rows_of_options().items():
        if heading != "Options":
            assert f"**{heading}**\n\n| option | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n" in page


def test_every_metric_stands_there(page):
    told = re.findall(r"^\| (`scgpt_infer_\w+`) \| (\w+) \| ([^|]*?) ?\|", page, re.MULTILINE)
    assert sorted(told) == sorted(rows_of_metrics())


def test_every_code_stands_there_with_its_status(page):
    told = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.MULTILINE))
    ours = {(str(one.status), one.code) for one in all_refusals() if one.__module__.startswith("scgpt_infer.server")}
    assert ("431", HeadTooLarge.code) in ours
    assert told == ours | {("405", "method_not_allowed")}
