"""docs/serving/jobs.md tells what can be asked and sent, and the description for machines tells the same."""

import re
from dataclasses import fields
from pathlib import Path

from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.openapi import jobs
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.server.uploads import SUFFIXES

PAGE = (Path(__file__).parents[4] / "docs/serving/jobs.md").read_text(encoding="utf-8")
OPTIONS = {field.name for field in fields(JobAsked)}


def test_the_page_names_every_option_and_every_format():
    table = PAGE.split("### What can be asked")[1].split("###")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[1])} == OPTIONS
    (formats,) = [row[2] for row in rows if row[1].strip() == "`name`"]
    assert set(re.findall(r"`(\.\w+)`", formats)) == {one for one in SUFFIXES if not one.endswith(".gz")} | {".gz"}


def test_the_description_has_every_option(tmp_path):
    told = jobs.paths(Settings((ModelAsked("demo", "demo"),), jobs_dir=tmp_path))["/v1/jobs"]["post"]["parameters"]
    assert {one.get("name", "model") for one in told} == OPTIONS
