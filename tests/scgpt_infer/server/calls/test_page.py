"""docs/serving/tasks.md: what it shows is taken, and its table has every member of every body."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from scgpt_infer.server.calls.bodies import BODIES
from scgpt_infer.server.calls.reading import MOST_MEMBERS, read

PAGE = (Path(__file__).parents[4] / "docs/serving/tasks.md").read_text(encoding="utf-8")
BATCHES = {"batch", "batch_map", "batch_fallback", "batch_statistics"}


@pytest.mark.parametrize("task", BODIES)
def test_the_table_tells_what_a_body_may_have(task):
    (row,) = re.findall(rf"^\| `/v1/{task}` .*$", PAGE, re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", row)) | (BATCHES if "batches |" in row else set())
    members = {field.name for field in msgspec.structs.fields(BODIES[task])}
    assert told == members - {"model", "measured"}
    required = {field.name for field in msgspec.structs.fields(BODIES[task]) if field.required}
    assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == required


def test_its_examples_are_read():
    of_genes, of_modalities = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (of_impute,) = re.findall(r"-d '(.*?)'", PAGE, re.DOTALL)
    for task, text in (("genes", of_genes), ("multiomic", of_modalities), ("impute", of_impute)):
        assert len(read(task, text.encode(), 9, 9).cells) == len(json.loads(text)["cells"])


def test_its_limit_is_the_limit():
    assert f"at most {MOST_MEMBERS:,} names and values" in PAGE
