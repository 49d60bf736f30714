"""docs/json.md: its documents keep to the schema, and its code runs on them."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import schema

PAGE = (Path(__file__).parents[3] / "docs/json.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_document_of_the_page_keeps_to_the_schema():
    *documents, beside = map(json.loads, blocks("json"))
    for document in documents:
        Draft202012Validator(schema.schema()).validate(document)
    assert {document["kind"] for document in documents} == {*schema.KINDS, *schema.WITHOUT_CELLS}
    Draft202012Validator(schema.line_schema("about")).validate(beside)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    types, vectors, *_ = map(json.loads, blocks("json"))
    (tmp_path / "types.json").write_text(json.dumps(types))
    (tmp_path / "vectors.jsonl").write_text("".join(f"{json.dumps(cell)}\n" for cell in vectors["cells"]))
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    for code in blocks("python"):
        exec(code, found)
    assert found["vectors"] == {"AAACATACAACCAC-1": [0.6, -0.8]}


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parents[3] / "docs" / link).exists()
