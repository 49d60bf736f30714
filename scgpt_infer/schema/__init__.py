"""The JSON form of every result: one JSON Schema, and the text of documents that keep to it.

The command line and the server tell results in this one form. It knows no file and no model.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from scgpt_infer.schema.text import NAME, about, cell, closing, document, lists, numbers, opening, quoted

__all__ = [
    "KINDS",
    "NAME",
    "PATH",
    "WITHOUT_CELLS",
    "about",
    "cell",
    "closing",
    "document",
    "line_schema",
    "lists",
    "numbers",
    "opening",
    "quoted",
    "run_facts",
    "schema",
]

PATH: Final = Path(__file__).with_name("scgpt-infer-1.schema.json")
"""The JSON Schema (draft 2020-12)."""

KINDS: Final = ("cell_types", "embeddings", "imputed_values", "multimodal")
"""What a document may tell of cells."""

WITHOUT_CELLS: Final = ("gene_network", "perturbed_profiles", "gene_vectors")
"""What else a document may tell."""


def schema() -> dict[str, Any]:
    """The schema of a document, as a copy of the caller's own."""
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def line_schema(kind: str) -> dict[str, Any]:
    """The schema of one line of a ``.jsonl`` file: one cell of a kind of `KINDS`."""
    whole = schema()
    return {"$schema": whole["$schema"], "$ref": f"#/$defs/{kind}", "$defs": whole["$defs"]}


def run_facts(record: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    """Those facts of a run that documents tell, by name: what decided the answers, and nothing of the file."""
    told = _told()
    return {name: fact for name, fact in sorted(record.items()) if told.fullmatch(name)}


@cache
def _told() -> re.Pattern[str]:
    """The names of facts that the schema has a place for."""
    run = schema()["$defs"]["run"]
    patterns = [f"{pattern.removeprefix('^')}.*" for pattern in run["patternProperties"]]
    return re.compile("|".join([*map(re.escape, run["properties"]), *patterns]))
